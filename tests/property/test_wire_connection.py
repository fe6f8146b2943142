"""Whatever bytes come, and however they are cut: the server's end survives, says its end once and is forgotten."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from rota.core.protocol import Report
from rota.wire.channel import CHANNEL_PATH
from rota.wire.messages import COORDINATOR_CODEC, WORKER_CODEC, FromPeer, ToPeer
from rota.wire.websocket.server import channel_protocol
from tests.support.channels import Recorder

REPORT: Final = WORKER_CODEC.encode(Report(number=7))


class MemoryTransport(asyncio.Transport):
    """What a peer would see: the bytes written, and whether the connection was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_ended = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_ended
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.is_ended
        self.is_ended = True

    def abort(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()  # what had the connection before


def handshake() -> bytes:
    rules = ClientProtocol(parse_uri(f"ws://127.0.0.1:8080{CHANNEL_PATH}"))
    rules.send_request(rules.connect())
    return b"".join(rules.data_to_send())


frames = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\x89\x80\0\0\0\0", b"\x88\x80\0\0\0\0", b"\x81\x80\0\0\0\0", b"\x02\x80\0\0\0\0"]),
        st.sampled_from([b"\x80\x80\0\0\0\0", b"\x82\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0"]),
        st.just(b"\x82" + bytes([0x80 | len(REPORT)]) + b"\0\0\0\0" + REPORT),
    ),
    max_size=8,
)


class Conversation:
    """One connection of the server's end with a peer of our making."""

    def __init__(self) -> None:
        self.state = ServerState()
        self.session: Recorder[FromPeer, ToPeer] = Recorder()
        self.transport = MemoryTransport()
        make = channel_protocol(lambda _: self.session, COORDINATOR_CODEC)
        self.protocol = make(config=None, server_state=self.state, app_state={})  # type: ignore[call-arg]  # as uvicorn
        self.protocol.connection_made(self.transport)

    async def run(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self.protocol.data_received(chunk)
            await asyncio.sleep(0)
        self.protocol.eof_received()
        self.protocol.connection_lost(None)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def converse(chunks: list[bytes]) -> Conversation:
    async def run() -> Conversation:
        conversation = Conversation()
        await conversation.run(chunks)
        return conversation

    return asyncio.run(run())


@settings(max_examples=200)
@given(frames, st.lists(st.integers(0, 10**6), max_size=6))
def test_channel_survives_any_bytes_and_ends_once(parts: list[bytes], places: list[int]) -> None:
    conversation = converse([handshake(), *cut(b"".join(parts), places)])
    assert conversation.session.channel is not None
    assert len(conversation.session.closed_for) == 1
    assert conversation.session.closed_for[0]
    assert not conversation.state.connections


@given(st.binary(max_size=400), st.lists(st.integers(0, 10**6), max_size=6))
def test_bytes_that_are_no_handshake_open_nothing(data: bytes, places: list[int]) -> None:
    conversation = converse(cut(data, places))
    assert conversation.session.channel is None
    assert conversation.session.closed_for == []
    assert not conversation.state.connections


@given(st.lists(st.integers(0, 10**6), max_size=12))
def test_messages_arrive_however_the_bytes_are_cut(places: list[int]) -> None:
    one = b"\x82" + bytes([0x80 | len(REPORT)]) + b"\0\0\0\0" + REPORT
    conversation = converse([handshake(), *cut(one * 5, places)])
    assert conversation.session.messages == [Report(number=7)] * 5
