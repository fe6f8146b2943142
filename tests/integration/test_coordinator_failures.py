"""A coordinator whose stores fail at the worst moment: who waits is answered, and nothing fails in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from rota.coordinator import loop as loop_module
from rota.coordinator import pace as pace_module
from rota.core.errors import LostLeadership, RotaError, StoreBroken, StoreUnavailable
from rota.core.model import TaskSeq
from tests.support.inner_coordinator import InnerCoordinator, inner_coordinator
from tests.support.waiting import wait_until_async

DISK_DIED: Final = "writing failed (Input/output error): check the disk"


async def begin_to_fail(coordinator: InnerCoordinator, error: RotaError) -> list[asyncio.Task[tuple[int, object]]]:
    """Leave one submit in a commit that is about to fail, and one in the inbox behind it."""
    coordinator.store.commits_open.clear()
    saving = coordinator.begin_submit()
    await coordinator.wait_until_waiting()
    behind = coordinator.begin_submit()
    await coordinator.wait_for_inbox(1)
    coordinator.store.commit_failure = error
    return [saving, behind]


async def test_a_stop_returns_when_the_commit_under_way_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        submits = await begin_to_fail(coordinator, StoreBroken(DISK_DIED))
        stopping = asyncio.create_task(coordinator.house.stop())
        await asyncio.sleep(0)
        coordinator.store.commits_open.set()
        await asyncio.wait_for(stopping, 5.0)
        answers = await asyncio.wait_for(asyncio.gather(*submits), 5.0)
        assert [status for status, _ in answers] == [503, 503]
        with pytest.raises(StoreBroken):
            await asyncio.wait_for(coordinator.running, 5.0)


@pytest.mark.parametrize("error", [StoreBroken(DISK_DIED), LostLeadership(epoch=1, found=2)])
async def test_who_waits_is_refused_at_once_when_the_store_is_lost(
    error: RotaError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        assert await coordinator.is_ready()
        submits = await begin_to_fail(coordinator, error)
        coordinator.store.commits_open.set()
        answers = await asyncio.wait_for(asyncio.gather(*submits), 5.0)
        assert [status for status, _ in answers] == [503, 503]
        assert not await coordinator.is_ready()
        assert (await coordinator.submit())[0] == 503
        with pytest.raises(type(error)):
            await asyncio.wait_for(coordinator.running, 5.0)
        await asyncio.wait_for(coordinator.house.stop(), 5.0)


async def test_a_log_store_without_room_is_one_outage_not_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "RETRY_S_MAX", 0.01)
    monkeypatch.setattr(loop_module, "RETRY_S_MIN", 0.001)
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.say_hello(1)
        assert (await coordinator.submit())[0] == 201
        coordinator.logs.append_failure = StoreUnavailable("no room left for output: free some space")
        coordinator.send_output(1, 1, b"long")
        await wait_until_async(lambda: coordinator.logs.appends >= 10, what="some tries")
        assert coordinator.house.counters.commit_failures == 1, "it served in between, though nothing had changed"
        status, refusal = await coordinator.submit()
        assert (status, refusal["code"]) == (503, "store_unavailable")

        coordinator.logs.append_failure = None
        await wait_until_async(coordinator.is_ready, what="the coordinator to serve again")
        coordinator.say_hello(2, holds=[1])
        coordinator.send_output(2, 1, b"er", offset=4)
        assert (await coordinator.submit())[0] == 201
        page = await asyncio.to_thread(coordinator.logs.read, TaskSeq(1), 1, "stdout")
        assert b"".join(piece.data for piece in page.pieces) == b"longer"


async def test_the_pauses_grow_until_the_store_has_taken_work_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        inbox, loop = coordinator.house._inbox, coordinator.house._loop
        wait_for_arrival, pauses = inbox.arrival, list[float]()

        async def arrival(timeout_s: float | None, *, at_least: int = 1) -> None:
            if loop.turn is not None:
                await wait_for_arrival(timeout_s, at_least=at_least)
                return
            assert timeout_s is not None
            pauses.append(timeout_s)
            await asyncio.sleep(0)

        monkeypatch.setattr(inbox, "arrival", arrival)
        coordinator.store.commit_failure = StoreUnavailable("no room left: free some space")
        assert (await coordinator.submit())[0] == 503
        await wait_until_async(lambda: len(pauses) >= 7, what="seven pauses")
        coordinator.store.commit_failure = None
        await wait_until_async(coordinator.is_ready, what="the coordinator to serve again")
        assert pauses[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]

        pauses.clear()
        coordinator.store.commit_failure = StoreUnavailable("no room left: free some space")
        assert (await coordinator.submit())[0] == 503
        await wait_until_async(lambda: pauses, what="a pause")
        assert pauses[0] == 5.0, "nothing of use was saved since"
        coordinator.store.commit_failure = None
        await wait_until_async(coordinator.is_ready, what="the coordinator to serve again")

        for settled_s, pause_s in ((600.0, 5.0), (0.0, 0.25)):
            monkeypatch.setattr(pace_module, "SETTLED_S", settled_s)
            assert (await coordinator.submit())[0] == 201
            pauses.clear()
            coordinator.store.commit_failure = StoreUnavailable("no room left: free some space")
            assert (await coordinator.submit())[0] == 503
            await wait_until_async(lambda: pauses, what="a pause")
            assert pauses[0] == pause_s, "one small write among large ones that fail is no end of an outage"
            coordinator.store.commit_failure = None
            await wait_until_async(coordinator.is_ready, what="the coordinator to serve again")


async def test_a_chosen_id_that_meets_the_start_of_an_outage_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "RETRY_S_MIN", 600.0)
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.store.finds_open.clear()
        chosen = coordinator.begin_submit(id="mine")
        await coordinator.wait_until_waiting()
        coordinator.store.commit_failure = StoreUnavailable("no room left: free some space")
        assert (await coordinator.submit())[0] == 503
        coordinator.store.finds_open.set()
        status, refusal = await chosen
        assert (status, refusal["code"]) == (503, "store_unavailable")


@pytest.mark.parametrize(
    "error", [AssertionError("a mistake of ours"), StoreBroken(DISK_DIED), LostLeadership(epoch=1, found=2)]
)
async def test_a_background_service_that_fails_ends_the_coordinator(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.retention.EVERY_S", 0.001)
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.store.prune_failure = error
        with pytest.raises(type(error)):
            await asyncio.wait_for(coordinator.running, 5.0)


async def test_retention_looks_again_when_the_store_took_no_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.retention.EVERY_S", 0.001)
    async with inner_coordinator(tmp_path, monkeypatch, retention_tasks=1) as coordinator:
        coordinator.store.prune_failure = StoreUnavailable("locked by another program")
        for task_id in ("a", "b"):
            await coordinator.submit(id=task_id)
            await coordinator.cancel(task_id)
        looks = coordinator.store.prunes
        await wait_until_async(lambda: coordinator.store.prunes > looks + 2, what="further looks")
        assert not coordinator.running.done()
        coordinator.store.prune_failure = None
        await wait_until_async(
            lambda: _is_gone(coordinator, "a"), what="the first task to be removed", ignoring=(KeyError,)
        )


async def _is_gone(coordinator: InnerCoordinator, task_id: str) -> bool:
    status, _ = await coordinator.ask("GET", f"/api/v1/tasks/{task_id}")
    return status == 404
