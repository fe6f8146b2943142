"""Outages of the store leave nothing behind in memory, and for a standstill of ours no worker is blamed."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import pytest
from structlog.testing import capture_logs

from rota.coordinator import loop as loop_module
from rota.core.errors import StoreUnavailable, Unavailable
from rota.store.threads import SqlThread
from tests.support.inner_coordinator import InnerCoordinator, inner_coordinator
from tests.support.waiting import wait_until_async

NO_ROOM: Final = "no room left: free some space"
STANDSTILL_S: Final = 1.0


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Run as the coordinator does."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "RETRY_S_MIN", 0.001)
    monkeypatch.setattr(loop_module, "RETRY_S_MAX", 0.01)


async def begin_to_fail_with_a_turn_ahead(coordinator: InnerCoordinator) -> list[asyncio.Task[tuple[int, object]]]:
    """Let one turn stand before the disk, which is about to be full, and another be ahead of it."""
    coordinator.store.commits_open.clear()
    saving = coordinator.begin_submit()
    await coordinator.wait_until_waiting()
    ahead = coordinator.begin_submit(loop_module.AHEAD_MIN)
    turn = coordinator.house._loop.turn
    await wait_until_async(lambda: turn is not None and turn.is_ahead, what="a turn ahead")
    coordinator.store.commit_failure = StoreUnavailable(NO_ROOM)
    return [saving, ahead]


def stand_still() -> None:
    """As a machine does that is suspended."""
    time.sleep(STANDSTILL_S)


async def end_the_outage(coordinator: InnerCoordinator) -> None:
    coordinator.store.commit_failure = None
    await wait_until_async(coordinator.is_ready, what="the coordinator to serve again")


async def test_a_turn_ahead_of_a_failed_save_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        submits = await begin_to_fail_with_a_turn_ahead(coordinator)
        coordinator.store.commits_open.set()
        answers = await asyncio.wait_for(asyncio.gather(*submits), 5.0)
        assert [status for status, _ in answers] == [503, 503]
        await end_the_outage(coordinator)
        assert await coordinator.ask("GET", "/api/v1/tasks") == (200, [])
        assert (await coordinator.submit())[0] == 201


async def test_a_stop_with_a_turn_ahead_saves_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        submits = await begin_to_fail_with_a_turn_ahead(coordinator)
        coordinator.store.commit_failure = None
        stopping = asyncio.create_task(coordinator.house.stop())
        await asyncio.sleep(0)
        coordinator.store.commits_open.set()
        await asyncio.wait_for(stopping, 5.0)
        answers = await asyncio.wait_for(asyncio.gather(*submits), 5.0)
        assert [status for status, _ in answers] == [201, 201]


@pytest.mark.usefixtures("without_collector")
async def test_the_state_that_an_outage_dropped_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        loop = coordinator.house._loop
        dropped = weakref.ref(loop.scheduler().state)
        submits = await begin_to_fail_with_a_turn_ahead(coordinator)
        coordinator.store.commits_open.set()
        await asyncio.wait_for(asyncio.gather(*submits), 5.0)
        await wait_until_async(lambda: loop.turn is None, what="the outage")
        coordinator.store.commit_failure = StoreUnavailable(NO_ROOM)  # another: this store keeps what it raised
        await wait_until_async(lambda: dropped() is None, what="the end of the old state: there is no memory for two")
        await end_the_outage(coordinator)


@pytest.mark.usefixtures("without_collector")
async def test_a_call_that_fails_in_the_thread_of_a_connection_leaves_no_cycle() -> None:
    def fail(_: apsw.Connection) -> None:
        raise StoreUnavailable(NO_ROOM)

    thread = SqlThread("a test", lambda: apsw.Connection(":memory:"))
    failures = []
    try:
        await thread.run(fail)
    except StoreUnavailable as error:
        failures.append(weakref.ref(error))
    await thread.close()
    assert [failure() for failure in failures] == [None]


async def test_refusals_during_an_outage_keep_no_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        loop = coordinator.house._loop
        coordinator.store.commit_failure = StoreUnavailable(NO_ROOM)
        assert (await coordinator.submit())[0] == 503
        await wait_until_async(lambda: loop.turn is None, what="the outage")
        refusals = []
        for _ in range(2):
            with pytest.raises(Unavailable, match=NO_ROOM) as caught:
                loop.scheduler()
            refusals.append(caught.value)
        assert refusals[0] is not refusals[1]
        assert {(type(refusal), refusal.code) for refusal in refusals} == {(StoreUnavailable, "store_unavailable")}
        assert loop._refusal.__traceback__ is None
        await end_the_outage(coordinator)


@pytest.mark.parametrize("has_turn_ahead", [False, True])
async def test_a_standstill_during_a_save_is_credited(
    has_turn_ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        with capture_logs() as logs:
            if has_turn_ahead:
                submits = await begin_to_fail_with_a_turn_ahead(coordinator)
                coordinator.store.commit_failure = None
            else:
                coordinator.store.commits_open.clear()
                submits = [coordinator.begin_submit()]
                await coordinator.wait_until_waiting()
            stand_still()
            coordinator.store.commits_open.set()
            await asyncio.wait_for(asyncio.gather(*submits), 5.0)
            assert (await coordinator.submit())[0] == 201
        stalls = [entry["seconds"] for entry in logs if entry["event"] == "loop_stalled"]
        assert len(stalls) == 1
        assert STANDSTILL_S / 2 <= stalls[0] <= STANDSTILL_S + 1.0


async def test_a_disk_that_takes_its_time_is_no_standstill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        with capture_logs() as logs:
            submits = await begin_to_fail_with_a_turn_ahead(coordinator)
            coordinator.store.commit_failure = None
            began = time.monotonic()
            await wait_until_async(lambda: time.monotonic() - began > STANDSTILL_S, what="a slow disk")
            coordinator.store.commits_open.set()
            await asyncio.wait_for(asyncio.gather(*submits), 5.0)
            assert (await coordinator.submit())[0] == 201
        assert "loop_stalled" not in [entry["event"] for entry in logs]
