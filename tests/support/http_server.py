"""A real HTTP server around an application, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from rota.coordinator.http import HttpApp
from rota.coordinator.main import server_config
from tests.support.waiting import wait_until_async

__all__ = ["RunningServer", "running_server"]


class _Server(uvicorn.Server):
    """A server that leaves the signals to the tests, and sees at once that it is to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()


@dataclass
class RunningServer:
    """A server that listens on ``port`` of the loopback address."""

    app: HttpApp
    port: int
    server: _Server
    serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop as the coordinator does: end the streams, then wait for the connections."""
        self.app.stop_streams()
        self.server.stopping.set()
        await asyncio.wait_for(asyncio.shield(self.serving), 10.0)

    async def wait_until_left(self) -> None:
        """Wait until it has noticed that all connections are gone."""
        await wait_until_async(lambda: not self.server.server_state.connections, what="the end of all connections")

    async def talk(self, request: bytes) -> bytes:
        """Send bytes as they are, end the sending side, and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 5.0)
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def running_server(
    app: HttpApp, *, channels: type[asyncio.Protocol] | None = None
) -> AsyncIterator[RunningServer]:
    """Serve ``app``, and channels beside it, until the block ends."""
    # Said to be TCP, since asyncio switches Nagle's delay off (40 ms an answer) only where it is said.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = _Server(server_config(app, channels=channels or "none"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    running = RunningServer(app, listener.getsockname()[1], server, serving)
    try:
        await wait_until_async(lambda: server.started, what="the server to start")
        yield running
        await running.stop()
    finally:
        serving.cancel()
        await asyncio.wait((serving,))
        listener.close()
