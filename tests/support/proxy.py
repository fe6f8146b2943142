"""A network that breaks when a test says so: a TCP proxy between a worker and its coordinator.

Three faults: `cut` closes every connection at once, `freeze` leaves them open and lets nothing more
through (the other side is gone without a word), `say_downstream` slips bytes in. The
proxy's port stays the same, so a worker that comes back comes through it again.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["Proxy", "running_proxy"]

CHUNK_BYTES: Final = 64 << 10


class Proxy:
    """What a test sees of it. Its methods may be called from any thread."""

    def __init__(self, target_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self._target_port = target_port
        self._loop = loop
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset all connections; new ones go through."""
        self._call(self._abort_all)

    def freeze(self) -> None:
        """Let nothing through any more, of old connections and of new ones, and close none."""
        self._call(self._passing.clear)

    def heal(self) -> None:
        """Reset what was frozen, and let new connections through."""
        self._call(self._abort_all)
        self._call(self._passing.set)

    def say_downstream(self, data: bytes) -> None:
        """Slip bytes into what the coordinator sends."""

        def say() -> None:
            for client, _ in self._connections:
                client.write(data)

        self._call(say)

    async def serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        self.accepted += 1
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            client.transport.abort()
            return
        pair = (client, server)
        self._connections.add(pair)
        pumps = {
            asyncio.create_task(self._pump(client_reader, server)),
            asyncio.create_task(self._pump(server_reader, client)),
        }
        self._pumps |= pumps
        await asyncio.wait(pumps)
        self._pumps -= pumps
        self._connections.discard(pair)

    async def close(self) -> None:
        """Break everything off."""
        self._abort_all()
        for task in self._pumps:
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def _abort_all(self) -> None:
        for client, server in self._connections:
            client.transport.abort()
            server.transport.abort()

    def _call(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(10.0)


@contextmanager
def running_proxy(target_port: int) -> Iterator[Proxy]:
    """Run a proxy to a port of this machine, in a thread, until the block ends."""
    found: list[tuple[Proxy, asyncio.Event, asyncio.AbstractEventLoop]] = []
    ready = threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        proxy, stop = Proxy(target_port, loop), asyncio.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        proxy.port = listener.getsockname()[1]
        server = await asyncio.start_server(proxy.serve, sock=listener)
        found.append((proxy, stop, loop))
        ready.set()
        await stop.wait()
        server.close()
        await proxy.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="proxy")
    thread.start()
    try:
        assert ready.wait(10.0)
        yield found[0][0]
    finally:
        _, stop, loop = found[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10.0)
