"""What is kept: counts, retention, and tasks that come back."""

from __future__ import annotations

import pytest

from rota.core.changes import Changes
from rota.core.errors import StoreUnavailable
from rota.core.model import (
    TaskRecord,
    TaskSeq,
    TaskState,
)
from rota.store.base import Retention, TaskQuery
from rota.store.conformance.cases import (
    ENDED_AT,
    StoreFactory,
    leading,
    make_attempt,
    make_facts,
    make_progress,
)

__all__ = ["KeepingSuite"]


class KeepingSuite:
    """Counts, retention, revival and the end."""

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

    async def test_retention_by_count_keeps_what_ended_last(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 6)))
            await leader.move([2, 3], make_progress(TaskState.COMPLETED, ended_at=100.0))
            await leader.move([4], make_progress(TaskState.CANCELLED, ended_at=150.0))
            await leader.move([1, 5], make_progress(TaskState.COMPLETED, ended_at=200.0))
            removed = [
                await leader.store.prune(Retention(max_tasks=2), wall=200.0, at_most=at_most) for at_most in (1, 9)
            ]
            assert removed == [[2], [3, 4]]

    async def test_age_and_count_work_together(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1), state=TaskState.COMPLETED)
            await leader.accept(make_facts(2))
            await leader.move([2], make_progress(TaskState.COMPLETED, ended_at=1.0))
            await leader.accept(*(make_facts(seq) for seq in range(3, 7)), state=TaskState.COMPLETED)
            retention = Retention(max_age_s=10.0, max_tasks=3)
            assert await leader.store.prune(retention, wall=ENDED_AT, at_most=100) == [1, 2, 3]

    async def test_what_is_removed_is_gone_with_its_attempts_and_its_id(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1, chosen_id="nightly"), state=TaskState.FAILED)
            await leader.commit(Changes(attempts=[make_attempt(1, 1)]))
            assert await leader.store.prune(Retention(max_tasks=0), wall=ENDED_AT, at_most=10) == [1]
            assert await leader.store.find_tasks(["nightly", "t1"]) == {}
            assert await leader.store.attempts(TaskSeq(1)) == []
            await leader.accept(make_facts(2, chosen_id="nightly"))  # the fence stands where it stood

    async def test_retention_is_for_leaders(self, store_factory: StoreFactory) -> None:
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
            await leader.commit(Changes(revived=[facts], progress=[(facts.seq, again)], attempts=[make_attempt(1, 1)]))
            assert await leader.unfinished() == [TaskRecord(facts, again)]
            assert await leader.store.find_tasks(["nightly"]) == {"nightly": TaskRecord(facts, again)}
            counts = await leader.store.count_by_state()
            assert (counts[TaskState.PENDING], counts[TaskState.FAILED]) == (1, 1)
            await leader.move([1], make_progress(TaskState.COMPLETED))
            assert (await leader.store.count_by_state())[TaskState.COMPLETED] == 1

    async def test_a_revived_task_is_not_bound_by_its_old_times(self, store_factory: StoreFactory) -> None:
        facts = make_facts(1, start_at=1.0, deadline_at=2.0)
        free = make_facts(1)
        async with leading(store_factory) as leader:
            await leader.accept(facts, state=TaskState.FAILED)
            again = make_progress(TaskState.PENDING)
            await leader.commit(Changes(revived=[free], progress=[(facts.seq, again)]))
        async with leading(store_factory) as leader:
            assert await leader.unfinished() == [TaskRecord(free, again)]

    async def test_whatever_a_worker_says_of_an_end_is_kept(self, store_factory: StoreFactory) -> None:
        odd = make_progress(
            TaskState.COMPLETED,
            ended_at=float("nan"),
            exit_code=-(2**63),
            started_at=float("inf"),
            peak_memory_kib=2**64 - 1,
            stdout_bytes=-1,
            message="\0\ud7ff",
        )
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1), make_facts(2))
            await leader.move([1], odd)
            await leader.move([2], make_progress(TaskState.COMPLETED))
            page = await leader.store.history(TaskQuery())
            assert [repr(record.progress) for record in page.tasks][1] == repr(odd)
            retention = Retention(max_age_s=0.0, max_tasks=0)
            assert await leader.store.prune(retention, wall=ENDED_AT + 1.0, at_most=9) == [1, 2]

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
