"""Logs and events over a real server: what is sent while it happens, and every way in which that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.coordinator.service import Event
from rota.core.errors import Unavailable
from rota.core.model import TaskState
from rota.core.requests import parse_requests
from rota.store.blobs import BlobStore
from tests.support.fake_service import CREATED_AT, FakeService
from tests.support.http_server import RunningServer, running_server
from tests.support.waiting import wait_until_async


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService) -> AsyncIterator[RunningServer]:
    async with running_server(
        build_app(service, guard=GuardConfig(), counters=Counters(), blobs=BlobStore(None))
    ) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url + "/api/v1", timeout=5.0) as found:
        yield found


async def running_task(service: FakeService) -> str:
    requests, _ = parse_requests(b'{"shell": "work"}', tasks_max=1)
    view = (await service.submit(requests, is_array=False))[0]
    service.start(view.record.facts.id)
    return view.record.facts.id


def named(number: int) -> Event:
    return Event(f"{number}.0", "task.completed", CREATED_AT, task=f"t{number}", cause="two\nlines")


async def lines_until(lines: AsyncIterator[str], beginning: str) -> list[str]:
    seen = []
    async for line in lines:
        seen.append(line)
        if line.startswith(beginning):
            return seen
    raise AssertionError(f"ended without {beginning!r}: {seen}")


async def test_logs_are_the_bytes_as_they_were_written(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await running_task(service)
    every_byte = bytes(range(256)) * 300
    service.write(task_id, every_byte)
    service.write(task_id, b"oops", stream="stderr")
    answer = await client.get(f"/tasks/{task_id}/logs?stream=stdout")
    assert answer.content == every_byte
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.get(f"/tasks/{task_id}/logs?stream=stderr")).content == b"oops"
    assert (await client.get(f"/tasks/{task_id}/logs")).content == every_byte + b"oops"


async def test_an_attempt_that_never_was_has_no_logs(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await running_task(service)
    assert (await client.get(f"/tasks/{task_id}/logs?attempt=2")).status_code == 404
    assert (await client.get(f"/tasks/{task_id}/logs?attempt=0")).status_code == 400
    assert (await client.get(f"/tasks/{task_id}/logs?stream=stdlog")).status_code == 400
    assert (await client.get(f"/tasks/{task_id}/logs?attempt=1")).status_code == 200


async def test_followed_logs_arrive_while_the_task_runs_and_end_with_it(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    task_id = await running_task(service)
    async with client.stream("GET", f"/tasks/{task_id}/logs?follow=1") as answer:
        chunks = answer.aiter_raw()
        service.write(task_id, b"first")
        assert await anext(chunks) == b"first"
        service.write(task_id, b"second")
        assert await anext(chunks) == b"second"
        service.end(task_id)
        assert [chunk async for chunk in chunks] == []


async def test_logs_that_can_not_be_read_have_their_own_status(
    client: httpx.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await running_task(service)

    async def broken(*_: object, **__: object) -> AsyncIterator[bytes]:
        if service.ready:
            raise Unavailable("the log store is away")
        yield b""

    monkeypatch.setattr(service, "logs", broken)
    assert (await client.get(f"/tasks/{task_id}/logs")).status_code == 503


async def test_logs_that_break_off_do_not_look_whole(
    client: httpx.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await running_task(service)

    async def breaking(*_: object, **__: object) -> AsyncIterator[bytes]:
        yield b"half"
        raise Unavailable("the log store went away")

    monkeypatch.setattr(service, "logs", breaking)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(f"/tasks/{task_id}/logs")


async def test_a_client_that_goes_away_ends_its_streams(
    client: httpx.AsyncClient, service: FakeService, server: RunningServer
) -> None:
    task_id = await running_task(service)
    async with (
        client.stream("GET", f"/tasks/{task_id}/logs?follow=1"),
        client.stream("GET", "/events"),
    ):
        await wait_until_async(lambda: server.app.open_streams == 2, what="both streams to be open")
    await wait_until_async(lambda: server.app.open_streams == 0, what="both streams to end")
    assert (service.open_logs, service.open_events) == (0, 0)


async def test_events_have_id_type_and_data_of_one_line(client: httpx.AsyncClient, service: FakeService) -> None:
    async with client.stream("GET", "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        await lines_until(lines, "retry:")
        await wait_until_async(lambda: service.open_events, what="the listener to be there")
        service.publish(named(7))
        seen = await lines_until(lines, "data:")
    assert seen[-3:-1] == ["id: 7.0", "event: task.completed"]
    data = msgspec.json.decode(seen[-1].removeprefix("data: "))
    assert data == {
        "id": "7.0",
        "type": "task.completed",
        "time": "2026-01-01T00:00:00.250Z",
        "task": "t7",
        "cause": "two\nlines",
    }


async def test_a_quiet_line_is_kept_open_with_comments(client: httpx.AsyncClient, service: FakeService) -> None:
    async with client.stream("GET", "/events") as answer:
        lines = answer.aiter_lines()
        await lines_until(lines, "retry:")
        await wait_until_async(lambda: service.open_events, what="the listener to be there")
        service.publish(None)
        await lines_until(lines, ":")


@pytest.mark.parametrize(
    "address,headers,first",
    [
        ("/events?last_event_id=1.0", {}, "id: 2.0"),
        ("/events", {"Last-Event-ID": "2.0"}, "id: 3.0"),
        ("/events?last_event_id=1.0", {"Last-Event-ID": "2.0"}, "id: 3.0"),
        ("/events?last_event_id=99.0", {}, "event: resync"),
    ],
)
async def test_events_go_on_after_the_last_one_seen(
    client: httpx.AsyncClient, service: FakeService, *, address: str, headers: dict[str, str], first: str
) -> None:
    for number in (1, 2, 3):
        service.publish(named(number))
    async with client.stream("GET", address, headers=headers) as answer:
        await lines_until(answer.aiter_lines(), first)


@pytest.mark.parametrize("last_id", ["x", "1", "1.", "-1.0", "1.0x", "9" * 40 + ".0"])
async def test_what_can_not_be_the_id_of_an_event_is_refused(client: httpx.AsyncClient, last_id: str) -> None:
    assert (await client.get("/events", headers={"Last-Event-ID": last_id})).status_code == 400
    assert (await client.get("/events", params={"last_event_id": last_id})).status_code == 400


async def test_stopping_ends_streams_properly_and_does_not_wait_for_them(
    client: httpx.AsyncClient, service: FakeService, server: RunningServer
) -> None:
    task_id = await running_task(service)
    async with (
        client.stream("GET", "/events") as events,
        client.stream("GET", f"/tasks/{task_id}/logs?follow=1") as logs,
    ):
        await wait_until_async(lambda: server.app.open_streams == 2, what="both streams to be open")
        stopping = asyncio.create_task(server.stop())
        assert b"retry" in await events.aread()
        assert await logs.aread() == b""
        await stopping
    assert (service.open_logs, service.open_events) == (0, 0)


async def test_a_listener_that_does_not_read_does_not_hold_up_the_stop(
    service: FakeService, server: RunningServer
) -> None:
    task_id = await running_task(service)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(f"GET /api/v1/tasks/{task_id}/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readline()
    for _ in range(30):
        service.write(task_id, b"x" * (1 << 20))
    service.end(task_id, state=TaskState.COMPLETED)
    stopping = asyncio.create_task(server.stop())
    await wait_until_async(lambda: server.app.open_streams == 0, what="the stream to be given up")
    writer.transport.abort()
    await stopping
