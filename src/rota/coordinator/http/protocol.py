"""Uvicorn's HTTP protocol with one system call a response instead of two.

Uvicorn writes the head and the body of a response one after the other, and the transport sends each at once: two
system calls here, two wake-ups of the client. What is written in one turn of the loop is sent together.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["JoiningHttpProtocol"]


class JoiningHttpProtocol(HttpToolsProtocol):
    """Speaks HTTP through a transport that joins writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what uvicorn casts to
        """Take a connection, and put the joining in front of it."""
        self._bare_transport = transport
        super().connection_made(cast(asyncio.Transport, _JoinedWrites(transport, self.loop)))

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over as it came: a channel joins its writes by itself."""
        self.transport = self._bare_transport
        super().handle_websocket_upgrade()


class _JoinedWrites:
    """A transport whose writes wait for the end of this turn of the loop; all else goes through."""

    __slots__ = ("_chunks", "_loop", "_transport", "get_extra_info", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._chunks: list[bytes] = []
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._chunks.clear()
        self._transport.abort()

    def _flush(self) -> None:
        chunks, self._chunks = self._chunks, []
        if chunks and not self._transport.is_closing():
            self._transport.writelines(chunks)
