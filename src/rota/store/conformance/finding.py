"""Tasks are found: by id, by filter, and page by page."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rota.core.model import (
    TaskSeq,
    TaskState,
    WorkerId,
)
from rota.store.base import TaskQuery
from rota.store.conformance.cases import (
    StoreFactory,
    leading,
    make_facts,
    make_progress,
    seqs_of,
    varied_changes,
)

__all__ = ["FindingSuite"]


class FindingSuite:
    """Ids, filters and pages."""

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
            await leader.commit(varied_changes())
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
            assert [seq for page in pages for seq in seqs_of(page)] == list(range(25, 0, -1))

    async def test_a_page_is_bounded_by_bytes_too_and_holds_one_task_at_least(
        self, store_factory: StoreFactory
    ) -> None:
        async with leading(store_factory) as leader:
            sizes = [1_000, 1_000, 50_000, 1_000, 1_000, 1_000]
            await leader.accept(*(make_facts(seq, spec=bytes(size)) for seq, size in enumerate(sizes, start=1)))
            pages = []
            before = None
            while True:
                query = TaskQuery(limit=4, bytes_max=2_900, before=before)
                pages.append(await leader.store.history(query))
                if (before := pages[-1].next_before) is None:
                    break
            assert [seqs_of(page) for page in pages] == [[6, 5], [4], [3], [2, 1]]
            assert seqs_of(await leader.store.history(TaskQuery(limit=4, bytes_max=1 << 20))) == [6, 5, 4, 3]

    async def test_a_page_that_is_just_full_has_no_next(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 11)))
            assert (await leader.store.history(TaskQuery(limit=10))).next_before is None
