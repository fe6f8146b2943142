"""Both ends of a real channel: a coordinator's port served by uvicorn, handlers that remember, and a bare peer.

The bare peer speaks WebSocket by hand where a worker never would: garbage, text, half a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
import uvicorn
import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import parse_uri

from rota.core.protocol import FromCoordinator, FromWorker
from rota.wire.channel import CHANNEL_PATH, Channel
from rota.wire.handshake import Handshake, Refusal
from rota.wire.messages import COORDINATOR_CODEC, WORKER_CODEC, FromPeer, ToPeer
from rota.wire.websocket.client import connect
from rota.wire.websocket.server import channel_protocol
from tests.support.waiting import wait_until_async

__all__ = ["BarePeer", "CoordinatorEnd", "Recorder", "bare_peer", "on_both_loops", "serve_channels"]

In = TypeVar("In")
Out = TypeVar("Out")


class Recorder(Generic[In, Out]):
    """A handler that keeps what it is told, in ``batches`` as they came."""

    def __init__(self) -> None:
        self.channel: Channel[Out] | None = None
        self.batches: list[list[In]] = []
        self.closed_for: list[str] = []

    @property
    def messages(self) -> list[In]:
        return [message for batch in self.batches for message in batch]

    @property
    def line(self) -> Channel[Out]:
        """The channel, which must be open or have been."""
        assert self.channel is not None
        return self.channel

    def opened(self, channel: Channel[Out]) -> None:
        assert self.channel is None
        self.channel = channel

    def received(self, messages: list[In]) -> None:
        assert messages
        assert not self.closed_for
        self.batches.append(messages)

    def closed(self, reason: str) -> None:
        self.closed_for.append(reason)

    async def wait_for_messages(self, count: int) -> list[In]:
        await wait_until_async(lambda: len(self.messages) >= count, what=f"{count} messages")
        return self.messages

    async def wait_until_closed(self) -> str:
        await wait_until_async(lambda: self.closed_for, what="the end of the channel")
        [reason] = self.closed_for
        return reason


class CoordinatorEnd:
    """A server on a free port of loopback, with what it saw.

    ``decide`` is asked at each handshake; by default everybody gets a `Recorder`, kept in ``sessions``.
    """

    def __init__(self) -> None:
        self.sessions: list[Recorder[FromPeer, ToPeer]] = []
        self.handshakes: list[Handshake] = []
        self.decide: Callable[[], Recorder[FromPeer, ToPeer] | Refusal] = Recorder
        self.scheme = "http"
        self.port = 0
        self.server: _Server

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> set[object]:
        """What uvicorn thinks is connected."""
        return set(self.server.server_state.connections)

    def accept(self, handshake: Handshake) -> Recorder[FromPeer, ToPeer] | Refusal:
        self.handshakes.append(handshake)
        decision = self.decide()
        if isinstance(decision, Recorder):
            self.sessions.append(decision)
        return decision

    async def worker(
        self,
    ) -> tuple[Recorder[FromCoordinator, FromWorker], Recorder[FromPeer, ToPeer]]:
        """Connect a worker; return its end and the coordinator's."""
        handler: Recorder[FromCoordinator, FromWorker] = Recorder()
        await connect(self.url, handler, codec=WORKER_CODEC, token=None, timeout_s=5.0, verify=False)
        return handler, self.sessions[-1]


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """Says hello to every request, so that tests see that HTTP goes on beside the channels."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def serve_channels(*, certificate: Path | None = None) -> AsyncIterator[CoordinatorEnd]:
    """Serve until the block ends; nothing may be left connected then for longer than a close takes."""
    end = CoordinatorEnd()
    listener = socket.create_server(("127.0.0.1", 0))
    end.port = listener.getsockname()[1]
    end.scheme = "https" if certificate else "http"
    config = uvicorn.Config(
        _app,
        ws=channel_protocol(end.accept, COORDINATOR_CODEC),
        http="httptools",
        lifespan="off",
        log_config=None,
        ssl_certfile=str(certificate) if certificate else None,
    )
    end.server = _Server(config)
    serving = asyncio.create_task(end.server.serve(sockets=[listener]))
    try:
        await wait_until_async(lambda: end.server.started, what="the server")
        yield end
    finally:
        end.server.should_exit = True
        await asyncio.wait_for(serving, 10.0)


class BarePeer:
    """A client that writes what it is told to and remembers the frames that come back."""

    def __init__(self, rules: ClientProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.rules = rules
        self._reader = reader
        self._writer = writer
        self.frames: list[Frame] = []

    def write(self, data: bytes) -> None:
        self._writer.write(data)

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
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", end.port, ssl=_trusting() if end.scheme == "https" else None
    )
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


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def on_both_loops(test: Callable[[CoordinatorEnd], Awaitable[None]]) -> Callable[[str], None]:
    """Run a test with a server, once on asyncio's own loop and once on uvloop: their transports differ."""

    async def with_server() -> None:
        async with serve_channels() as end:
            await test(end)

    def run(loop: str) -> None:
        make = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(with_server())

    run.__name__ = run.__qualname__ = test.__name__
    run.__module__ = test.__module__
    return pytest.mark.parametrize("loop", ["asyncio", "uvloop"])(run)
