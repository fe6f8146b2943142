"""Calls that stay open, on a server in this process: they end when their client, or the server, does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from rota.coordinator.grpc.contracts import public_contracts
from rota.coordinator.grpc.rota_service import RotaService
from rota.coordinator.grpc.server import GrpcServer
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.http.guard import Guard, GuardConfig
from rota.coordinator.metrics import Counters
from rota.coordinator.service import Event
from rota.store.blobs import BlobStore
from rota.v1 import rota_pb2
from tests.support.fake_service import FakeService
from tests.support.http2_frames import ACK, END_STREAM, HEADERS, OPENING, PING, call_headers, frame, message
from tests.support.waiting import wait_until_async

EVENTS = 20_000
LONG_TEXT = "x" * 1000
ROUND_TRIPS = 500


class CountingService(FakeService):
    """Counts how many events were taken from it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    async def events(self, last_id: str | None) -> AsyncIterator[Event | None]:
        self.open_events += 1
        try:
            for number in range(EVENTS):
                self.taken += 1
                yield Event(f"1.{number}", "task.progress", 0.0, task="t1", text=LONG_TEXT)
            await asyncio.Event().wait()
        finally:
            self.open_events -= 1


@dataclass
class Stage:
    """A server, what it serves, and a client."""

    service: FakeService
    watches: OpenWatches
    server: GrpcServer
    channel: grpc.aio.Channel
    port: int

    def watch(self, **fields: Any) -> Any:
        """Open a stream of events."""
        call: Any = self.channel.unary_stream(
            "/rota.v1.Rota/WatchEvents",
            request_serializer=rota_pb2.WatchEventsRequest.SerializeToString,
            response_deserializer=rota_pb2.Event.FromString,
        )
        return call(rota_pb2.WatchEventsRequest(**fields))

    def get(self, **fields: Any) -> Any:
        """Ask for a task."""
        call: Any = self.channel.unary_unary(
            "/rota.v1.Rota/GetTask",
            request_serializer=rota_pb2.GetTaskRequest.SerializeToString,
            response_deserializer=rota_pb2.GetTaskResponse.FromString,
        )
        return call(rota_pb2.GetTaskRequest(**fields))

    async def submit(self) -> str:
        """Submit a task."""
        call: Any = self.channel.unary_unary(
            "/rota.v1.Rota/SubmitTasks",
            request_serializer=rota_pb2.SubmitTasksRequest.SerializeToString,
            response_deserializer=rota_pb2.SubmitTasksResponse.FromString,
        )
        answer = await call(rota_pb2.SubmitTasksRequest(tasks=[{"shell": ":"}]))
        return str(answer.ids[0])


@asynccontextmanager
async def staged(service: FakeService, *, ping_every_s: float | None = None) -> AsyncIterator[Stage]:
    watches = OpenWatches()
    server = GrpcServer(
        public_contracts(service, watches, blobs=BlobStore(None)),
        guard=Guard(GuardConfig()),
        counters=Counters(),
        ping_every_s=ping_every_s,
    )
    port = server.listen("127.0.0.1", [0])
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Stage(service, watches, server, channel, port)
    finally:
        await server.stop(grace_s=0)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(FakeService()) as ready:
        yield ready


@pytest.fixture
async def busy_stage() -> AsyncIterator[Stage]:
    async with staged(CountingService()) as ready:
        yield ready


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value


async def test_watch_whose_client_vanishes_is_closed(stage: Stage) -> None:
    watch = stage.watch()
    await watch.initial_metadata()
    await wait_until_async(lambda: stage.service.open_events == 1, what="the watch")
    watch.cancel()
    await wait_until_async(lambda: stage.service.open_events == len(stage.watches) == 0, what="its end")


async def test_watch_whose_connection_breaks_is_closed(stage: Stage) -> None:
    watch = stage.watch()
    await watch.initial_metadata()
    await stage.channel.close()
    await wait_until_async(lambda: stage.service.open_events == len(stage.watches) == 0, what="its end")


async def test_watch_whose_client_vanishes_without_a_word_is_closed() -> None:
    async with staged(FakeService(), ping_every_s=1.0) as impatient:
        reader, writer = await asyncio.open_connection("127.0.0.1", impatient.port)
        writer.write(OPENING + call_headers(b"/rota.v1.Rota/WatchEvents") + frame(0, message(b""), flags=END_STREAM))
        kind = None
        while kind != HEADERS:  # until then it is a decent client, that answers pings
            head = await reader.readexactly(9)
            kind, payload = head[3], await reader.readexactly(int.from_bytes(head[:3], "big"))
            if kind == PING:
                writer.write(frame(PING, payload, flags=ACK, stream=0))
        await wait_until_async(lambda: impatient.service.open_events == 1, what="the watch")
        # The connection stays open, as one does whose other end has lost its power.
        await wait_until_async(lambda: impatient.service.open_events == 0, what="its end", timeout_s=60.0)
        writer.close()


async def test_client_that_does_not_read_is_not_read_ahead_for(busy_stage: Stage) -> None:
    service = busy_stage.service
    assert isinstance(service, CountingService)
    watch = busy_stage.watch()
    await watch.initial_metadata()
    first = await watch.read()
    for _ in range(ROUND_TRIPS):  # in which the server could send all that there is
        await busy_stage.submit()
    assert first.id == "1.0"
    assert 0 < service.taken < EVENTS // 2, "more than the windows of a connection hold"
    for number in range(1, EVENTS):
        assert (await watch.read()).id == f"1.{number}"
    watch.cancel()
    await wait_until_async(lambda: service.open_events == 0, what="its end")


async def test_stop_tells_those_who_watch_to_come_back(stage: Stage) -> None:
    watch = stage.watch()
    await watch.initial_metadata()
    stage.watches.stop()
    error = await refused(watch)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(error.trailing_metadata())["rota-code"] == "unavailable"
    assert stage.service.open_events == 0
    late = await refused(stage.watch())
    assert late.code() is grpc.StatusCode.UNAVAILABLE


async def test_who_watches_with_a_token_that_was_withdrawn_must_come_back(stage: Stage) -> None:
    watch = stage.watch()
    await watch.initial_metadata()
    stage.watches.end_open()
    error = await refused(watch)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert str(error.details()).startswith("a token was withdrawn: ")
    again = stage.watch()
    await again.initial_metadata()
    await wait_until_async(lambda: stage.service.open_events == 1, what="the new one, and it alone")


async def test_stop_is_not_held_up_by_a_client_that_does_not_read(busy_stage: Stage) -> None:
    watch = busy_stage.watch()
    await watch.read()
    busy_stage.watches.stop()
    await asyncio.wait_for(busy_stage.server.stop(grace_s=0.5), 10.0)
    assert busy_stage.service.open_events == 0


async def test_followed_output_ends_with_its_client(stage: Stage) -> None:
    task_id = await stage.submit()
    call: Any = stage.channel.unary_stream(
        "/rota.v1.Rota/ReadLogs",
        request_serializer=rota_pb2.ReadLogsRequest.SerializeToString,
        response_deserializer=rota_pb2.ReadLogsResponse.FromString,
    )
    following = call(rota_pb2.ReadLogsRequest(id=task_id, follow=True))
    await wait_until_async(lambda: stage.service.open_logs == 1, what="the reader")
    stage.service.start(task_id)
    stage.service.write(task_id, b"\xff\0")
    assert (await following.read()).data == b"\xff\0"
    following.cancel()
    await wait_until_async(lambda: stage.service.open_logs == 0, what="its end")


async def test_wait_that_its_client_gives_up_is_given_up(stage: Stage) -> None:
    task_id = await stage.submit()
    waiting = stage.get(id=task_id, wait=60.0)
    await wait_until_async(lambda: stage.service.waits == 1, what="the wait")
    waiting.cancel()
    await wait_until_async(lambda: stage.service.waits == 0, what="its end")


async def test_wait_ends_with_the_task(stage: Stage) -> None:
    task_id = await stage.submit()
    waiting = stage.get(id=task_id, wait=60.0)
    await wait_until_async(lambda: stage.service.waits == 1, what="the wait")
    stage.service.start(task_id)
    stage.service.end(task_id)
    assert (await waiting).task.exit_code == 0


@pytest.mark.parametrize("seconds", [-1.0, 301.0, float("nan"), float("inf")])
async def test_wait_that_makes_no_sense_is_refused(stage: Stage, seconds: float) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.get(id="t1", wait=seconds)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_events_are_filtered_by_task_and_type(stage: Stage) -> None:
    watch = stage.watch(task_ids=["a"], types=["task.completed"])
    await watch.initial_metadata()
    await wait_until_async(lambda: stage.service.open_events == 1, what="the watch")
    for number, (type_, task) in enumerate([("task.running", "a"), ("task.completed", "b"), ("task.completed", "a")]):
        stage.service.publish(Event(f"1.{number}", type_, 1.5, task=task))
    stage.service.publish(None)
    event = await watch.read()
    assert (event.id, event.task, event.at.ToMilliseconds()) == ("1.2", "a", 1500)


async def test_events_that_are_passed_over_hold_nobody_up() -> None:
    class PastService(FakeService):
        async def events(self, last_id: str | None) -> AsyncIterator[Event | None]:
            for number in range(EVENTS):  # all there at once, as in a ring
                yield Event(f"1.{number}", "task.running", 0.0, task="other")

    class Context:
        async def send_initial_metadata(self, _metadata: object) -> None:
            pass

    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    context: Any = Context()
    request = rota_pb2.WatchEventsRequest(task_ids=["mine"])
    await RotaService(PastService(), OpenWatches()).WatchEvents(request, context)
    beside.cancel()
    assert turns >= EVENTS // 1000


@pytest.mark.parametrize("fields", [{"task_ids": ["x"] * 1001}, {"types": ["x"] * 101}])
async def test_filter_has_a_bound(stage: Stage, fields: dict[str, list[str]]) -> None:
    error = await refused(stage.watch(**fields))
    assert (error.code(), dict(error.trailing_metadata())["rota-field"]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        next(iter(fields)),
    )
