"""The nouns: tasks, attempts, workers, resources, and the words for their states.

Amounts are integers in the smallest unit (cpu in millicores, memory in MiB).
Times named ``…_at`` are wall-clock seconds since 1970 and are for the record and for
calendars; everything that is waited for runs on the steady clock, which the core is
handed as ``now``.

Structs are used instead of dataclasses because a task is made a hundred thousand times
a second: a struct is made in C, has no dictionary, and with ``gc=False`` carries no
header for the cyclic collector (16 bytes a task).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Final, Literal, NewType

from msgspec import Meta, Struct

__all__ = [
    "ACTIVE_STATES",
    "ENDED_STATES",
    "FREE_CAUSES",
    "MACHINE_CAUSES",
    "OUTPUT_FILES_MAX",
    "TASK_CAUSES",
    "WORK_MIXES",
    "Alone",
    "Amounts",
    "AttemptKey",
    "AttemptRecord",
    "Backoff",
    "Cause",
    "ClientRecord",
    "Count",
    "Epoch",
    "GangTerms",
    "Gpu",
    "InputFile",
    "LaneId",
    "NumberRange",
    "Offer",
    "OutputFile",
    "Progress",
    "Reason",
    "Resources",
    "Setting",
    "Shape",
    "StreamName",
    "SyntheticWork",
    "TaskFacts",
    "TaskId",
    "TaskRecord",
    "TaskSeq",
    "TaskState",
    "Terms",
    "WorkerId",
    "WorkerRecord",
    "WorkerState",
    "find_generated_seq",
    "generated_task_id",
]

TaskSeq = NewType("TaskSeq", int)
"""The coordinator's own number of a task: the key of its row, and its place in the order of arrival."""

TaskId = NewType("TaskId", str)
"""What users call a task: an id they chose, or ``t`` and the sequence number."""

WorkerId = NewType("WorkerId", str)
LaneId = NewType("LaneId", int)
Epoch = NewType("Epoch", int)

AttemptKey = tuple[TaskSeq, int]
"""(task, attempt number): the name of one execution, unique for ever."""

Resources = tuple[tuple[str, int], ...]
"""Amounts by name, sorted by name, zeros left out: interned, hashable, quick to compare."""

Amounts = Resources
"""Whatever else is counted by name, written in the same way: limits of the cluster, say."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""An amount as a worker may say it and a store keep it: the bounds are checked where it is decoded."""

StreamName = Literal["stdout", "stderr"]

OUTPUT_NAME: Final = r"\A(?:(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]+(?:/(?!\Z)|\Z))+\Z"
"""A relative name without ``.`` and ``..``: what a worker says is looked at before it is believed."""

OUTPUT_FILES_MAX: Final = 256
"""Of one attempt: their names and digests stand in its task's row, and travel in one message."""

Alone = Literal["", "exclusive", "gang"]
"""Why nobody may stand in line behind an attempt, if so."""


class TaskState(IntEnum):
    """Where a task stands. The numbers are stored: never reuse one.

    Numbers also because they are looked up in sets and tables several times a task: a plain ``Enum`` is hashed in
    Python, 0.3 µs each time.
    """

    PENDING = 0
    ASSIGNED = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def word(self) -> str:
        """The state as users see it: ``pending``, ``assigned`` and so on."""
        return self.name.lower()


ACTIVE_STATES: Final = frozenset({TaskState.ASSIGNED, TaskState.RUNNING})
ENDED_STATES: Final = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})


class Cause(StrEnum):
    """Why an attempt, or a task that never ran, ended. Success has no cause."""

    EXIT = "exit"
    ERROR = "error"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    OOM = "oom"
    LAUNCH_ERROR = "launch-error"
    WORKER_LOST = "worker-lost"
    AGENT_ERROR = "agent-error"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    RETURNED = "returned"
    GANG = "gang"
    IMPOSSIBLE = "impossible"
    DEPENDENCY = "dependency"
    EXPIRED = "expired"


TASK_CAUSES: Final = frozenset({Cause.EXIT, Cause.ERROR, Cause.SIGNAL, Cause.TIMEOUT, Cause.OOM, Cause.LAUNCH_ERROR})
"""The task's own fault: counted against its ``retries``."""

WORK_MIXES: Final = ("cpu", "io", "memory", "mixed")
"""What synthetic work does: keep a core busy, write and read, hold memory, or some of each."""

MACHINE_CAUSES: Final = frozenset({Cause.WORKER_LOST, Cause.AGENT_ERROR})
"""The machine's fault: counted against its ``losses``."""

FREE_CAUSES: Final = frozenset({Cause.CANCELLED, Cause.PREEMPTED, Cause.RETURNED, Cause.GANG})
"""Nobody's fault: counted nowhere."""


class Reason(StrEnum):
    """Why a pending task waits."""

    RESOURCES = "resources"
    TAGS = "tags"
    NO_WORKERS = "no-workers"
    IMPOSSIBLE = "impossible"
    DEPENDENCIES = "dependencies"
    BACKOFF = "backoff"
    START_TIME = "start-time"
    QUOTA = "quota"
    LIMIT = "limit"
    GANG = "gang"
    EXCLUSIVE = "exclusive"
    RESERVATION = "reservation"
    PAUSED = "paused"


class WorkerState(StrEnum):
    """Where a worker stands. A drained one is ``draining`` until it is resumed."""

    ONLINE = "online"
    DRAINING = "draining"
    SUSPICIOUS = "suspicious"
    OFFLINE = "offline"


class Backoff(Struct, frozen=True, array_like=True):
    """How long to wait before the next attempt: ``base_s`` × ``factor`` ^ (failures - 1), at most ``cap_s``."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0


class Shape(Struct, frozen=True, weakref=True):
    """What matters for placement. Tasks of one shape are interchangeable to the placer.

    ``tags`` holds what the task wants of tags, as `rota.core.tags` writes it, and ``executor:<kind>`` for the kind
    of work it is. ``placement`` is the policy that it asks for, if it asks for one. ``alone`` says why
    each attempt has a lane of its own, in which nobody stands behind it; empty if others may. ``claim`` names the
    reservation that it may have part of.
    """

    resources: Resources
    tags: frozenset[str]
    placement: str | None = None
    alone: Alone = ""
    claim: str = ""


class GangTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """Which gang a task belongs to, and how many members that has."""

    id: str
    size: int


class SyntheticWork(Struct, frozen=True, forbid_unknown_fields=True):
    """What a task of kind ``workload`` does to its worker.

    ``mix`` is one of `WORK_MIXES`, and ``seconds`` how long that goes on: of a core's time for ``cpu``, else on the
    clock. ``mib`` is how much is written, synced and read back (``io``) or touched and held (``memory``).
    """

    mix: str
    seconds: float
    mib: Count = 0


class InputFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file that goes with a task: the digest of the blob that it is, and whether it is a program."""

    digest: str
    executable: bool = False


class OutputFile(Struct, frozen=True, gc=False, array_like=True):
    """A file that an attempt brought back: its name in the scratch directory, and the blob that it is.

    The bounds are those of `rota.core.filenames`, checked where it is decoded.
    """

    name: Annotated[str, Meta(min_length=1, max_length=1024, pattern=OUTPUT_NAME)]
    digest: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    bytes: Count
    executable: bool = False


class Terms(Struct, frozen=True, weakref=True):
    """What the core must know of a task to decide on it. Interned: many tasks share one.

    ``class_key`` names what run times are learned for, together with the shape. ``function`` is the digest of the
    function to call, if it is one. ``affinity`` is what policies that look at tasks know it by, ``limits`` what of
    the cluster's limits an attempt holds, ``timeout_s`` how long it may run, if that was said. ``exclusive`` tasks
    never run twice at once, those of a ``gang`` only together.
    """

    shape: Shape
    priority: int
    queue: str
    class_key: str
    retries: int
    losses: int
    backoff: Backoff
    function: str | None = None
    affinity: str | None = None
    limits: Amounts = ()
    timeout_s: float | None = None
    exclusive: bool = False
    gang: GangTerms | None = None


class Gpu(Struct, frozen=True, array_like=True):
    """One device of a worker. ``memory_mib`` is 0 where it is not known."""

    memory_mib: Count = 0
    model: str = ""


class Offer(Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker offers.

    ``resources`` leaves out ``gpu`` and ``gpu_memory``, which are matched device by device.
    ``max_tasks`` bounds the lanes open at once, whatever the resources say.
    ``kinds`` are the executors it has: ``process``, ``function``, later ``container`` and so on.
    ``python`` is the minor version that functions run under, ``packages`` the versions installed there.
    """

    resources: tuple[tuple[str, Count], ...]
    tags: frozenset[str] = frozenset()
    max_tasks: Count = 100_000
    gpus: tuple[Gpu, ...] = ()
    kinds: frozenset[str] = frozenset({"process"})
    addr: str = ""
    host: str = ""
    version: str = ""
    pid: int = 0
    python: str = ""
    packages: dict[str, str] = {}


class TaskFacts(Struct, frozen=True, gc=False):
    """What never changes about a task once it is accepted: one row, written once.

    ``chosen_id`` is ``None`` where the id was generated from ``seq``. ``spec`` is the
    encoded :class:`rota.core.spec.TaskSpec`; ``labels`` the same labels as JSON text, for filters.
    """

    seq: TaskSeq
    chosen_id: str | None
    name: str | None
    queue: str
    priority: int
    labels: str | None
    created_at: float
    start_at: float | None
    deadline_at: float | None
    spec: bytes

    @property
    def id(self) -> TaskId:
        return TaskId(self.chosen_id) if self.chosen_id is not None else generated_task_id(self.seq)


class Progress(Struct, gc=False, kw_only=True, array_like=True):
    """What changes about a task: the mutable part of its record, with its current attempt.

    Stores keep it as a MessagePack array (85 bytes for an ended task, where names would take 250):
    new fields go last and have a default, and no field is ever taken out.

    ``ready_at`` is set while it waits for a backoff. ``lane`` and ``place`` say where the
    current attempt stands on its worker (place grows with every assignment of that worker),
    so that a restart knows which attempt of a lane may have started; ``devices`` are the GPUs that
    the lane has, so that nobody else is given them after one. ``wish`` is the cause with
    which the task is to end as soon as its process tree is gone (``cancelled``, ``expired``).
    ``stdout`` and ``stderr`` are the output of an attempt that wrote at most 4 KiB to each;
    larger output is in the log store. ``stdout_bytes`` and ``stderr_bytes`` count what was written.
    ``message`` is a sentence for people: why a launch failed, which worker was lost. ``value`` is the envelope of
    what a function returned or raised, ``blobs`` the digests that it refers to. ``outputs`` are the files that the
    last attempt brought back; those of attempts before it are not kept.
    """

    state: TaskState
    attempt: int = 0
    retries_used: int = 0
    losses_used: int = 0
    ready_at: float | None = None
    wish: Cause | None = None
    worker: WorkerId | None = None
    instance: str | None = None
    lane: LaneId | None = None
    place: int | None = None
    epoch: Epoch | None = None
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    cause: Cause | None = None
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_memory_kib: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    message: str | None = None
    devices: tuple[int, ...] = ()
    value: bytes = b""
    blobs: tuple[str, ...] = ()
    outputs: tuple[OutputFile, ...] = ()


class TaskRecord(Struct, frozen=True, gc=False):
    """A task as the store has it."""

    facts: TaskFacts
    progress: Progress


class AttemptRecord(Struct, frozen=True, gc=False, kw_only=True, array_like=True):
    """An attempt that was superseded: a row of its own, never changed. Stored as an array, like `Progress`.

    ``queued_at`` is when it was assigned to the worker, ``started_at`` when its process began.
    """

    seq: TaskSeq
    number: int
    worker: WorkerId | None
    queued_at: float | None
    started_at: float | None
    ended_at: float
    cause: Cause | None
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_memory_kib: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    message: str | None = None


class WorkerRecord(Struct, frozen=True):
    """A worker as the store has it: ``drained`` is what an operator asked for, and survives restarts."""

    id: WorkerId
    instance: str
    offer: Offer
    drained: bool
    registered_at: float
    lost_at: float | None


class NumberRange(Struct, frozen=True, array_like=True, gc=False):
    """Tasks that a client numbered ``number`` and up became ``seq`` and up, ``count`` of them."""

    number: int
    seq: TaskSeq
    count: int


class Setting(Struct, frozen=True):
    """What an operator has set: a queue, a limit and so on. ``data`` is JSON, as its kind has it."""

    kind: str
    name: str
    data: str


class ClientRecord(Struct, frozen=True):
    """A session of the SDK as the store has it, so that what is sent again is known.

    All numbers up to ``accepted_through`` are decided. ``ranges`` are those accepted tasks whose
    ids the client has not confirmed yet; ``seen_at`` is when it last submitted, wall clock.
    """

    id: str
    accepted_through: int
    ranges: tuple[NumberRange, ...]
    seen_at: float


def generated_task_id(seq: TaskSeq) -> TaskId:
    """The id of a task whose user chose none.

    >>> generated_task_id(TaskSeq(17))
    't17'
    """
    return TaskId(f"t{seq}")


def find_generated_seq(text: str) -> TaskSeq | None:
    """The sequence number in a generated id, or ``None`` if ``text`` can't be one.

    >>> find_generated_seq("t17"), find_generated_seq("t017"), find_generated_seq("nightly")
    (17, None, None)
    """
    digits = text[1:]
    if not text.startswith("t") or not digits.isascii() or not digits.isdigit() or digits.startswith("0"):
        return None
    return TaskSeq(int(digits)) if len(digits) <= 18 else None
