"""Whatever frames come, and however the stream ends: the server's end survives, says its end once and is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

from grpc import aio
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.protocol import Report, ReportAck
from rota.wire.channel import CloseCode
from rota.wire.grpc.frames import close_frame, pack, unpack
from rota.wire.grpc.server import ChannelService
from rota.wire.messages import COORDINATOR_CODEC, WORKER_CODEC, BadMessage, FromPeer, ToPeer
from tests.support.channels import Recorder

REPORT: Final = WORKER_CODEC.encode(Report(number=7))


class ScriptedContext:
    """A call whose other side says these frames and ends the stream, or is lost: then gRPC cancels the handler."""

    def __init__(self, frames: Sequence[bytes], *, is_lost: bool) -> None:
        self._frames = list(frames)
        self._is_lost = is_lost
        self.written: list[bytes] = []
        self.handler: asyncio.Task[None]

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    async def send_initial_metadata(self, metadata: object) -> None:
        await asyncio.sleep(0)

    async def read(self) -> object:
        await asyncio.sleep(0)
        if self._frames:
            return self._frames.pop(0)
        if self._is_lost:
            self.handler.cancel()
            await asyncio.get_running_loop().create_future()
        return aio.EOF

    async def write(self, frame: bytes) -> None:
        self.written.append(frame)
        await asyncio.sleep(0)


class Chatty(Recorder[FromPeer, ToPeer]):
    """Answers everything, so that something may be on its way when the end comes."""

    def received(self, messages: list[FromPeer]) -> None:
        super().received(messages)
        for _ in messages:
            self.line.send(ReportAck(number=7))


frames = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.one_of(st.just(REPORT), st.binary(max_size=10)), max_size=4).map(pack),
        st.sampled_from([b"", close_frame(CloseCode.NORMAL, "bye"), pack([REPORT]), pack([REPORT] * 3)]),
    ),
    max_size=8,
)


def converse(said: Sequence[bytes], *, is_lost: bool) -> tuple[Chatty, ScriptedContext, int]:
    async def run() -> tuple[Chatty, ScriptedContext, int]:
        session = Chatty()
        service = ChannelService(lambda _: session, COORDINATOR_CODEC)
        context = ScriptedContext(said, is_lost=is_lost)
        context.handler = asyncio.create_task(service.Open(None, cast(Any, context)))
        await asyncio.wait([context.handler], timeout=10.0)
        assert context.handler.done()
        return session, context, len(service)

    return asyncio.run(run())


def expected_messages(said: Sequence[bytes]) -> int:
    """How many reports a frame after the other brings, until one is wrong or says the end: a dumb reader."""
    count = 0
    for frame in said:
        try:
            messages, close = unpack(frame)
        except BadMessage:
            return count
        for message in messages:
            if message != REPORT:
                return count
            count += 1
        if close is not None:
            return count
    return count


@settings(max_examples=200)
@given(frames, st.booleans())
def test_stream_survives_any_frames_and_ends_once(said: list[bytes], is_lost: bool) -> None:
    session, _, left = converse(said, is_lost=is_lost)
    assert len(session.closed_for) == 1
    assert session.closed_for[0]
    assert not left
    assert len(session.messages) == expected_messages(said)


@given(st.lists(st.integers(0, 5), max_size=6))
def test_messages_arrive_however_they_are_framed(counts: list[int]) -> None:
    session, context, _ = converse([pack([REPORT] * count) for count in counts], is_lost=False)
    assert session.messages == [Report(number=7)] * sum(counts)
    answer = COORDINATOR_CODEC.encode(ReportAck(number=7))
    assert all(set(unpack(frame)[0]) <= {answer} for frame in context.written)
