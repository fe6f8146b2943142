"""What a task looks like in JSON: every field of its spec, and what became of it.

Times are RFC 3339 in UTC with milliseconds, durations seconds, memory MiB. Fields that have
nothing to say are ``null``, so that a client finds the same names in every task; only lists leave
out what may be large (``env``, ``stdin``, ``code``, ``data``, files and outputs).

Rendered once for every task that is submitted, so it is kept to about 10 µs: one struct, one call.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from rota.coordinator.service import TaskView
from rota.core.model import (
    AttemptRecord,
    Cause,
    GangTerms,
    InputFile,
    OutputFile,
    Progress,
    Reason,
    SyntheticWork,
    TaskState,
)
from rota.core.spec import TaskSpec, backoff_of, decode_spec, kind_of

__all__ = [
    "AttemptJson",
    "BackoffJson",
    "OutputJson",
    "ProgressJson",
    "StateWord",
    "TaskJson",
    "attempt_json",
    "find_current_attempt",
    "output_json",
    "rfc3339",
    "state_word",
    "task_json",
]

StateWord = Literal["pending", "assigned", "running", "completed", "failed", "cancelled"]

_STATE_WORDS: Final[tuple[StateWord, ...]] = ("pending", "assigned", "running", "completed", "failed", "cancelled")
"""By the numbers of the states: quicker than asking an enum for its name."""

_SECONDS_MIN: Final = -62_135_596_800
_SECONDS_MAX: Final = 253_402_300_799
"""The years 1 to 9999: what RFC 3339 can say, and a moment given near its ends with an offset can leave."""


class BackoffJson(Struct, frozen=True):
    """How long to wait before the next attempt: ``base`` × ``factor`` ^ (failures - 1), at most ``max`` seconds."""

    base: float
    factor: float
    max: float


class ProgressJson(Struct, frozen=True):
    """How far a running attempt says it is: ``fraction`` of 1, if it knows, and a few words."""

    fraction: float | None
    text: str


class OutputJson(Struct, frozen=True):
    """A file that a task brought back: its name in the scratch directory, and the blob that it is."""

    name: str
    bytes: int
    digest: str
    executable: bool


class TaskJson(Struct, gc=False):
    """A task: its spec with what was left out filled in, and where it stands."""

    id: str
    name: str | None
    state: StateWord
    reason: Reason | None
    reason_text: str | None
    behind: int | None
    progress: ProgressJson | None
    cause: Cause | None
    exit_code: int | None
    signal: int | None
    message: str | None
    worker: str | None
    attempt: int
    retries_used: int
    losses_used: int
    cancel_requested: bool
    created_at: str
    started_at: str | None
    ended_at: str | None
    cpu_seconds: float | None
    peak_memory: float | None
    stdout_bytes: int
    stderr_bytes: int
    kind: str
    command: list[str] | None
    shell: str | None
    image: str | None
    workload: SyntheticWork | None
    cwd: str | None
    resources: dict[str, int]
    tags: list[str]
    priority: int
    queue: str
    placement: str | None
    affinity: str | None
    limits: dict[str, int]
    timeout: float | None
    retries: int
    losses: int
    backoff: BackoffJson
    start_at: str | None
    delay: float | None
    deadline: str | None
    labels: dict[str, str]
    function: str | None
    callable: str | None
    python: str | None
    requirements: list[str]
    exclusive: bool
    gang: GangTerms | None
    code: str | UnsetType | None = UNSET
    data: str | UnsetType | None = UNSET
    env: dict[str, str] | UnsetType = UNSET
    stdin: str | UnsetType | None = UNSET
    args: bytes | UnsetType | None = UNSET
    blobs: list[str] | UnsetType = UNSET
    files: dict[str, str | InputFile] | UnsetType = UNSET
    outputs: list[str] | UnsetType = UNSET
    output_files: list[OutputJson] | UnsetType = UNSET


class AttemptJson(Struct, frozen=True, kw_only=True):
    """One execution of a task. The ``current`` one is the last; ``queued_at`` is when its worker was given it."""

    number: int
    current: bool
    worker: str | None
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    cause: Cause | None
    exit_code: int | None
    signal: int | None
    message: str | None
    cpu_seconds: float | None
    peak_memory: float | None
    stdout_bytes: int
    stderr_bytes: int


def task_json(view: TaskView, *, is_listed: bool = False) -> TaskJson:
    """Render a task; in a list without what may be large."""
    facts, progress = view.record.facts, view.record.progress
    spec = decode_spec(facts.spec)
    # By place, in the order of the struct: with names it takes half as long again.
    rendered = TaskJson(
        facts.id,
        facts.name,
        _STATE_WORDS[progress.state.value],
        view.reason,
        view.reason_text,
        view.behind,
        ProgressJson(view.mark.fraction, view.mark.text) if view.mark is not None else None,
        progress.cause,
        progress.exit_code,
        progress.signal,
        progress.message,
        progress.worker,
        progress.attempt,
        progress.retries_used,
        progress.losses_used,
        progress.wish is Cause.CANCELLED,
        rfc3339(facts.created_at),
        _moment(progress.started_at),
        _moment(progress.ended_at),
        progress.cpu_seconds,
        _mebibytes(progress.peak_memory_kib),
        progress.stdout_bytes,
        progress.stderr_bytes,
        kind_of(spec),
        spec.command,
        spec.shell,
        spec.image,
        spec.workload,
        spec.cwd,
        {"cpu": 1000, **spec.resources},
        spec.tags,
        facts.priority,
        facts.queue,
        spec.placement,
        spec.affinity,
        spec.limits,
        spec.timeout,
        spec.retries,
        spec.losses,
        _backoff(spec),
        _moment(facts.start_at),
        spec.delay,
        _moment(facts.deadline_at),
        spec.labels,
        spec.function,
        spec.callable,
        spec.python,
        spec.requirements,
        spec.exclusive,
        spec.gang,
    )
    if not is_listed:
        _add_large_fields(rendered, spec)
        rendered.output_files = [output_json(output) for output in progress.outputs]
    return rendered


def output_json(output: OutputFile) -> OutputJson:
    """Render a file that was brought back."""
    return OutputJson(output.name, output.bytes, output.digest, output.executable)


def state_word(state: TaskState) -> StateWord:
    """The word of a state, typed.

    >>> [state_word(state) == state.word for state in TaskState] == [True] * len(TaskState)
    True
    """
    return _STATE_WORDS[state.value]


def attempt_json(record: AttemptRecord) -> AttemptJson:
    """Render an attempt that was superseded."""
    return _attempt(record, number=record.number, is_current=False)


def find_current_attempt(progress: Progress, *, superseded: list[AttemptRecord]) -> AttemptJson | None:
    """Render the attempt that stands in the task itself, if there is one that is not among the superseded."""
    if progress.attempt == 0 or any(record.number == progress.attempt for record in superseded):
        return None
    return _attempt(progress, number=progress.attempt, is_current=True)


def rfc3339(wall: float) -> str:
    """A moment as text.

    >>> rfc3339(0.0), rfc3339(1_767_225_600.9996), rfc3339(-0.5)
    ('1970-01-01T00:00:00.000Z', '2026-01-01T00:00:01.000Z', '1969-12-31T23:59:59.500Z')
    """
    second, millisecond = divmod(round(wall * 1000), 1000)
    return f"{_second_text(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    """Tasks that are shown together were mostly made within seconds: the costly part is done once for each."""
    bounded = min(max(second, _SECONDS_MIN), _SECONDS_MAX)
    return datetime.fromtimestamp(bounded, UTC).isoformat()[:19]


def _moment(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)


def _mebibytes(kibibytes: int | None) -> float | None:
    return None if kibibytes is None else round(kibibytes / 1024, 1)


_DEFAULT_BACKOFF: Final = BackoffJson(1.0, 2.0, 300.0)


def _backoff(spec: TaskSpec) -> BackoffJson:
    if spec.backoff is None:
        return _DEFAULT_BACKOFF
    backoff = backoff_of(spec)
    return BackoffJson(backoff.base_s, backoff.factor, backoff.cap_s)


def _add_large_fields(rendered: TaskJson, spec: TaskSpec) -> None:
    rendered.code = spec.code
    rendered.data = spec.data
    rendered.env = spec.env
    rendered.stdin = spec.stdin
    rendered.args = spec.args
    rendered.blobs = spec.blobs
    rendered.files = spec.files
    rendered.outputs = spec.outputs


def _attempt(of: AttemptRecord | Progress, *, number: int, is_current: bool) -> AttemptJson:
    return AttemptJson(
        number=number,
        current=is_current,
        worker=of.worker,
        queued_at=_moment(of.queued_at),
        started_at=_moment(of.started_at),
        ended_at=_moment(of.ended_at),
        cause=of.cause,
        exit_code=of.exit_code,
        signal=of.signal,
        message=of.message,
        cpu_seconds=of.cpu_seconds,
        peak_memory=_mebibytes(of.peak_memory_kib),
        stdout_bytes=of.stdout_bytes,
        stderr_bytes=of.stderr_bytes,
    )
