"""Templates of tasks that clients send: checked once, then known by their bytes.

What is submitted by the thousand differs by its arguments alone, so reading and checking a template (3 µs and more) is
shared by all that have it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from rota.core.checks import ARGS_BYTES_MAX
from rota.core.client_protocol import Submission
from rota.core.commands import Draft, DraftGroup
from rota.core.drafts import draft_of
from rota.core.errors import BadRequest, BadSpec, RotaError
from rota.core.files import FILES_BYTES_MAX, sentence_of_too_much
from rota.core.placement.policies import POLICIES, PolicyFactory, check_placement
from rota.core.requests import check_template
from rota.core.spec import TaskRequest, blobs_of, deadline_time, input_of, start_time

__all__ = ["Problem", "RefusedTasks", "Templates"]

BLOB_MISSING: Final = "blob_missing"

KNOWN_MAX: Final = 1_000
KNOWN_BYTES_MAX: Final = 16 << 20
"""Of templates that are remembered."""


class Problem(Struct, frozen=True):
    """What is wrong, as an error says it; not the error itself.

    An error knows the frames that it passed, these what they hold, and there is no cyclic collector.
    """

    code: str
    message: str


class RefusedTasks(Struct):
    """Why the tasks of a submission that have these numbers are not taken."""

    number: int
    count: int
    problem: Problem


class _Template(Struct, frozen=True):
    """``digests`` are those of all that it needs; ``is_relative``: it counts times from its acceptance."""

    request: TaskRequest
    draft: Draft
    digests: tuple[str, ...]
    is_relative: bool


class Templates:
    """Turns what clients submit into drafts.

    Args:
        missing: Says which of some blobs are not here.
        size: Says how many bytes a blob has that is.
        check_limits: Raises `BadSpec` for a task that names a limit which there is not, or more of one than there is.
        policies: The placement policies that tasks may name.
    """

    def __init__(
        self,
        missing: Callable[[Sequence[str]], Sequence[str]],
        *,
        size: Callable[[str], int | None],
        check_limits: Callable[[TaskRequest], None],
        policies: Mapping[str, PolicyFactory] = POLICIES,
    ) -> None:
        self._missing = missing
        self._size = size
        self._check_limits = check_limits
        self._policies = policies
        self._known: OrderedDict[bytes, _Template] = OrderedDict()
        self._known_bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def groups(
        self, submissions: Sequence[Submission], *, number: int, wall: float
    ) -> tuple[list[DraftGroup], list[RefusedTasks]]:
        """Check submissions, the first of which has ``number``, as they are accepted at ``wall``.

        Returns:
            A group for each submission, without a draft where it is refused; and the refusals, those of neighbours
            with the same sentence as one.
        """
        checked = [self._check(submission, wall) for submission in submissions]
        missing = self._find_missing(template for template in checked if isinstance(template, _Template))
        groups: list[DraftGroup] = []
        refusals: list[RefusedTasks] = []
        for submission, found in zip(submissions, checked, strict=True):
            count = len(submission.args) or 1
            problem = found if isinstance(found, Problem) else _find_lack(found, missing)
            if isinstance(found, _Template) and problem is None:
                groups.append(DraftGroup(found.draft, submission.args, count))
            elif problem is not None:
                groups.append(DraftGroup(None, [], count))
                _add_refusal(refusals, RefusedTasks(number, count, problem))
            number += count
        return groups, refusals

    def check(self, requests: Sequence[TaskRequest], *, is_array: bool = False) -> None:
        """See that what requests name is here: policies, and what functions and files are made of.

        Raises:
            BadRequest: It is not; names the index if an array was sent.
        """
        missing = self._find_missing_blobs(requests)
        for index, request in enumerate(requests):
            try:
                if request.placement is not None:
                    check_placement(request.placement, self._policies)
                if missing:
                    _check_blobs(request, missing)
                if request.files:
                    self._check_sizes(request)
            except BadRequest as error:
                error.say_index(index if is_array else None)
                raise

    def _check_sizes(self, request: TaskRequest) -> None:
        """See that the files of a task, which are all here, are small enough to travel with it.

        Raises:
            BadSpec: They are not.
        """
        total_bytes = sum(self._size(input_of(given).digest) or 0 for given in request.files.values())
        if total_bytes > FILES_BYTES_MAX:
            raise BadSpec("files", sentence_of_too_much(total_bytes))

    def _find_missing_blobs(self, requests: Sequence[TaskRequest]) -> set[str]:
        needed = dict.fromkeys(digest for request in requests for digest in _digests_of(request))
        return set(self._missing(list(needed))) if needed else set()

    def _check(self, submission: Submission, wall: float) -> _Template | Problem:
        try:
            template = self._template(submission.template)
            if submission.args:
                _check_args(template.request, submission.args)
            if template.request.limits:  # each time: limits come, go and change
                self._check_limits(template.request)
            if template.request.files:
                self._check_sizes(template.request)
        except RotaError as error:
            return Problem(error.code, str(error))
        if not template.is_relative:
            return template
        request = template.request
        draft = replace(
            template.draft,
            start_at=start_time(request, accepted_at=wall),
            deadline_at=deadline_time(request, accepted_at=wall),
        )
        return replace(template, draft=draft)

    def _template(self, encoded: bytes) -> _Template:
        """Return what is known of a template, or get to know it."""
        known = self._known.get(encoded)
        if known is not None:
            self._known.move_to_end(encoded)
            return known
        request = check_template(encoded)
        if request.placement is not None:
            check_placement(request.placement, self._policies)
        if request.id is not None:
            raise BadSpec("id", "can't be chosen on a channel: give the task a name, or submit it by REST")
        template = _Template(
            request,
            draft_of(request, accepted_at=0.0),
            _digests_of(request),
            bool(request.delay) or (request.deadline is not None and not isinstance(request.deadline, datetime)),
        )
        self._known[encoded] = template
        self._known_bytes += len(encoded)
        while len(self._known) > KNOWN_MAX or self._known_bytes > KNOWN_BYTES_MAX:
            self._known_bytes -= len(self._known.popitem(last=False)[0])
        return template

    def _find_missing(self, templates: Iterable[_Template]) -> set[str]:
        # As a dict: thousands of submissions mostly have one function.
        needed = dict.fromkeys(digest for template in templates for digest in template.digests)
        return set(self._missing(list(needed))) if needed else set()


def _check_args(request: TaskRequest, args: Sequence[bytes]) -> None:
    """Check what is spliced into a template."""
    if request.function is None:
        raise BadSpec("args", "goes with function only")
    if request.args is not None:
        raise BadSpec("args", "is in the template already")
    largest = max(map(len, args))
    if largest > ARGS_BYTES_MAX:
        raise BadSpec("args", f"has {largest:,} bytes: at most {ARGS_BYTES_MAX:,}; put more into a blob")


def _digests_of(request: TaskRequest) -> tuple[str, ...]:
    blobs = blobs_of(request)
    return (request.function, *blobs) if request.function is not None else blobs


def _check_blobs(request: TaskRequest, missing: set[str]) -> None:
    for digest in _digests_of(request):
        if digest in missing:
            raise BadRequest(_blob_missing(digest), code=BLOB_MISSING)


def _find_lack(template: _Template, missing: set[str]) -> Problem | None:
    for digest in template.digests if missing else ():
        if digest in missing:
            return Problem(BLOB_MISSING, _blob_missing(digest))
    return None


def _blob_missing(digest: str) -> str:
    return (
        f"there is no blob {digest}: put it to /api/v1/blobs/{digest} first; "
        "what no task needs is removed after some time"
    )


def _add_refusal(refusals: list[RefusedTasks], refusal: RefusedTasks) -> None:
    """Add a refusal, to the last one if that says the same."""
    last = refusals[-1] if refusals else None
    if last is not None and last.number + last.count == refusal.number and last.problem == refusal.problem:
        last.count += refusal.count
    else:
        refusals.append(refusal)
