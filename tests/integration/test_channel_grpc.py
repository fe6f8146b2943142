"""What only a channel over gRPC can meet: frames, streams that share a connection, ends without a word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from grpc import StatusCode, aio

from rota.core.model import Epoch, LaneId, TaskId, TaskSeq
from rota.core.protocol import Assign, Assignment, OutputChunk, Report, ReportAck
from rota.wire.channel import CloseCode
from rota.wire.grpc import client, connection
from rota.wire.grpc.frames import FRAME_BYTES_MAX, METHOD, close_frame, pack, unpack
from rota.wire.handshake import Refusal
from rota.wire.messages import COORDINATOR_CODEC, MESSAGE_BYTES_MAX, WORKER_CODEC
from tests.support import channels
from tests.support.channels import CoordinatorEnd, Recorder, WorkerEnd, open_channel, serve_channels
from tests.support.proxy import running_proxy
from tests.support.strangers import BareStream, bare_stream
from tests.support.waiting import wait_until_async

REPORT = WORKER_CODEC.encode(Report(number=1))


@pytest.fixture
async def coordinator() -> AsyncIterator[CoordinatorEnd]:
    async with serve_channels("grpc") as end:
        yield end


def big_assign(size: int) -> Assign:
    return Assign(Epoch(1), [Assignment(TaskSeq(1), 1, LaneId(1), 1, TaskId("t1"), bytes(size))])


# Frames ---------------------------------------------------------------------------------------


async def test_of_a_frame_the_messages_before_the_bad_one_count(coordinator: CoordinatorEnd) -> None:
    async with bare_stream(coordinator) as stream:
        stream.write(pack([REPORT, b"\xc1garbage", REPORT]))
        assert (await stream.read_until_closed())[0] == CloseCode.BAD_MESSAGE
    assert coordinator.sessions[0].messages == [Report(number=1)]


async def test_bytes_that_are_no_frame_close_the_channel(coordinator: CoordinatorEnd) -> None:
    async with bare_stream(coordinator) as stream:
        stream.write(b"\xff\xff\xff")
        assert await stream.read_until_closed() == (1007, "3 bytes that are no frame of this protocol")


async def test_frame_without_messages_says_nothing(coordinator: CoordinatorEnd) -> None:
    async with bare_stream(coordinator) as stream:
        stream.write(b"")
        stream.say(REPORT)
        assert await coordinator.sessions[0].wait_for_messages(1) == [Report(number=1)]


async def test_frame_over_the_limit_ends_its_own_stream_before_it_is_there(coordinator: CoordinatorEnd) -> None:
    other, other_session = await coordinator.worker()
    async with bare_stream(coordinator) as stream:
        stream.write(bytes(FRAME_BYTES_MAX + 1))
        with pytest.raises(aio.AioRpcError, match="Received message larger than max") as caught:
            await stream.read()
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        await coordinator.sessions[-1].wait_until_closed()
    other_session.line.send(ReportAck(number=1))
    await other.wait_for_messages(1)


async def test_message_over_the_limit_of_its_kind_is_refused_by_name(coordinator: CoordinatorEnd) -> None:
    chunk = OutputChunk(TaskSeq(1), 1, "stdout", 0, bytes(MESSAGE_BYTES_MAX))
    too_large = msgspec.msgpack.encode(Report(number=1, output=[chunk]))
    async with bare_stream(coordinator) as stream:
        stream.say(too_large)
        code, reason = await stream.read_until_closed()
    assert code == CloseCode.TOO_LARGE
    assert reason.startswith("a Report of 2,097,")


# Ends -----------------------------------------------------------------------------------------


async def test_stream_that_is_ended_without_a_word_is_a_cut(coordinator: CoordinatorEnd) -> None:
    async with bare_stream(coordinator) as stream:
        await stream.call.done_writing()
        assert await stream.read() is None
        assert await stream.call.code() is StatusCode.OK
    assert await coordinator.sessions[0].wait_until_closed() == "the connection was cut without a word"


async def test_nothing_is_received_after_a_close(coordinator: CoordinatorEnd) -> None:
    async with bare_stream(coordinator) as stream:
        stream.write(close_frame(CloseCode.GOING_AWAY, "bye"))
        stream.say(REPORT)
        with contextlib.suppress(aio.AioRpcError):  # the stream has ended, maybe while that was written
            assert await stream.read() is None
    [session] = coordinator.sessions
    assert await session.wait_until_closed() == "closed by the other side: bye (1001)"
    assert session.messages == []


async def test_both_may_close_at_once(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    worker.line.close(code=CloseCode.NORMAL, reason="mine")
    session.line.close(code=CloseCode.NORMAL, reason="ours")
    assert await worker.wait_until_closed() == "closed from this side: mine"
    assert await session.wait_until_closed() == "closed from this side: ours"
    await wait_until_async(lambda: not coordinator.connections, what="the end of the stream")


async def test_reason_of_a_close_stays_a_sentence(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    worker.line.close(code=CloseCode.POLICY, reason="é" * 100_000)
    assert await session.wait_until_closed() == f"closed by the other side: {'é' * 1000} (1008)"


async def test_network_that_breaks_ends_the_channel_on_both_sides(coordinator: CoordinatorEnd) -> None:
    worker: WorkerEnd = Recorder()
    with running_proxy(coordinator.port) as proxy:
        await open_channel(f"grpc://127.0.0.1:{proxy.port}", worker)
        proxy.cut()
    assert (await worker.wait_until_closed()).startswith("the connection was lost: ")
    assert await coordinator.sessions[0].wait_until_closed() == "the connection was cut without a word"


async def test_close_reaches_nobody_over_a_network_that_is_frozen(
    coordinator: CoordinatorEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_GRACE_S", 0.2)
    worker: WorkerEnd = Recorder()
    with running_proxy(coordinator.port) as proxy:
        channel = await open_channel(f"grpc://127.0.0.1:{proxy.port}", worker)
        proxy.freeze()
        channel.close(code=CloseCode.NORMAL, reason="nothing was answered")
        assert await worker.wait_until_closed() == "closed from this side: nothing was answered"
        session = coordinator.sessions[0]
        session.line.close(code=CloseCode.NORMAL, reason="nothing was heard")
        assert await session.wait_until_closed() == "closed from this side: nothing was heard"
        proxy.heal()


async def test_connection_whose_other_end_has_vanished_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((client, "CLIENT_OPTIONS"), (channels, "SERVER_OPTIONS")):
        monkeypatch.setattr(module, name, [impatient(*option) for option in getattr(module, name)])
    worker: WorkerEnd = Recorder()
    async with serve_channels("grpc") as coordinator:
        with running_proxy(coordinator.port) as proxy:
            await open_channel(f"grpc://127.0.0.1:{proxy.port}", worker)
            proxy.freeze()
            assert "ping timeout" in await worker.wait_until_closed()
            assert await coordinator.sessions[0].wait_until_closed() == "the connection was cut without a word"
            proxy.heal()


def impatient(option: str, value: int) -> tuple[str, int]:
    return option, 500 if option.endswith(("time_ms", "timeout_ms")) else value


async def test_one_who_never_reads_is_let_go(coordinator: CoordinatorEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_GRACE_S", 0.2)
    async with bare_stream(coordinator):
        [session] = coordinator.sessions
        while session.line.backlog_bytes < 4 << 20:
            session.line.send(big_assign(1 << 20))
            await asyncio.sleep(0)
        session.line.close(code=CloseCode.TRY_LATER, reason="the worker reads too slowly")
        assert await session.wait_until_closed() == "closed from this side: the worker reads too slowly"
        await wait_until_async(lambda: not coordinator.connections, what="the end of the stream")


async def test_refusal_carries_the_code_of_the_error(coordinator: CoordinatorEnd) -> None:
    coordinator.decide = lambda: Refusal(503, "store_unavailable", "the store is away")
    async with aio.insecure_channel(f"127.0.0.1:{coordinator.port}") as line:
        call: aio.StreamStreamCall[bytes, bytes] = line.stream_stream(METHOD)()
        assert await call.code() is StatusCode.UNAVAILABLE
        assert await call.details() == "the store is away"
        assert (await call.trailing_metadata()).get("rota-code") == "store_unavailable"
        assert not await call.initial_metadata()


# What is under the streams --------------------------------------------------------------------


async def test_streams_of_one_connection_are_channels_of_their_own(coordinator: CoordinatorEnd) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{coordinator.port}") as line:
        calls: list[aio.StreamStreamCall[bytes, bytes]] = []
        for number in range(3):
            calls.append(line.stream_stream(METHOD)())
            assert await frame_of(calls[-1]) == b""
            await calls[-1].write(pack([WORKER_CODEC.encode(Report(number=number))]))
            assert await coordinator.sessions[-1].wait_for_messages(1) == [Report(number=number)]
        calls[1].cancel()
        await coordinator.sessions[1].wait_until_closed()
        coordinator.sessions[2].line.send(ReportAck(number=7))
        messages, _ = unpack(await frame_of(calls[2]))
        assert messages == [COORDINATOR_CODEC.encode(ReportAck(number=7))]
        assert not coordinator.sessions[0].closed_for


async def frame_of(call: aio.StreamStreamCall[bytes, bytes]) -> bytes:
    frame = await BareStream(call).read()
    assert frame is not None
    return frame


@pytest.mark.parametrize(
    "noise",
    [
        b"GET /api/v1/channel HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(1 << 20),
    ],
    ids=["http", "half-http2", "tls", "zeros"],
)
async def test_noise_at_the_port_harms_nobody(coordinator: CoordinatorEnd, noise: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", coordinator.port)
    writer.write(noise)
    worker, session = await coordinator.worker()
    worker.line.send(Report(number=1))
    assert await session.wait_for_messages(1) == [Report(number=1)]
    writer.close()
    assert len(coordinator.sessions) == 1
