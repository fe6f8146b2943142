"""What coordinator and worker tell each other.

The messages are nouns of the core because both pure protocols (``scheduler`` and ``agent``)
speak them; ``rota.wire`` only encodes them. Times in them are the sender's wall clock and
are corrected by the receiver with the difference seen at the hello; durations are seconds.

A worker's reports are numbered and kept until a `ReportAck` names their number: the
coordinator sends it after the commit. A report that arrives twice is harmless, because an
attempt that has ended is no longer current.

What a worker says has bounds, checked where its bytes are decoded (15 ns an end): a time that is no number,
or an amount below zero, would spoil what is learned from it and what the store keeps.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from rota.core.model import (
    OUTPUT_FILES_MAX,
    AttemptKey,
    Cause,
    Count,
    Epoch,
    LaneId,
    Offer,
    OutputFile,
    StreamName,
    TaskId,
    TaskSeq,
    WorkerId,
)

__all__ = [
    "PROTOCOL_VERSION",
    "WORKER_ID_TAKEN",
    "Assign",
    "Assignment",
    "BlobHome",
    "Closing",
    "Ended",
    "FromCoordinator",
    "FromWorker",
    "GangFacts",
    "GangSeats",
    "Heartbeat",
    "HeartbeatAck",
    "Held",
    "Hello",
    "Leaving",
    "Mark",
    "Marks",
    "OutputChunk",
    "Recall",
    "Refused",
    "Report",
    "ReportAck",
    "Seat",
    "SlotsLost",
    "Started",
    "Stop",
    "Usage",
    "Welcome",
]

PROTOCOL_VERSION = 1

Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A number that a store can keep."""

WallTime = Annotated[float, Meta(ge=0.0, le=1e11)]
"""Seconds since 1970, up to the year 5138: what a calendar can show. Neither infinite nor NaN."""

Amount = Annotated[float, Meta(ge=0.0, le=1e10)]
"""What is measured, such as a duration in seconds (300 years at most). Neither infinite nor NaN."""

WORKER_ID_TAKEN = "worker_id_taken"
"""The code of a `Refused`: another instance has the id, so all that this one had is lost to the record."""


class BlobHome(Struct, frozen=True, array_like=True):
    """The directory in which a coordinator keeps blobs.

    Whoever finds there the file ``probe``, holding ``secret``, shares the machine and the permissions, and may read
    and write blobs there instead of sending them. Blob ``d`` is the file ``<d[:2]>/<d>``; its folder is there. A
    new one is written in ``incoming/`` under another name and, when it is whole, hard-linked to its own (a rename
    could replace one that is on the disk). One that is there already is touched (``utime``) before it is named.
    """

    path: str
    probe: str
    secret: str


class Held(Struct, frozen=True, array_like=True, gc=False):
    """An attempt that a worker has and that has not ended: running, or waiting in a line."""

    task: TaskSeq
    attempt: int
    lane: LaneId
    place: int
    started: bool


class Usage(Struct, frozen=True, array_like=True, gc=False):
    """How busy the machine of a worker is, for people to look at."""

    cpu_percent: Amount = 0.0
    memory_used_mib: Count = 0
    memory_total_mib: Count = 0
    load_1m: Amount = 0.0


# From the worker ----------------------------------------------------------------------------


class Hello(Struct, frozen=True, tag="hello"):
    """The first message on a channel: who is there, what it offers and what it still holds.

    ``holds`` are the attempts that have not ended, ``ended`` those that have and whose report is not
    acknowledged: it follows. ``instance`` is new at every start of the agent; ``cluster`` is the one it last worked for
    (attempts of another cluster are stopped before a hello is sent); ``sent_at`` is its wall clock.
    """

    version: int
    worker: WorkerId
    instance: str
    offer: Offer
    cluster: str | None
    holds: list[Held]
    ended: list[AttemptKey]
    sent_at: WallTime


class Heartbeat(Struct, frozen=True, tag="beat"):
    """Says that the agent lives; ``sent_at`` is its wall clock, echoed in the answer."""

    sent_at: WallTime
    usage: Usage


class Started(Struct, frozen=True, array_like=True, gc=False):
    """An attempt's process has begun."""

    task: TaskSeq
    attempt: int
    at: WallTime


class Ended(Struct, frozen=True, array_like=True, gc=False):
    """An attempt is over and nothing of its process tree remains.

    ``cause`` is ``None`` for success, ``returned`` for one that never started. Times are the
    worker's wall clock. ``stdout`` and ``stderr`` hold the output only when each stream had at most
    4 KiB in all; what was more has gone before in `OutputChunk` s. The byte counts are
    what the task wrote, kept or not. ``value`` is the envelope of what a function returned or raised, at most 64 KiB;
    ``blobs`` are the digests that it refers to, which the coordinator has already. So it has those of ``outputs``, the
    files that a program left.
    """

    task: TaskSeq
    attempt: int
    cause: Cause | None
    exit_code: Whole | None = None
    signal: Count | None = None
    started_at: WallTime | None = None
    ended_at: WallTime = 0.0
    run_s: Amount = 0.0
    cpu_seconds: Amount | None = None
    peak_memory_kib: Count | None = None
    stdout_bytes: Count = 0
    stderr_bytes: Count = 0
    stdout: bytes = b""
    stderr: bytes = b""
    message: str | None = None
    value: bytes = b""
    blobs: tuple[str, ...] = ()
    outputs: Annotated[tuple[OutputFile, ...], Meta(max_length=OUTPUT_FILES_MAX)] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """All blobs that it names, each once."""
        return tuple(dict.fromkeys([*self.blobs, *(output.digest for output in self.outputs)]))


class OutputChunk(Struct, frozen=True, array_like=True, gc=False):
    """A piece of output: at most 64 KiB, at ``offset`` of its stream. A gap was left out for size."""

    task: TaskSeq
    attempt: int
    stream: StreamName
    offset: Count
    data: bytes


class Report(Struct, frozen=True, tag="report"):
    """What happened on a worker since the last report. Numbered from 1 within an instance."""

    number: Count
    started: list[Started] = []
    ended: list[Ended] = []
    output: list[OutputChunk] = []


class SlotsLost(Struct, frozen=True, tag="slots-lost"):
    """So many lanes' worth of slots are quarantined: their process trees could not be emptied."""

    count: Count
    message: str


class Leaving(Struct, frozen=True, tag="leaving"):
    """The worker is draining by itself; ``done`` once it holds nothing more and goes."""

    done: bool


class Mark(Struct, frozen=True, array_like=True, gc=False):
    """How far a running attempt says it is: ``fraction`` of 1, if it knows, and a few words."""

    task: TaskSeq
    attempt: int
    fraction: Amount | None
    text: str


class Marks(Struct, frozen=True, tag="marks"):
    """What attempts say of their progress. For people to look at: neither acknowledged nor kept."""

    marks: list[Mark]


FromWorker = Hello | Heartbeat | Report | SlotsLost | Leaving | Marks

# From the coordinator -----------------------------------------------------------------------


class Welcome(Struct, frozen=True, tag="welcome"):
    """The answer to a hello: the worker is known, and ``stop`` names what it must not go on with.

    ``kill_grace_s`` is how long what the worker ends by itself, such as for its time-out, has from SIGTERM to SIGKILL.
    ``blob_home`` is where the coordinator keeps blobs, for those who share its machine. ``lease_s`` is how long after
    it sent a heartbeat that was answered the worker may run leased attempts, ``lease_grace_s`` how long these then
    have from SIGTERM to SIGKILL.
    """

    version: int
    cluster: str
    epoch: Epoch
    heartbeat_s: float
    stop: list[AttemptKey]
    kill_grace_s: float = 10.0
    blob_home: BlobHome | None = None
    lease_s: float = 30.0
    lease_grace_s: float = 5.0


class Refused(Struct, frozen=True, tag="refused"):
    """The answer to a hello that is not taken; ``retryable`` says whether to try again."""

    code: str
    message: str
    retryable: bool


class Assignment(Struct, frozen=True, array_like=True, gc=False):
    """Run this attempt in this lane, after those that stand there already.

    ``spec`` is the encoded task spec; ``devices`` are the indices of the lane's GPUs.
    """

    task: TaskSeq
    attempt: int
    lane: LaneId
    place: int
    id: TaskId
    spec: bytes
    devices: tuple[int, ...] = ()


class Seat(Struct, frozen=True, array_like=True, gc=False):
    """Which member of its gang an attempt is: ranks count from 0."""

    task: TaskSeq
    attempt: int
    rank: int


class GangSeats(Struct, frozen=True, array_like=True):
    """Attempts of one gang on a worker, and where its members run: one host or address for each rank."""

    id: str
    hosts: tuple[str, ...]
    seats: list[Seat]


class GangFacts(Struct, frozen=True):
    """What a member is told of its gang."""

    id: str
    rank: int
    hosts: tuple[str, ...]


class Assign(Struct, frozen=True, tag="assign"):
    """Attempts for the worker to run, decided in the reign ``epoch``.

    ``leased`` are those of them that must end when the lease does (see `Welcome`), ``gangs`` those of gangs. What
    few attempts have stands here and not in each `Assignment`, so that the others don't carry it.
    """

    epoch: Epoch
    attempts: list[Assignment]
    leased: list[AttemptKey] = []
    gangs: list[GangSeats] = []


class Stop(Struct, frozen=True, tag="stop"):
    """End these attempts: SIGTERM, ``grace_s`` later SIGKILL. Each is answered by an `Ended`."""

    attempts: list[AttemptKey]
    cause: Cause
    grace_s: float


class Recall(Struct, frozen=True, tag="recall"):
    """Hand these back if they have not started: `Ended` with ``returned``, or nothing."""

    attempts: list[AttemptKey]


class ReportAck(Struct, frozen=True, tag="report-ack"):
    """Reports up to ``number`` are on the record and may be forgotten."""

    number: int


class HeartbeatAck(Struct, frozen=True, tag="beat-ack"):
    """The answer to a `Heartbeat`, with the sender's own ``sent_at`` so that it can measure the way."""

    sent_at: float


class Closing(Struct, frozen=True, tag="closing"):
    """The coordinator is about to leave: go on with what runs, and come back."""

    message: str


FromCoordinator = Welcome | Refused | Assign | Stop | Recall | ReportAck | HeartbeatAck | Closing
