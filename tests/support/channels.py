"""Both ends of a real channel, over either transport: a coordinator's port, and handlers that remember."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import grpc
import pytest
import uvicorn
import uvloop
from grpc import aio

from rota.coordinator.grpc.handlers import Contract, generic_handler
from rota.coordinator.metrics import Counters
from rota.core.protocol import FromCoordinator, FromWorker
from rota.v1 import channel_pb2
from rota.wire.channel import Channel, Transport
from rota.wire.grpc import client as grpc_client
from rota.wire.grpc.frames import FRAME_BYTES_MAX
from rota.wire.grpc.server import SERVER_OPTIONS, ChannelService
from rota.wire.handshake import Handshake, Refusal
from rota.wire.messages import COORDINATOR_CODEC, WORKER_CODEC, FromPeer, ToPeer
from rota.wire.websocket import client as websocket_client
from rota.wire.websocket.server import channel_protocol
from tests.support.waiting import wait_until_async

__all__ = [
    "TRANSPORTS",
    "CoordinatorEnd",
    "GrpcEnd",
    "Recorder",
    "WebSocketEnd",
    "WorkerEnd",
    "on_both_loops",
    "on_every_transport",
    "open_channel",
    "serve_channels",
]


TRANSPORTS: Final[tuple[Transport, ...]] = ("websocket", "grpc")

STOP_S: Final = 5.0
"""For open channels, when a server stops."""

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


WorkerEnd = Recorder[FromCoordinator, FromWorker]


async def open_channel(
    url: str,
    handler: WorkerEnd,
    *,
    token: str | None = None,
    timeout_s: float = 5.0,
    ca_file: Path | None = None,
) -> Channel[FromWorker]:
    """Connect a worker by the transport that the URL names."""
    connect = grpc_client.connect if url.startswith("grpc") else websocket_client.connect
    return await connect(url, handler, codec=WORKER_CODEC, token=token, timeout_s=timeout_s, ca_file=ca_file)


class CoordinatorEnd(ABC):
    """A server on a free port of loopback, with what it saw.

    ``decide`` is asked at each handshake; by default everybody gets a `Recorder`, kept in ``sessions``.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.sessions: list[Recorder[FromPeer, ToPeer]] = []
        self.handshakes: list[Handshake] = []
        self.decide: Callable[[], Recorder[FromPeer, ToPeer] | Refusal] = Recorder
        self.certificate = certificate
        self.port = 0

    @property
    @abstractmethod
    def transport(self) -> Transport: ...

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    @abstractmethod
    def connections(self) -> int:
        """How many channels the server thinks it has."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    def begin_stop(self) -> None:
        """Let the server leave."""

    @abstractmethod
    async def stop(self) -> None:
        """Let it leave, and see that it does."""

    def accept(self, handshake: Handshake) -> Recorder[FromPeer, ToPeer] | Refusal:
        self.handshakes.append(handshake)
        decision = self.decide()
        if isinstance(decision, Recorder):
            self.sessions.append(decision)
        return decision

    async def worker(self) -> tuple[WorkerEnd, Recorder[FromPeer, ToPeer]]:
        """Connect a worker; return its end and the coordinator's."""
        handler: WorkerEnd = Recorder()
        await open_channel(self.url, handler, ca_file=self.certificate)
        return handler, self.sessions[-1]


class WebSocketEnd(CoordinatorEnd):
    """The HTTP port, as uvicorn serves it."""

    transport: Final = "websocket"
    server: _Server
    _serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            _app,
            ws=channel_protocol(self.accept, COORDINATOR_CODEC),
            http="httptools",
            lifespan="off",
            log_config=None,
            ssl_certfile=str(self.certificate) if self.certificate else None,
        )
        self.server = _Server(config)
        self._serving = asyncio.create_task(self.server.serve(sockets=[listener]))
        await wait_until_async(lambda: self.server.started, what="the server")

    def begin_stop(self) -> None:
        self.server.should_exit = True

    async def stop(self) -> None:
        self.begin_stop()
        await asyncio.wait_for(self._serving, 2 * STOP_S)


class GrpcEnd(CoordinatorEnd):
    """The gRPC port, with nothing on it but channels."""

    transport: Final = "grpc"
    server: aio.Server
    channels: ChannelService[FromPeer, ToPeer]

    @property
    def url(self) -> str:
        return f"{'grpcs' if self.certificate else 'grpc'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.channels)

    async def start(self) -> None:
        self.channels = ChannelService(self.accept, COORDINATOR_CODEC)
        contract = Contract(channel_pb2.DESCRIPTOR.services_by_name["Channel"], self.channels, is_raw=True)
        self.server = aio.server(options=[*SERVER_OPTIONS, ("grpc.max_receive_message_length", FRAME_BYTES_MAX)])
        self.server.add_generic_rpc_handlers((generic_handler(contract, Counters()),))
        address = "127.0.0.1:0"
        if self.certificate is None:
            self.port = self.server.add_insecure_port(address)
        else:
            both = self.certificate.read_bytes()
            self.port = self.server.add_secure_port(address, grpc.ssl_server_credentials([(both, both)]))
        await self.server.start()

    def begin_stop(self) -> None:
        self.channels.close_all()

    async def stop(self) -> None:
        self.begin_stop()
        await asyncio.wait_for(self.server.stop(STOP_S), 2 * STOP_S)


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
async def serve_channels(
    transport: Transport = "websocket", *, certificate: Path | None = None
) -> AsyncIterator[CoordinatorEnd]:
    """Serve until the block ends; nothing may be left connected then for longer than a close takes."""
    end = GrpcEnd(certificate) if transport == "grpc" else WebSocketEnd(certificate)
    await end.start()
    try:
        yield end
    finally:
        await end.stop()


def on_both_loops(test: Callable[[CoordinatorEnd], Awaitable[None]]) -> Callable[[str], None]:
    """Run a test with a WebSocket server, once on asyncio's own loop and once on uvloop: their transports differ."""
    return _with_servers(test, {"asyncio": ("websocket", "asyncio"), "uvloop": ("websocket", "uvloop")})


def on_every_transport(test: Callable[[CoordinatorEnd], Awaitable[None]]) -> Callable[[str], None]:
    """Run a test with a server of each kind: both loops as well, and gRPC, which is the same on either, on ours."""
    return _with_servers(
        test, {"asyncio": ("websocket", "asyncio"), "uvloop": ("websocket", "uvloop"), "grpc": ("grpc", "uvloop")}
    )


def _with_servers(
    test: Callable[[CoordinatorEnd], Awaitable[None]], ways: dict[str, tuple[Transport, str]]
) -> Callable[[str], None]:
    async def with_server(transport: Transport) -> None:
        async with serve_channels(transport) as end:
            await test(end)

    def run(way: str) -> None:
        transport, loop = ways[way]
        make = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(with_server(transport))

    run.__name__ = run.__qualname__ = test.__name__
    run.__module__ = test.__module__
    return pytest.mark.parametrize("way", list(ways))(run)
