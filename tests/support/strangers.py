"""Those who speak to a coordinator's port as no worker would: garbage, half a message, too much of everything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from grpc import aio
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import parse_uri

from rota.wire.channel import CHANNEL_PATH
from rota.wire.grpc.frames import METHOD, pack, unpack
from tests.support.channels import CoordinatorEnd

__all__ = ["BarePeer", "BareStream", "Stranger", "bare_peer", "bare_stream", "stranger"]


class Stranger(Protocol):
    """One open channel with nobody behind it that knows the messages."""

    def say(self, message: bytes) -> None:
        """Send what would be one message."""

    def reset(self) -> None:
        """Vanish without a word."""

    async def read_until_closed(self) -> tuple[int, str]:
        """Return the code and the reason with which the other side closed."""


def stranger(end: CoordinatorEnd) -> AbstractAsyncContextManager[Stranger]:
    """Connect one by the transport of the server."""
    return bare_stream(end) if end.transport == "grpc" else bare_peer(end)


class BarePeer:
    """A client that writes what it is told to and remembers the frames that come back."""

    def __init__(self, rules: ClientProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.rules = rules
        self._reader = reader
        self._writer = writer
        self.frames: list[Frame] = []

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def say(self, message: bytes) -> None:
        """Send what would be one message."""
        self.rules.send_binary(message)
        self.flush()

    def flush(self) -> None:
        """Write what the library has to send."""
        self._writer.write(b"".join(self.rules.data_to_send()))

    def reset(self) -> None:
        """Vanish without a word: the other side sees a reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._writer.transport.abort()

    async def read(self) -> bool:
        """Read once; return whether the other side is still there."""
        data = await asyncio.wait_for(self._reader.read(1 << 16), 5.0)
        if data:
            self.rules.receive_data(data)
        else:
            self.rules.receive_eof()
        self.frames += [event for event in self.rules.events_received() if isinstance(event, Frame)]
        return bool(data)

    async def read_until_closed(self) -> tuple[int, str]:
        """Return the code and the reason with which the other side closed."""
        while await self.read():
            pass
        assert self.rules.close_rcvd is not None
        return self.rules.close_rcvd.code, self.rules.close_rcvd.reason


@contextlib.asynccontextmanager
async def bare_peer(end: CoordinatorEnd, *, path: str = CHANNEL_PATH) -> AsyncIterator[BarePeer]:
    """Connect a bare peer and do the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", end.port)
    rules = ClientProtocol(parse_uri(f"ws://127.0.0.1:{end.port}{path}"), max_size=None)
    peer = BarePeer(rules, reader, writer)
    rules.send_request(rules.connect())
    peer.flush()
    try:
        await peer.read()
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class BareStream:
    """A client of gRPC that writes the frames it is told to."""

    def __init__(self, call: aio.StreamStreamCall[bytes, bytes]) -> None:
        self.call = call
        self._writes: set[asyncio.Task[None]] = set()
        self._last: asyncio.Task[None] | None = None

    def say(self, message: bytes) -> None:
        self.write(pack([message]))

    def write(self, frame: bytes) -> None:
        """Write a frame behind those before it, without waiting."""
        before, self._last = self._last, None

        async def write() -> None:
            if before is not None:
                await before
            with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
                await self.call.write(frame)

        self._last = asyncio.create_task(write())
        self._writes.add(self._last)
        self._last.add_done_callback(self._writes.discard)

    def reset(self) -> None:
        self.call.cancel()

    async def read(self) -> bytes | None:
        """Return the next frame, ``None`` at the end of a stream that ended well."""
        frame: Any = await asyncio.wait_for(self.call.read(), 5.0)
        return None if frame is aio.EOF else frame

    async def read_until_closed(self) -> tuple[int, str]:
        while (frame := await self.read()) is not None:
            _, close = unpack(frame)
            if close is not None:
                await self.call.done_writing()
                assert await self.read() is None, "something came after the close"
                return close.code, close.reason
        raise AssertionError("it ended without a close")


@contextlib.asynccontextmanager
async def bare_stream(end: CoordinatorEnd) -> AsyncIterator[BareStream]:
    """Open a bare stream, and wait until it is accepted."""
    async with aio.insecure_channel(f"127.0.0.1:{end.port}", options=(("grpc.use_local_subchannel_pool", 1),)) as line:
        call: aio.StreamStreamCall[bytes, bytes] = line.stream_stream(METHOD)()
        await asyncio.wait_for(call.initial_metadata(), 5.0)
        stream = BareStream(call)
        assert await stream.read() == b"", "proxies hold metadata back until something follows"
        yield stream
