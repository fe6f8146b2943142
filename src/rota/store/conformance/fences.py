"""Who may write: reigns, and the fence that every commit carries."""

from __future__ import annotations

import msgspec
import pytest

from rota.core.changes import Changes
from rota.core.errors import LostLeadership
from rota.core.model import (
    TaskSeq,
    TaskState,
)
from rota.store.base import Leadership, Page, Retention, TaskQuery
from rota.store.conformance.cases import (
    ENDED_AT,
    Leader,
    StoreFactory,
    leading,
    make_client,
    make_facts,
    make_progress,
)

__all__ = ["FenceSuite"]


class FenceSuite:
    """Reigns and fences."""

    async def test_a_new_store_is_empty(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            assert (leader.reign.epoch, leader.reign.number, leader.reign.last_seq) == (1, 0, 0)
            assert leader.reign.holder
            assert await leader.unfinished() == []
            assert await leader.store.load_workers() == []
            assert await leader.store.load_clients() == []
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

    async def test_a_session_comes_with_its_tasks_or_not_at_all(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(Changes(clients=[make_client("gone"), make_client("stays")]))
            changes = Changes(clients=[make_client("new")], clients_gone=["gone"])
            changes.accepted, changes.progress = [make_facts(1)], [(TaskSeq(1), make_progress(TaskState.PENDING))]
            stale = msgspec.structs.replace(leader.next_fence(), holder="somebody else")
            with pytest.raises(LostLeadership):
                await leader.store.commit(changes, stale)
            assert await leader.store.load_clients() == [make_client("gone"), make_client("stays")]
            await leader.commit(changes)
            assert await leader.store.load_clients() == [make_client("new"), make_client("stays")]
            assert await leader.seqs(TaskQuery()) == [1]

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
