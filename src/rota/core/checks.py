"""What each field of a task may be: in its range, of its form, and at peace with the others.

A number out of its range or a name that can't be one is a `BadSpec` that names the field and says what to do.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Final

from rota.core.errors import BadSpec
from rota.core.files import check_files
from rota.core.model import WORK_MIXES, GangTerms, SyntheticWork
from rota.core.names import DIGEST_RULE, NAME_RULE, is_digest, is_name
from rota.core.spec import (
    GANG_LABEL,
    KINDS,
    LOSSES_DEFAULT,
    PRIORITY_WORDS,
    QUEUE_DEFAULT,
    SNIPPET_KINDS,
    TaskRequest,
    TaskSpec,
    code_of,
    snippet_kind,
)
from rota.core.tags import TagSyntaxError, parse_tag

__all__ = ["ARGS_BYTES_MAX", "LABELS_MAX", "check_request", "parse_task_id"]

NAME_CHARS_MAX: Final = 200
LABELS_MAX: Final = 64
TAGS_MAX: Final = 64
AMOUNT_MAX: Final = 10**12
"""Of any resource. Far above any machine, far below where sums could lose precision in JSON."""

SECONDS_MAX: Final = 10 * 366 * 86_400.0
"""Ten years, for every duration."""

COUNT_MAX: Final = 1_000_000
"""Of retries and losses: more would not end in a lifetime."""

ARGS_BYTES_MAX: Final = 65 << 10
"""Of an envelope: 64 KiB of values and what is around them."""

GANG_SIZE_MAX: Final = 1_000
"""Each member is told the hosts of all, and all are placed at one stroke."""

WORK_MIB_MAX: Final = 1 << 20
"""Of synthetic work: a tebibyte, more than any one task should write or hold."""

BLOBS_MAX: Final = 64
LIMITS_MAX: Final = 16
REQUIREMENTS_MAX: Final = 64

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}\Z")
_PLACEMENT = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
_RESOURCE = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")
_GENERATED_ID = re.compile(r"t[0-9]+\Z")
_PYTHON = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\Z")

_WORK_FIELDS: Final = ("command", "shell", "code", "data", "image", "function", "workload")
_WORK_WORDS: Final = "command, shell, code, data, image, function or workload"


def check_request(request: TaskRequest, *, index: int | None = None, takes_any_data: bool = False) -> None:
    """Check and normalise, in place, a request whose fields have the types that they are declared with.

    Args:
        request: What somebody wants to have run.
        index: Its place, if several came at once.
        takes_any_data: Let ``data`` pass that names no kind of snippet: it fails when it is to start.

    Raises:
        BadSpec: A field is wrong.
    """
    try:
        # Most tasks have few of the fields, and this is done a hundred thousand times a second: what is not
        # there is not looked at further (3.1 to 1.9 µs for a task with a command alone).
        if request.id is not None:
            parse_task_id(request.id)
        if request.queue is not QUEUE_DEFAULT:
            _check_queue(request)
        if request.name is not None or request.tags or request.labels:
            _check_names(request)
        if request.placement is not None or request.affinity is not None:
            _check_placement(request)
        if request.limits:
            _check_limits(request)
        _check_work(request, takes_any_data=takes_any_data)
        if (code := code_of(request)) is not None:
            _check_code(code, "code" if request.data is None else "data")
        _check_process(request)
        _check_function(request)
        if request.resources or request.retries or request.losses != LOSSES_DEFAULT:
            _check_amounts(request)
        _check_times(request)
        if request.gang is not None:
            _check_gang(request.gang)
        if request.priority is not None:
            request.priority = _check_priority(request.priority)
    except BadSpec as error:
        error.say_index(index)
        raise


def parse_task_id(text: str) -> str:
    """Check an id that a user chose.

    Raises:
        BadSpec: It has other characters than it may, or looks like one that the coordinator gives.
    """
    if not _ID.match(text):
        raise BadSpec("id", "must be 1 to 200 letters, digits or ._:@- and begin with a letter or a digit")
    if _GENERATED_ID.match(text):
        raise BadSpec("id", f"{text!r} looks like an id that the coordinator gives (t and a number): choose another")
    return text


# Each of one field, or of a few that go together ----------------------------------------


def _check_queue(spec: TaskSpec) -> None:
    if not is_name(spec.queue):
        raise BadSpec("queue", f"must be {NAME_RULE}")
    if spec.queue == QUEUE_DEFAULT:
        spec.queue = QUEUE_DEFAULT  # the same object: only then is it left out of what is encoded


def _check_names(spec: TaskSpec) -> None:
    if spec.name is not None:
        _check_text("name", spec.name, chars_max=NAME_CHARS_MAX)
    if len(spec.tags) > TAGS_MAX:
        raise BadSpec("tags", f"has {len(spec.tags)} tags: at most {TAGS_MAX}")
    spec.tags = [_check_tag(tag) for tag in spec.tags]
    if len(spec.labels) > LABELS_MAX:
        raise BadSpec("labels", f"has {len(spec.labels)} labels: at most {LABELS_MAX}")
    if GANG_LABEL in spec.labels:
        raise BadSpec("labels", f"{GANG_LABEL} is what Rota finds gangs by: choose another key")
    for key, value in spec.labels.items():
        _check_text("labels", key, chars_max=NAME_CHARS_MAX)
        _check_text("labels", value, chars_max=NAME_CHARS_MAX, may_be_empty=True)


def _check_tag(text: str) -> str:
    """Return the expression as it is written down."""
    try:
        return str(parse_tag(text))
    except TagSyntaxError as error:
        raise BadSpec("tags", str(error)) from error


def _check_placement(spec: TaskSpec) -> None:
    if spec.placement is not None and not _PLACEMENT.match(spec.placement):
        raise BadSpec("placement", "must be the name of a policy, such as binpack")
    if spec.affinity is not None:
        _check_text("affinity", spec.affinity, chars_max=NAME_CHARS_MAX)


def _check_limits(spec: TaskSpec) -> None:
    if len(spec.limits) > LIMITS_MAX:
        raise BadSpec("limits", f"has {len(spec.limits)} limits: at most {LIMITS_MAX}")
    for name, amount in spec.limits.items():
        if not is_name(name):
            raise BadSpec("limits", f"{name!r} can't be the name of a limit: use {NAME_RULE}")
        if not 0 <= amount <= COUNT_MAX:
            raise BadSpec("limits", f"{name} is {amount}: it must be 0 to {COUNT_MAX}")


def _check_text(field: str, text: str, *, chars_max: int, may_be_empty: bool = False) -> None:
    if not text and not may_be_empty:
        raise BadSpec(field, "is empty")
    if len(text) > chars_max:
        raise BadSpec(field, f"has {len(text)} characters: at most {chars_max}")
    if not text.isprintable():
        raise BadSpec(field, "has control characters")


def _check_work(spec: TaskSpec, *, takes_any_data: bool) -> None:
    """Exactly one thing to run, of a kind that goes with it."""
    others = spec.kind, spec.shell, spec.code, spec.data, spec.image, spec.function, spec.workload
    if spec.command is not None and others == (None, None, None, None, None, None, None):
        return
    given = [name for name in _WORK_FIELDS if getattr(spec, name) is not None]
    if "command" in given and _takes_arguments(spec):
        given.remove("command")
    if not given:
        raise BadSpec("command", f"there is nothing to run: give one of {_WORK_WORDS}")
    if len(given) > 1:
        raise BadSpec(given[1], f"give exactly one of {_WORK_WORDS}, not {' and '.join(given)}")
    if spec.kind is not None and spec.kind not in KINDS:
        raise BadSpec("kind", f"{spec.kind!r} is not one of {', '.join(KINDS)}")
    what = given[0]
    implied = snippet_kind(spec.data or "")
    if what == "data" and implied is None and not takes_any_data:
        raise BadSpec("data", "must begin with python: or go:")
    kinds = {
        "command": ("process",),
        "shell": ("process",),
        "image": ("container",),
        "data": (implied or "process",),
        "code": SNIPPET_KINDS,
        "function": ("function",),
        "workload": ("workload",),
    }[what]
    if what == "code" and spec.kind is None:
        raise BadSpec("kind", "say which: code needs kind python or go")
    if spec.kind is not None and spec.kind not in kinds:
        raise BadSpec("kind", f"{spec.kind!r} does not go with {what}: it takes {' or '.join(kinds)}")
    if spec.kind == kinds[0] and what != "code":
        spec.kind = None
    if spec.workload is not None:
        _check_synthetic(spec.workload)


def _takes_arguments(spec: TaskSpec) -> bool:
    """Whether ``command`` is not the program, but what is handed to it."""
    return spec.image is not None or spec.code is not None or spec.data is not None


def _check_code(code: str, field: str) -> None:
    if not code.strip():
        raise BadSpec(field, "has no code to run")
    if "\0" in code:
        raise BadSpec(field, "has a NUL character, which no source file may have")


def _check_synthetic(work: SyntheticWork) -> None:
    if work.mix not in WORK_MIXES:
        raise BadSpec("workload", f"mix {work.mix!r} is not one of {', '.join(WORK_MIXES)}")
    _check_seconds("workload", work.seconds, least=0.0)
    if work.mib > WORK_MIB_MAX:
        raise BadSpec("workload", f"mib is {work.mib:,}: at most {WORK_MIB_MAX:,}")


def _check_process(spec: TaskSpec) -> None:
    """No empty programs, and no NUL where the kernel would cut the string."""
    if spec.command is not None:
        if not spec.command and not _takes_arguments(spec):
            raise BadSpec("command", "is empty: it must hold at least the program")
        if spec.command and not spec.command[0] and not code_of(spec):
            raise BadSpec("command", "the program is an empty string")
        for argument in spec.command:
            _check_no_nul("command", argument)
    for field, text in (("shell", spec.shell), ("cwd", spec.cwd), ("image", spec.image)):
        if text is not None:
            _check_no_nul(field, text)
            if not text.strip():
                raise BadSpec(field, "is empty")
    if spec.cwd is not None and not spec.cwd.startswith("/"):
        raise BadSpec("cwd", "must be an absolute path on the worker")
    if spec.files or spec.outputs:
        check_files(spec)
    for key, value in spec.env.items():
        if not key or "=" in key:
            raise BadSpec("env", f"{key!r} can't be the name of a variable")
        _check_no_nul("env", key)
        _check_no_nul("env", value)


def _check_function(spec: TaskSpec) -> None:
    """Digests that can be such, and nothing of a function's where there is none."""
    if spec.function is None:
        for field in ("args", "callable", "python", "requirements", "blobs"):
            if getattr(spec, field):
                raise BadSpec(field, "goes with function only")
        return
    for field, digests in (("function", [spec.function]), ("blobs", spec.blobs)):
        if len(digests) > BLOBS_MAX:
            raise BadSpec(field, f"has {len(digests)} digests: at most {BLOBS_MAX}")
        for digest in digests:
            if not is_digest(digest):
                raise BadSpec(field, f"must be the SHA-256 of a blob: {DIGEST_RULE}")
    if spec.args is not None and len(spec.args) > ARGS_BYTES_MAX:
        raise BadSpec("args", f"has {len(spec.args):,} bytes: at most {ARGS_BYTES_MAX:,}; put more into a blob")
    if spec.python is not None and not _PYTHON.match(spec.python):
        raise BadSpec("python", "must be a minor version such as 3.11")
    if spec.callable is not None:
        _check_text("callable", spec.callable, chars_max=NAME_CHARS_MAX)
    _check_requirements(spec)


def _check_requirements(spec: TaskSpec) -> None:
    if len(spec.requirements) > REQUIREMENTS_MAX:
        raise BadSpec("requirements", f"has {len(spec.requirements)} entries: at most {REQUIREMENTS_MAX}")
    for requirement in spec.requirements:
        _check_text("requirements", requirement, chars_max=NAME_CHARS_MAX)
        if requirement.startswith("-"):
            raise BadSpec("requirements", f"{requirement!r} is an option, not a package")


def _check_no_nul(field: str, text: str) -> None:
    if "\0" in text:
        raise BadSpec(field, "has a NUL character, which no program can be given")


def _check_amounts(spec: TaskSpec) -> None:
    for name, amount in spec.resources.items():
        if not _RESOURCE.match(name):
            raise BadSpec("resources", f"{name!r} can't be the name of a resource: use lower case, digits and ._-")
        if amount < 0:
            raise BadSpec("resources", f"{name} is {amount}: it can't be negative")
        if amount > AMOUNT_MAX:
            raise BadSpec("resources", f"{name} is {amount}: at most {AMOUNT_MAX}")
    for field, count in (("retries", spec.retries), ("losses", spec.losses)):
        if not 0 <= count <= COUNT_MAX:
            raise BadSpec(field, f"is {count}: it must be 0 to {COUNT_MAX}")


def _check_times(spec: TaskSpec) -> None:
    given = spec.timeout, spec.start_at, spec.delay, spec.deadline, spec.backoff
    if given == (None, None, None, None, None):
        return
    if spec.start_at is not None and spec.delay is not None:
        raise BadSpec("delay", "give start_at or delay, not both")
    for field, seconds, least in (("timeout", spec.timeout, 0.001), ("delay", spec.delay, 0.0)):
        if seconds is not None:
            _check_seconds(field, seconds, least=least)
    for field, moment in (("start_at", spec.start_at), ("deadline", spec.deadline)):
        if isinstance(moment, datetime):
            _check_moment(field, moment)
        if isinstance(moment, float):
            _check_seconds(field, moment, least=0.001)
    if isinstance(spec.backoff, dict):
        near = set(spec.backoff) - {"base", "factor", "max"}
        if near:
            raise BadSpec("backoff", f"has {sorted(near)[0]!r}: it takes base, factor and max")
        _check_seconds("backoff", spec.backoff.get("base", 1.0), least=0.0)
        _check_seconds("backoff", spec.backoff.get("max", 1.0), least=0.0)
        if not 1.0 <= spec.backoff.get("factor", 2.0) <= 100.0:
            raise BadSpec("backoff", "factor must be 1 to 100")
    elif spec.backoff is not None:
        _check_seconds("backoff", spec.backoff, least=0.0)


def _check_gang(gang: GangTerms) -> None:
    if not _ID.match(gang.id):
        raise BadSpec("gang", "its id must be 1 to 200 letters, digits or ._:@- and begin with a letter or a digit")
    if not 1 <= gang.size <= GANG_SIZE_MAX:
        raise BadSpec("gang", f"its size is {gang.size}: it must be 1 to {GANG_SIZE_MAX:,}, the number of its members")


def _check_moment(field: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise BadSpec(field, "needs a time zone: write 2030-01-31T12:00:00Z")
    if not 1970 < moment.year < 9999:  # at the ends of the calendar a time zone leads out of it
        raise BadSpec(field, f"is in the year {moment.year}: it must be 1971 to 9998")


def _check_seconds(field: str, seconds: float, *, least: float) -> None:
    if not math.isfinite(seconds) or not least <= seconds <= SECONDS_MAX:
        raise BadSpec(field, f"is {seconds:g} seconds: it must be {least:g} to {SECONDS_MAX:,.0f}")


def _check_priority(priority: int | str | None) -> int | None:
    """The number of a priority; ``None`` for normal, so that saying so changes nothing."""
    if priority is None:
        return None
    if isinstance(priority, str):
        if priority not in PRIORITY_WORDS:
            words = ", ".join(word for word in PRIORITY_WORDS if word)
            raise BadSpec("priority", f"{priority!r} is not one of {words}, or a number from 0 to 100")
        priority = PRIORITY_WORDS[priority]
    if not 0 <= priority <= 100:
        raise BadSpec("priority", f"is {priority}: it must be 0 to 100")
    return None if priority == PRIORITY_WORDS["normal"] else priority
