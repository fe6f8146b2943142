"""What the suites share: a store that leads, and tasks, attempts and workers to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from rota.core.changes import Changes, Fence
from rota.core.model import (
    AttemptRecord,
    Cause,
    ClientRecord,
    Epoch,
    Gpu,
    LaneId,
    NumberRange,
    Offer,
    Progress,
    Setting,
    TaskFacts,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
)
from rota.store.base import Leadership, Page, Store, TaskQuery

__all__ = [
    "ENDED_AT",
    "Leader",
    "StoreFactory",
    "full_changes",
    "leading",
    "make_attempt",
    "make_client",
    "make_facts",
    "make_progress",
    "make_worker",
    "seqs_of",
    "varied_changes",
]

StoreFactory = Callable[[], Store]
"""Gives a new store on the same state at each call."""

ENDED_AT: Final = 1_800_000_000.0


def make_facts(seq: int, *, chosen_id: str | None = None, **changed: object) -> TaskFacts:
    """A task as it is accepted, different from others only where said."""
    plain = TaskFacts(
        seq=TaskSeq(seq),
        chosen_id=chosen_id,
        name=None,
        queue="default",
        priority=50,
        labels=None,
        created_at=1_700_000_000.0 + seq,
        start_at=None,
        deadline_at=None,
        spec=b"spec of %d" % seq,
    )
    return msgspec.structs.replace(plain, **changed)


def make_progress(state: TaskState, **changed: object) -> Progress:
    """Where a task stands, with the usual end for one that has ended."""
    ended_at = ENDED_AT if state.value >= TaskState.COMPLETED.value else None
    return msgspec.structs.replace(Progress(state=state, ended_at=ended_at), **changed)


class Leader:
    """A store that leads, and the fence that it has got to."""

    def __init__(self, store: Store, reign: Leadership) -> None:
        self.store = store
        self.reign = reign
        self.number = reign.number

    def next_fence(self) -> Fence:
        """The fence of the next commit."""
        return Fence(self.reign.epoch, self.reign.holder, self.number + 1)

    async def commit(self, changes: Changes) -> None:
        """Commit as the coordinator does: the number grows with success."""
        await self.store.commit(changes, self.next_fence())
        self.number += 1

    async def accept(self, *facts: TaskFacts, state: TaskState = TaskState.PENDING) -> None:
        """Commit new tasks in a state."""
        await self.commit(Changes(accepted=list(facts), progress=[(one.seq, make_progress(state)) for one in facts]))

    async def move(self, seqs: Iterable[int], progress: Progress) -> None:
        """Commit the same progress for some tasks."""
        await self.commit(Changes(progress=[(TaskSeq(seq), progress) for seq in seqs]))

    async def unfinished(self) -> list[TaskRecord]:
        """All that `load_tasks` yields."""
        return [record async for batch in self.store.load_tasks() for record in batch]

    async def seqs(self, query: TaskQuery) -> list[int]:
        """The first page of a query."""
        return seqs_of(await self.store.history(query))


@asynccontextmanager
async def leading(factory: StoreFactory) -> AsyncIterator[Leader]:
    """A store from the factory that leads, closed in the end."""
    store = factory()
    try:
        yield Leader(store, await store.campaign("the conformance suite"))
    finally:
        await store.close()


def seqs_of(page: Page) -> list[int]:
    """The numbers of the tasks on a page, in its order."""
    return [record.facts.seq for record in page.tasks]


def make_attempt(seq: int, number: int) -> AttemptRecord:
    """A superseded attempt, every field at something else than its default."""
    return AttemptRecord(
        seq=TaskSeq(seq),
        number=number,
        worker=WorkerId("w1"),
        queued_at=1.5,
        started_at=2.5,
        ended_at=3.5,
        cause=Cause.EXIT,
        exit_code=1,
        signal=None,
        cpu_seconds=0.25,
        peak_memory_kib=2_000,
        stdout_bytes=5,
        stderr_bytes=4_000,
        stdout=b"\xff\0out",
        stderr=b"e" * 4_000,
        message="ended with 1",
    )


def make_worker(name: str) -> WorkerRecord:
    """A worker with a full offer."""
    offer = Offer(
        resources=(("cpu", 4_000), ("licence", 2)),
        tags=frozenset({"gpu", "zürich"}),
        max_tasks=7,
        gpus=(Gpu(81_920, "H100"), Gpu()),
        kinds=frozenset({"process", "function"}),
        addr="10.0.0.1",
        host="machine",
        version="1",
        pid=77,
    )
    return WorkerRecord(WorkerId(name), "first", offer, drained=False, registered_at=1.25, lost_at=None)


def make_client(name: str, *, through: int = 7) -> ClientRecord:
    """A session that knows the ids of some of its tasks."""
    ranges = (NumberRange(2, TaskSeq(40), 3), NumberRange(6, TaskSeq(2**40), through - 5))
    return ClientRecord(name, through, ranges, seen_at=1_700_000_000.25)


def full_changes() -> Changes:
    """One of everything, no field at its default, with what is awkward to encode."""
    facts = TaskFacts(
        seq=TaskSeq(7),
        chosen_id="nächtlich",
        name="日本 'quoted\" \U0001f680 \\ %",
        queue="batch",
        priority=3,
        labels='{"team":"ä","quote":"it\'s \\"here\\""}',
        created_at=1_700_000_000.123457,
        start_at=1_700_000_000.1 + 2**-22,
        deadline_at=4e9,
        spec=bytes(range(256)) * 5,
    )
    progress = Progress(
        state=TaskState.RUNNING,
        attempt=3,
        retries_used=1,
        losses_used=2,
        ready_at=1.1,
        wish=Cause.CANCELLED,
        worker=WorkerId("wörker"),
        instance="instance",
        lane=LaneId(4),
        place=2**40,
        epoch=Epoch(6),
        queued_at=0.1 + 0.2,
        started_at=5e-324,
        ended_at=1e300,
        cause=Cause.LAUNCH_ERROR,
        exit_code=255,
        signal=9,
        cpu_seconds=0.001,
        peak_memory_kib=123_456,
        stdout_bytes=10**12,
        stderr_bytes=1,
        stdout=bytes(range(256)),
        stderr=b"\0",
        message="no such file: '\U0001f4a5'\n\0",
    )
    return Changes(
        accepted=[facts],
        progress=[(facts.seq, progress)],
        attempts=[make_attempt(7, 1), make_attempt(7, 2)],
        workers=[make_worker("w1")],
        clients=[make_client("session-1")],
        settings=[Setting("limit", "it's \U0001f4a5", "3"), Setting("queue", "a", '{"weight":2.5}')],
    )


def varied_changes() -> Changes:
    """Six tasks, one for each way in which a query tells tasks apart."""
    facts = [
        make_facts(1, name="build", labels='{"team":"a"}'),
        make_facts(2, name="build-2", queue="batch"),
        make_facts(3, name="build_", labels='{"team":"b"}'),
        make_facts(4, name="test", queue="batch", labels='{"team":"a","it\'s.$[0]":"x\\"y"}'),
        make_facts(5),
        make_facts(6, labels="{}"),
    ]
    states = (
        TaskState.PENDING,
        TaskState.ASSIGNED,
        TaskState.RUNNING,
        TaskState.FAILED,
        TaskState.CANCELLED,
        TaskState.PENDING,
    )
    workers = {3: "w1", 4: "w2", 5: "w1"}
    progress = [
        (one.seq, make_progress(state, worker=workers.get(one.seq))) for one, state in zip(facts, states, strict=True)
    ]
    return Changes(accepted=facts, progress=progress)
