"""How channels end, and that what a peer does wrong ends its own channel and nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs
from websockets.frames import Opcode

from rota.core.model import Epoch, LaneId, TaskId, TaskSeq
from rota.core.protocol import Assign, Assignment, Closing, HeartbeatAck, Report, ReportAck
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import LARGE_BYTES_MAX, WORKER_CODEC, FromPeer, ToPeer
from rota.wire.websocket import connection
from tests.support.channels import (
    TRANSPORTS,
    CoordinatorEnd,
    Recorder,
    on_both_loops,
    on_every_transport,
    serve_channels,
)
from tests.support.strangers import bare_peer, stranger
from tests.support.waiting import wait_until_async

REPORT = WORKER_CODEC.encode(Report(number=1))


@pytest.fixture(params=TRANSPORTS)
async def coordinator(request: pytest.FixtureRequest) -> AsyncIterator[CoordinatorEnd]:
    async with serve_channels(request.param) as end:
        yield end


@pytest.fixture
async def websocket() -> AsyncIterator[CoordinatorEnd]:
    """Only that one: what gRPC has instead is in test_channel_grpc.py."""
    async with serve_channels("websocket") as end:
        yield end


# Proper ends ----------------------------------------------------------------------------------


@on_every_transport
async def test_worker_that_closes_is_gone_at_the_coordinator(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    worker.line.close(code=CloseCode.GOING_AWAY, reason="the worker is leaving")
    assert await session.wait_until_closed() == "closed by the other side: the worker is leaving (1001)"
    assert await worker.wait_until_closed() == "closed from this side: the worker is leaving"
    await wait_until_async(lambda: not coordinator.connections, what="the server to forget it")


@on_every_transport
async def test_stopping_server_tells_its_workers_and_leaves_promptly(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    coordinator.begin_stop()
    assert await worker.wait_until_closed() == "closed by the other side: the coordinator is stopping (1012)"
    await session.wait_until_closed()
    started_s = time.monotonic()
    await wait_until_async(lambda: not coordinator.connections, what="the end of the connection")
    assert time.monotonic() - started_s < connection.CLOSE_GRACE_S


async def test_stopping_server_does_not_wait_for_one_who_does_not_answer(
    coordinator: CoordinatorEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"rota.wire.{coordinator.transport}.connection.CLOSE_GRACE_S", 0.2)
    async with stranger(coordinator):
        await wait_until_async(lambda: coordinator.sessions, what="the session")
        coordinator.begin_stop()
        assert await coordinator.sessions[0].wait_until_closed() == "closed from this side: the coordinator is stopping"


async def test_closed_channel_takes_messages_and_a_second_close_in_silence(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    worker.line.close(code=CloseCode.NORMAL, reason="first")
    worker.line.close(code=CloseCode.NORMAL, reason="second")
    worker.line.send(Report(number=1))
    assert worker.line.backlog_bytes == 0
    assert "first" in await session.wait_until_closed()
    assert session.messages == []


async def test_reason_longer_than_a_close_frame_is_shortened(websocket: CoordinatorEnd) -> None:
    worker, session = await websocket.worker()
    worker.line.close(code=CloseCode.POLICY, reason="é" * 500)
    assert "é" * 61 + " (1008)" in await session.wait_until_closed()


class AnswersAndCloses(Recorder[FromPeer, ToPeer]):
    def received(self, messages: list[FromPeer]) -> None:
        super().received(messages)
        self.line.send(Closing(message="x" * connection.FULL_WRITE_BYTES))
        self.line.close(code=CloseCode.POLICY, reason="refused")


@pytest.mark.parametrize("end", [b"\x88\x80\0\0\0\0", b"\x82\x01x"], ids=["closed", "broken"])
async def test_answer_to_one_who_has_ended_in_the_same_breath_is_dropped(websocket: CoordinatorEnd, end: bytes) -> None:
    websocket.decide = AnswersAndCloses
    with capture_logs() as logs:
        async with bare_peer(websocket) as peer:
            peer.rules.send_binary(REPORT)
            peer.write(b"".join(peer.rules.data_to_send()) + end)
            await peer.read_until_closed()
        [session] = websocket.sessions
        await session.wait_until_closed()
    assert session.messages == [Report(number=1)]
    assert logs == []


# Sudden ends ----------------------------------------------------------------------------------


@on_every_transport
async def test_connection_that_is_reset_ends_the_channel(coordinator: CoordinatorEnd) -> None:
    async with stranger(coordinator) as peer:
        [session] = coordinator.sessions
        peer.reset()
        assert "the connection was" in await session.wait_until_closed()
    await wait_until_async(lambda: not coordinator.connections, what="the server to forget it")


@on_both_loops
async def test_half_a_message_and_the_end_is_no_message(websocket: CoordinatorEnd) -> None:
    async with bare_peer(websocket) as peer:
        [session] = websocket.sessions
        peer.rules.send_binary(REPORT)
        peer.write(b"".join(peer.rules.data_to_send())[:-1])
    assert await session.wait_until_closed() == "the connection was cut without a word"
    assert session.messages == []


async def test_half_a_handshake_harms_nobody(websocket: CoordinatorEnd) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", websocket.port)
    writer.write(b"GET /api/v1/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websoc")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    worker, session = await websocket.worker()
    worker.line.send(Report(number=1))
    await session.wait_for_messages(1)
    assert len(websocket.sessions) == 1


# What a peer does wrong -----------------------------------------------------------------------


async def test_garbage_ends_the_channel_after_the_messages_before_it(coordinator: CoordinatorEnd) -> None:
    async with stranger(coordinator) as peer:
        for message in (REPORT, b"\xc1garbage", REPORT):
            peer.say(message)
        code, reason = await peer.read_until_closed()
    [session] = coordinator.sessions
    assert code == CloseCode.BAD_MESSAGE
    assert reason.startswith("8 bytes that are no message of this protocol")
    assert session.messages == [Report(number=1)]
    assert "no message of this protocol" in await session.wait_until_closed()


async def test_message_of_the_other_side_is_garbage(coordinator: CoordinatorEnd) -> None:
    async with stranger(coordinator) as peer:
        peer.say(WORKER_CODEC.encode(ReportAck(number=1)))  # type: ignore[arg-type]  # that is the point
        code, reason = await peer.read_until_closed()
    assert code == CloseCode.BAD_MESSAGE
    assert "Invalid value 'report-ack'" in reason


async def test_text_is_refused(websocket: CoordinatorEnd) -> None:
    async with bare_peer(websocket) as peer:
        peer.rules.send_text(b"hello")
        peer.flush()
        assert (await peer.read_until_closed())[0] == CloseCode.NOT_BINARY


@pytest.mark.parametrize("pieces", [1, 3])
async def test_message_over_the_limit_is_refused(websocket: CoordinatorEnd, pieces: int) -> None:
    async with bare_peer(websocket) as peer:
        size = LARGE_BYTES_MAX // pieces + 1
        peer.rules.send_binary(bytes(size), fin=pieces == 1)
        for piece in range(2, pieces + 1):
            peer.rules.send_continuation(bytes(size), fin=piece == pieces)
        peer.flush()
        assert (await peer.read_until_closed())[0] == CloseCode.TOO_LARGE
    [session] = websocket.sessions
    assert "exceeds limit of 16777216 bytes" in await session.wait_until_closed()


async def test_frame_that_breaks_the_rules_of_websocket_is_refused(websocket: CoordinatorEnd) -> None:
    async with bare_peer(websocket) as peer:
        peer.write(b"\x82\x01x")  # not masked
        assert await peer.read_until_closed() == (1002, "incorrect masking")


async def test_message_in_fragments_with_a_ping_between_is_whole(websocket: CoordinatorEnd) -> None:
    async with bare_peer(websocket) as peer:
        peer.rules.send_binary(REPORT[:3], fin=False)
        peer.rules.send_ping(b"still there?")
        peer.rules.send_continuation(b"", fin=False)
        peer.rules.send_continuation(REPORT[3:], fin=True)
        peer.flush()
        [session] = websocket.sessions
        assert await session.wait_for_messages(1) == [Report(number=1)]
        await peer.read()
        assert [(frame.opcode, bytes(frame.data)) for frame in peer.frames] == [(Opcode.PONG, b"still there?")]


async def test_one_who_pings_without_reading_is_cut_off(
    websocket: CoordinatorEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_ANSWERS_BYTES_MAX", 64 << 10)
    async with bare_peer(websocket) as peer:
        [session] = websocket.sessions
        peer.rules.send_ping(b"x" * 125)
        ping = b"".join(peer.rules.data_to_send())
        while not session.closed_for:
            peer.write(ping * 1000)
            await asyncio.sleep(0)
    assert session.closed_for == ["cut from this side: it pings without reading the answers"]


async def test_one_who_reads_too_slowly_is_cut_off(
    coordinator: CoordinatorEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"rota.wire.{coordinator.transport}.server.SERVER_BACKLOG_BYTES_MAX", 2 << 20)
    worker, session = await coordinator.worker()
    worker.line.pause_reading()
    big = Assign(Epoch(1), [Assignment(TaskSeq(1), 1, LaneId(1), 1, TaskId("t1"), bytes(1 << 20))])
    while not session.closed_for:
        session.line.send(big)
        await asyncio.sleep(0)
    assert "it reads too slowly" in session.closed_for[0]
    worker.line.resume_reading()
    await worker.wait_until_closed()


# What we do wrong -----------------------------------------------------------------------------


class FailsToOpen(Recorder[FromPeer, ToPeer]):
    def opened(self, channel: Channel[ToPeer]) -> None:
        super().opened(channel)
        raise ZeroDivisionError


class FailsToReceive(Recorder[FromPeer, ToPeer]):
    def received(self, messages: list[FromPeer]) -> None:
        raise ZeroDivisionError


class FailsToClose(Recorder[FromPeer, ToPeer]):
    def closed(self, reason: str) -> None:
        super().closed(reason)
        raise ZeroDivisionError


@pytest.mark.parametrize("failing", [FailsToOpen, FailsToReceive, FailsToClose])
async def test_handler_that_fails_ends_its_own_channel_only(
    coordinator: CoordinatorEnd, failing: type[Recorder[FromPeer, ToPeer]]
) -> None:
    other, other_session = await coordinator.worker()
    coordinator.decide = failing
    with capture_logs() as logs:
        worker, session = await coordinator.worker()
        worker.line.send(Report(number=1))
        if failing is FailsToClose:
            worker.line.close(code=CloseCode.NORMAL, reason="internal error (1011)")
        assert "internal error (1011)" in await worker.wait_until_closed()
        await session.wait_until_closed()
    assert [entry["event"] for entry in logs] == ["channel_handler_failed"]
    other_session.line.send(HeartbeatAck(sent_at=1.0))
    await other.wait_for_messages(1)


async def test_no_descriptor_is_left_behind(coordinator: CoordinatorEnd) -> None:
    async with stranger(coordinator):
        before = len(os.listdir("/proc/self/fd"))  # with those of one channel: gRPC closes the last one in its own time
    await wait_until_async(lambda: not coordinator.connections, what="the end of the first")
    for data in (b"\xc1", REPORT, b""):
        async with stranger(coordinator) as peer:
            peer.say(data)
    await wait_until_async(lambda: not coordinator.connections, what="the end of the connections")
    await wait_until_async(lambda: len(os.listdir("/proc/self/fd")) <= before, what="the end of the sockets")
