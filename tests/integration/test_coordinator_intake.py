"""What lies between a request and its turn: counted, taken back when the client goes, and never in two minds on ids."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rota.coordinator import loop as loop_module
from rota.core.commands import SessionClosed, SessionId
from rota.core.errors import StoreUnavailable
from rota.process.clock import steady_s, wall_s
from tests.support.http_server import running_server
from tests.support.inner_coordinator import inner_coordinator
from tests.support.waiting import wait_until_async

SUBMIT = b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\n" + b'{"command":["true"]}'


async def test_what_waits_for_its_turn_counts_against_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch, max_pending=10) as coordinator:
        coordinator.store.commits_open.clear()
        first = coordinator.begin_submit()
        await coordinator.wait_until_waiting()
        behind = coordinator.begin_submit(8)
        await coordinator.wait_for_inbox(8)
        status, refusal = await coordinator.submit(2)
        assert (status, refusal["code"]) == (429, "overloaded")
        assert "9 tasks wait and 2 more" in refusal["error"]
        last = coordinator.begin_submit()
        await coordinator.wait_for_inbox(9)
        coordinator.store.commits_open.set()
        assert [(await submit)[0] for submit in (first, behind, last)] == [201, 201, 201]
        assert (await coordinator.submit())[0] == 429


async def test_a_client_that_has_gone_before_its_turn_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.http.body.WATCH_AFTER_S", 0.01)
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator, running_server(coordinator.house.app) as server:
        coordinator.store.commits_open.clear()
        first = coordinator.begin_submit()
        await coordinator.wait_until_waiting()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(SUBMIT)
        await coordinator.wait_for_inbox(1)
        writer.close()
        await writer.wait_closed()
        await coordinator.wait_for_inbox(0)
        coordinator.store.commits_open.set()
        assert (await first)[0] == 201
        _, task = await coordinator.submit()
        assert task["id"] == "t2", "a number was given to a task that nobody waits for"


async def test_a_client_that_waits_for_a_slow_store_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.http.body.WATCH_AFTER_S", 0.0)
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator, running_server(coordinator.house.app) as server:
        coordinator.store.commits_open.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(SUBMIT)
        await coordinator.wait_until_waiting()
        coordinator.store.commits_open.set()
        assert (await asyncio.wait_for(reader.readline(), 5.0)).startswith(b"HTTP/1.1 201")
        writer.write(SUBMIT)  # the watch of the first request has left the connection in order
        await reader.readuntil(b'"t1"')
        await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 201"), 5.0)
        writer.close()
        await writer.wait_closed()


async def test_two_who_choose_one_id_at_the_same_time_get_one_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.store.finds_open.clear()  # both have looked and found nothing
        submits = [coordinator.begin_submit(id="mine") for _ in range(2)]
        await coordinator.wait_until_waiting(2)
        coordinator.store.finds_open.set()
        answers = await asyncio.gather(*submits)
        assert [(status, task["id"]) for status, task in answers] == [(201, "mine"), (201, "mine")]
        assert (await coordinator.submit())[1]["id"] == "t2"


async def test_an_id_that_retention_has_just_removed_is_refused_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch, retention_tasks=1) as coordinator:
        for task_id in ("a", "b"):
            await coordinator.submit(id=task_id)
            await coordinator.cancel(task_id)
        assert await coordinator.house._retention.run_once(wall=wall_s()) == 1
        status, refusal = await coordinator.submit(id="a")
        assert (status, refusal["code"]) == (409, "conflict")
        assert "has just been removed: try again in a minute" in refusal["error"]
        monkeypatch.setattr(loop_module, "steady_s", lambda: steady_s() + 120.0)
        await coordinator.submit()  # a turn, which lets go of what is old
        assert (await coordinator.submit(id="a"))[0] == 201


async def test_a_submit_that_looked_before_a_reload_is_sent_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.store.finds_open.clear()
        submit = coordinator.begin_submit(id="mine")
        await coordinator.wait_until_waiting()
        coordinator.store.commit_failure = StoreUnavailable("the disk is full")
        assert (await coordinator.submit())[0] == 503
        coordinator.store.commit_failure = None
        await wait_until_async(coordinator.is_ready, what="the store to be tried again")
        coordinator.store.finds_open.set()
        status, refusal = await submit
        assert status == 503
        assert "again" in refusal["error"]
        assert (await coordinator.submit(id="mine"))[0] == 201


async def test_a_worker_that_is_gone_is_struck_off_and_its_task_waits_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.say_hello(1)
        assert (await coordinator.submit())[0] == 201
        status, body = await coordinator.ask("DELETE", "/api/v1/nodes/w1")
        assert (status, body["code"]) == (409, "conflict")
        coordinator.put(SessionClosed(SessionId(1)))
        status, body = await coordinator.ask("DELETE", "/api/v1/nodes/w1")
        assert (status, body["id"], body["tasks"]) == (200, "w1", 1)
        assert await coordinator.ask("GET", "/api/v1/nodes") == (200, [])
        assert (await coordinator.ask("DELETE", "/api/v1/nodes/w1"))[0] == 404
        _, task = await coordinator.ask("GET", "/api/v1/tasks/t1")
        assert (task["state"], task["losses_used"]) == ("pending", 1)
