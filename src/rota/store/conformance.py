"""What every store must do, as tests that anyone can run on a backend of theirs.

Subclass `StoreConformance` in a test module and give it the fixture ``store_factory``::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store_factory(self, tmp_path: Path) -> StoreFactory:
            return lambda: MyStore(tmp_path)

Each call of the factory gives a new store on the same state; the suite closes one before it opens the next.
Coroutines are run by pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import pytest

from rota.core.changes import Changes, Fence
from rota.core.errors import LostLeadership, StoreUnavailable
from rota.core.model import (
    AttemptRecord,
    Cause,
    Epoch,
    Gpu,
    LaneId,
    Offer,
    Progress,
    TaskFacts,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
)
from rota.store.base import Leadership, Page, Retention, Store, TaskQuery

__all__ = ["Leader", "StoreConformance", "StoreFactory", "make_facts", "make_progress"]

StoreFactory = Callable[[], Store]

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
        return _seqs(await self.store.history(query))


@asynccontextmanager
async def leading(factory: StoreFactory) -> AsyncIterator[Leader]:
    """A store from the factory that leads, closed in the end."""
    store = factory()
    try:
        yield Leader(store, await store.campaign("the conformance suite"))
    finally:
        await store.close()


class StoreConformance:
    """The suite. A backend is done when it passes."""

    @pytest.fixture
    def store_factory(self) -> StoreFactory:
        """Given by the subclass."""
        raise NotImplementedError

    # Reigns and fences

    async def test_a_new_store_is_empty(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            assert (leader.reign.epoch, leader.reign.number, leader.reign.last_seq) == (1, 0, 0)
            assert leader.reign.holder
            assert await leader.unfinished() == []
            assert await leader.store.load_workers() == []
            assert await leader.store.history(TaskQuery()) == Page([], None)
            assert set((await leader.store.count_by_state()).values()) == {0}

    async def test_every_reign_has_a_higher_epoch_and_another_holder(self, store_factory: StoreFactory) -> None:
        reigns: list[Leadership] = []
        for _ in range(3):
            async with leading(store_factory) as leader:
                await leader.accept(make_facts(len(reigns) + 1))
                reigns.append(leader.reign)
        assert [reign.epoch for reign in reigns] == [1, 2, 3]
        assert [reign.number for reign in reigns] == [0, 1, 2]
        assert len({reign.holder for reign in reigns}) == 3
        assert len({reign.cluster for reign in reigns}) == 1

    async def test_highest_seq_outlives_the_task(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(3), make_facts(9), make_facts(5), state=TaskState.COMPLETED)
            await leader.store.prune(Retention(max_tasks=0), wall=ENDED_AT, at_most=10)
        async with leading(store_factory) as leader:
            assert leader.reign.last_seq == 9

    @pytest.mark.parametrize("wrong", ["epoch", "holder", "number too high", "number too low"])
    async def test_a_fence_that_does_not_match_writes_nothing(self, store_factory: StoreFactory, wrong: str) -> None:
        async with leading(store_factory) as leader:
            for seq in (1, 2, 3):
                await leader.accept(make_facts(seq))
            right = leader.next_fence()
            fence = {
                "epoch": msgspec.structs.replace(right, epoch=right.epoch - 1),
                "holder": msgspec.structs.replace(right, holder="somebody else"),
                "number too high": msgspec.structs.replace(right, number=right.number + 1),
                "number too low": msgspec.structs.replace(right, number=right.number - 2),
            }[wrong]
            with pytest.raises(LostLeadership):
                await leader.store.commit(Changes(accepted=[make_facts(4)]), fence)
            assert await leader.seqs(TaskQuery()) == [3, 2, 1]
            await leader.accept(make_facts(4))

    async def test_a_deposed_leader_can_not_write(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            old_fence = leader.next_fence()
            reign = await leader.store.campaign("the next one")
            with pytest.raises(LostLeadership) as caught:
                await leader.store.commit(Changes(accepted=[make_facts(1)]), old_fence)
            assert (caught.value.epoch, caught.value.found) == (1, 2)
            await Leader(leader.store, reign).accept(make_facts(1))

    async def test_a_commit_that_is_repeated_is_recognised(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            fence = leader.next_fence()
            changes = Changes(accepted=[make_facts(1)], progress=[(TaskSeq(1), make_progress(TaskState.COMPLETED))])
            await leader.store.commit(changes, fence)
            await leader.store.commit(changes, fence)
            assert await leader.seqs(TaskQuery()) == [1]
            assert (await leader.store.count_by_state())[TaskState.COMPLETED] == 1

    async def test_a_contradiction_is_our_mistake_and_writes_nothing(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1, chosen_id="nightly"))
            with pytest.raises(AssertionError):
                await leader.accept(make_facts(2), make_facts(3, chosen_id="nightly"))
            assert await leader.seqs(TaskQuery()) == [1]
            await leader.accept(make_facts(2))

    # What is written is read again

    async def test_every_field_comes_back_after_a_restart(self, store_factory: StoreFactory) -> None:
        changes = _full_changes()
        async with leading(store_factory) as leader:
            await leader.commit(changes)
        async with leading(store_factory) as leader:
            (record,) = await leader.unfinished()
            assert record == TaskRecord(changes.accepted[0], changes.progress[0][1])
            assert (await leader.store.history(TaskQuery())).tasks == [record]
            assert await leader.store.find_tasks(["nächtlich"]) == {"nächtlich": record}
            assert await leader.store.attempts(TaskSeq(7)) == changes.attempts
            assert await leader.store.load_workers() == changes.workers

    async def test_bytes_of_many_tasks_do_not_mix(self, store_factory: StoreFactory) -> None:
        facts = [make_facts(seq, spec=bytes([seq % 256]) * (seq * 37 % 5_000)) for seq in range(1, 400)]
        progress = [
            (one.seq, make_progress(TaskState.RUNNING, stdout=b"\0%d" % one.seq, stderr=b"\xff" * (one.seq % 7)))
            for one in facts
        ]
        async with leading(store_factory) as leader:
            await leader.commit(Changes(accepted=facts, progress=progress))
            assert await leader.unfinished() == [
                TaskRecord(one, moved) for one, (_, moved) in zip(facts, progress, strict=True)
            ]

    async def test_large_specs_come_back_whole(self, store_factory: StoreFactory) -> None:
        facts = [make_facts(seq, spec=bytes([seq]) * (1 << 20)) for seq in range(1, 21)]
        async with leading(store_factory) as leader:
            await leader.accept(*facts)
            page = await leader.store.history(TaskQuery())
            assert [record.facts for record in page.tasks] == facts[::-1]
            assert [record.facts for record in await leader.unfinished()] == facts

    async def test_later_changes_of_the_callers_records_do_not_get_in(self, store_factory: StoreFactory) -> None:
        progress = make_progress(TaskState.PENDING)
        async with leading(store_factory) as leader:
            await leader.commit(Changes(accepted=[make_facts(1)], progress=[(TaskSeq(1), progress)]))
            progress.state = TaskState.RUNNING
            (found,) = (await leader.store.history(TaskQuery())).tasks
            assert found.progress.state is TaskState.PENDING
            found.progress.attempt = 9
            assert (await leader.store.history(TaskQuery())).tasks[0].progress.attempt == 0

    async def test_progress_replaces_what_was_there(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1), make_facts(2))
            await leader.move([1], make_progress(TaskState.ASSIGNED, worker="w1", attempt=1, message="one"))
            await leader.move([1], make_progress(TaskState.PENDING, attempt=1, ready_at=5.5))
            assert [record.progress for record in await leader.unfinished()] == [
                make_progress(TaskState.PENDING, attempt=1, ready_at=5.5),
                make_progress(TaskState.PENDING),
            ]
            assert await leader.seqs(TaskQuery(worker=WorkerId("w1"))) == []

    async def test_load_leaves_out_what_has_ended(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            for seq, state in enumerate((*TaskState, *TaskState), start=1):
                await leader.accept(make_facts(seq), state=state)
        async with leading(store_factory) as leader:
            assert [record.facts.seq for record in await leader.unfinished()] == [1, 2, 3, 7, 8, 9]

    async def test_many_tasks_load_once_each_in_order(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 12_001)))
            await leader.move(range(1, 12_001, 3), make_progress(TaskState.RUNNING))
            await leader.move(range(2, 12_001, 3), make_progress(TaskState.ASSIGNED))
            assert [record.facts.seq for record in await leader.unfinished()] == list(range(1, 12_001))

    async def test_attempts_come_oldest_first(self, store_factory: StoreFactory) -> None:
        attempts = [_attempt(1, number) for number in (2, 10, 1)]
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1))
            for attempt in attempts:
                await leader.commit(Changes(attempts=[attempt]))
            assert [attempt.number for attempt in await leader.store.attempts(TaskSeq(1))] == [1, 2, 10]
            assert await leader.store.attempts(TaskSeq(2)) == []

    async def test_workers_are_replaced_and_removed(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(Changes(workers=[_worker("b"), _worker("a"), _worker("c")]))
            drained = msgspec.structs.replace(_worker("a"), drained=True, instance="second")
            await leader.commit(Changes(workers=[drained], workers_gone=[WorkerId("c"), WorkerId("unknown")]))
            assert await leader.store.load_workers() == [drained, _worker("b")]

    # Finding

    async def test_tasks_are_found_by_either_kind_of_id(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1), make_facts(2, chosen_id="nightly"), make_facts(3))
            found = await leader.store.find_tasks(["t1", "nightly", "t2", "t99", "nobody", "t01", "", "t1"])
            assert {task_id: record.facts.seq for task_id, record in found.items()} == {"t1": 1, "nightly": 2}
            assert await leader.store.find_tasks([]) == {}

    @pytest.mark.parametrize(
        "query,expected",
        [
            (TaskQuery(), [6, 5, 4, 3, 2, 1]),
            (TaskQuery(states=frozenset({TaskState.PENDING})), [6, 1]),
            (TaskQuery(states=frozenset({TaskState.PENDING, TaskState.FAILED, TaskState.RUNNING})), [6, 4, 3, 1]),
            (TaskQuery(states=frozenset()), []),
            (TaskQuery(queue="batch"), [4, 2]),
            (TaskQuery(name="build"), [1]),
            (TaskQuery(name="build*"), [3, 2, 1]),
            (TaskQuery(name="*"), [4, 3, 2, 1]),
            (TaskQuery(name="b_ild"), []),
            (TaskQuery(name="nothing*"), []),
            (TaskQuery(labels={"team": "a"}), [4, 1]),
            (TaskQuery(labels={"team": "a", "it's.$[0]": 'x"y'}), [4]),
            (TaskQuery(labels={"team": ""}), []),
            (TaskQuery(worker=WorkerId("w1")), [5, 3]),
            (TaskQuery(since=1_700_000_003.0), [6, 5, 4, 3]),
            (TaskQuery(until=1_700_000_003.0), [2, 1]),
            (TaskQuery(since=1_700_000_002.0, until=1_700_000_005.0), [4, 3, 2]),
            (TaskQuery(before=TaskSeq(4)), [3, 2, 1]),
            (TaskQuery(queue="batch", name="build*", states=frozenset({TaskState.ASSIGNED})), [2]),
            (TaskQuery(worker=WorkerId("w1"), states=frozenset({TaskState.CANCELLED}), before=TaskSeq(6)), [5]),
        ],
    )
    async def test_history_is_filtered(
        self, store_factory: StoreFactory, query: TaskQuery, expected: Sequence[int]
    ) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(_varied_changes())
            assert await leader.seqs(query) == expected

    @pytest.mark.parametrize("states", [None, frozenset({TaskState.PENDING, TaskState.COMPLETED})])
    async def test_pages_join_without_gap_or_overlap(
        self, store_factory: StoreFactory, states: frozenset[TaskState] | None
    ) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 26)))
            await leader.move(range(2, 26, 2), make_progress(TaskState.COMPLETED))
            pages = [await leader.store.history(TaskQuery(states=states, limit=10))]
            while (before := pages[-1].next_before) is not None:
                await leader.accept(make_facts(100 + len(pages)))  # newer ones do not shift the pages
                pages.append(await leader.store.history(TaskQuery(states=states, limit=10, before=before)))
            assert [len(page.tasks) for page in pages] == [10, 10, 5]
            assert [seq for page in pages for seq in _seqs(page)] == list(range(25, 0, -1))

    async def test_a_page_that_is_just_full_has_no_next(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 11)))
            assert (await leader.store.history(TaskQuery(limit=10))).next_before is None

    # Counting, retention, and coming back

    async def test_counts_follow_every_change(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 11)))
            await leader.move([1, 2, 3, 4, 5], make_progress(TaskState.RUNNING))
            await leader.move([1, 2], make_progress(TaskState.COMPLETED))
            await leader.move([3], make_progress(TaskState.FAILED))
            await leader.move([6], make_progress(TaskState.CANCELLED))
            expected = dict(zip(TaskState, (4, 0, 2, 2, 1, 1), strict=True))
            assert await leader.store.count_by_state() == expected
        async with leading(store_factory) as leader:
            assert await leader.store.count_by_state() == expected

    async def test_retention_by_age_removes_the_oldest_first(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 8)))
            await leader.move([1, 3, 4], make_progress(TaskState.COMPLETED, ended_at=100.0))
            await leader.move([5], make_progress(TaskState.FAILED, ended_at=100.0))
            await leader.move([2, 6], make_progress(TaskState.CANCELLED, ended_at=200.0))
            retention = Retention(max_age_s=50.0)
            assert await leader.store.prune(retention, wall=150.0, at_most=10) == []
            assert await leader.store.prune(retention, wall=151.0, at_most=3) == [1, 3, 4]
            assert await leader.store.prune(retention, wall=151.0, at_most=3) == [5]
            assert await leader.seqs(TaskQuery()) == [7, 6, 2]
            assert sum((await leader.store.count_by_state()).values()) == 3

    async def test_retention_by_count_removes_failed_tasks_last(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 9)))
            await leader.move([1, 4], make_progress(TaskState.FAILED))
            await leader.move([2, 5], make_progress(TaskState.COMPLETED))
            await leader.move([3, 6], make_progress(TaskState.CANCELLED))
            removed = [
                await leader.store.prune(Retention(max_tasks=count), wall=ENDED_AT, at_most=3) for count in (4, 1, 1, 0)
            ]
            assert removed == [[2, 3], [1, 5, 6], [], [4]]
            assert await leader.seqs(TaskQuery()) == [8, 7]

    async def test_age_and_count_work_together(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 7)), state=TaskState.COMPLETED)
            await leader.move([2], make_progress(TaskState.COMPLETED, ended_at=1.0))
            retention = Retention(max_age_s=10.0, max_tasks=3)
            assert await leader.store.prune(retention, wall=ENDED_AT, at_most=100) == [1, 2, 3]

    async def test_what_is_removed_is_gone_with_its_attempts_and_its_id(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1, chosen_id="nightly"), state=TaskState.FAILED)
            await leader.commit(Changes(attempts=[_attempt(1, 1)]))
            assert await leader.store.prune(Retention(max_tasks=0), wall=ENDED_AT, at_most=10) == [1]
            assert await leader.store.find_tasks(["nightly", "t1"]) == {}
            assert await leader.store.attempts(TaskSeq(1)) == []
            await leader.accept(make_facts(2, chosen_id="nightly"))  # the fence stands where it stood

    async def test_a_deposed_leader_removes_nothing(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1), state=TaskState.COMPLETED)
        store = store_factory()
        try:
            with pytest.raises(AssertionError):
                await store.prune(Retention(max_tasks=0), wall=ENDED_AT, at_most=10)
        finally:
            await store.close()

    @pytest.mark.parametrize("is_removed", [False, True])
    async def test_a_revived_task_is_there_whatever_was(self, store_factory: StoreFactory, *, is_removed: bool) -> None:
        facts = make_facts(1, chosen_id="nightly", labels='{"team":"a"}')
        async with leading(store_factory) as leader:
            await leader.accept(facts, make_facts(2), state=TaskState.FAILED)
            if is_removed:
                await leader.store.prune(Retention(max_tasks=0), wall=ENDED_AT, at_most=1)
            again = make_progress(TaskState.PENDING, attempt=1)
            await leader.commit(Changes(revived=[facts], progress=[(facts.seq, again)], attempts=[_attempt(1, 1)]))
            assert await leader.unfinished() == [TaskRecord(facts, again)]
            assert await leader.store.find_tasks(["nightly"]) == {"nightly": TaskRecord(facts, again)}
            counts = await leader.store.count_by_state()
            assert (counts[TaskState.PENDING], counts[TaskState.FAILED]) == (1, 1)
            await leader.move([1], make_progress(TaskState.COMPLETED))
            assert (await leader.store.count_by_state())[TaskState.COMPLETED] == 1

    async def test_empty_changes_advance_the_fence(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(Changes())
            assert (await leader.store.campaign("again")).number == 1

    async def test_a_closed_store_says_so(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            pass
        await leader.store.close()
        with pytest.raises(StoreUnavailable):
            await leader.commit(Changes())
        with pytest.raises(StoreUnavailable):
            await leader.store.history(TaskQuery())


def _seqs(page: Page) -> list[int]:
    return [record.facts.seq for record in page.tasks]


def _attempt(seq: int, number: int) -> AttemptRecord:
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


def _worker(name: str) -> WorkerRecord:
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


def _full_changes() -> Changes:
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
        attempts=[_attempt(7, 1), _attempt(7, 2)],
        workers=[_worker("w1")],
    )


def _varied_changes() -> Changes:
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
