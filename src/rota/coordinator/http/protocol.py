"""Uvicorn's HTTP protocol with one system call a response instead of two, and with an end to idleness.

Uvicorn writes the head and the body of a response one after the other, and the transport sends each at once: two
system calls here, two wake-ups of the client. What is written in one turn of the loop is sent together.

And it waits for ever for a request that was begun, or not even that. So anybody, also without a token, could hold as
many connections as the process may have files open; and then it could open no file of its own. Here a
connection on which no request is served has to bring one in time.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["REQUEST_WITHIN_S", "JoiningHttpProtocol"]

REQUEST_WITHIN_S: Final = 30.0
"""For the head of a request, from the first sign of its sender: slow lines need some seconds."""


class JoiningHttpProtocol(HttpToolsProtocol):
    """Speaks HTTP through a transport that joins writes."""

    request_within_s = REQUEST_WITHIN_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what uvicorn casts to
        """Take a connection, and put the joining in front of it."""
        self._bare_transport = transport
        self._deadline: asyncio.TimerHandle | None = None
        super().connection_made(cast(asyncio.Transport, _JoinedWrites(transport, self.loop)))
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Take in what came; it has to become a request soon. The rest of one that is answered already is none."""
        super().data_received(data)
        is_open = self.parser is not None  # neither lost nor handed over
        cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn's type leaves out that it begins as None
        if is_open and (cycle is None or cycle.response_complete):
            self._expect_request()
        else:
            self._stop_expecting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the connection."""
        self._stop_expecting()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over as it came: a channel joins its writes by itself."""
        self.transport = self._bare_transport
        super().handle_websocket_upgrade()

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_within_s, self._bare_transport.abort)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


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
