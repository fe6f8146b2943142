"""What both ends of a WebSocket channel share: bytes to messages, messages to bytes, and a proper end.

The rules of WebSocket are the sans-I/O ``websockets`` library's; here are the transport, the order
of writing and the limits. Small sends of one turn of the loop become one write. Writing stops while the
transport is congested, so that what is urgent can still overtake. No compression: messages are
small or already dense, and it would cost more than it saves.

An end is said before it is done: a close frame goes out, what still comes in is thrown away until
the other side closes too, and after `CLOSE_GRACE_S` the connection is cut. Closing the socket at
once would make the kernel answer unread bytes with a reset, which can destroy the close frame on its way.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar, cast

from websockets.frames import CloseCode as WebSocketCode
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, Protocol, State

from rota.core.errors import TooLarge
from rota.wire.channel import ChannelHandler, CloseCode
from rota.wire.handlers import OUR_MISTAKE, told
from rota.wire.messages import BadMessage, Codec
from rota.wire.outbox import Outbox

__all__ = ["LIBRARY_LOG", "Connection"]

CLOSE_GRACE_S: Final = 2.0
"""How long the other side has to answer a close: ten round trips around the world."""

WRITE_AHEAD_BYTES: Final = 256 << 10
"""What may wait below us, in the transport or unsent in the kernel: urgent messages can't overtake it."""

FULL_WRITE_BYTES: Final = 8 << 10
"""With so much queued, a write waits for no more of this turn: a system call is well shared by some 200 tasks, and
the other side begins while we go on. Without it both fall into step and take turns: 0.5 to 0.6 of bare TCP's
throughput in benchmarks/channel_throughput.py, with it 0.75 to 0.9."""

UNREAD_ANSWERS_BYTES_MAX: Final = 8 << 20
"""Pongs to a peer that pings without reading them: beyond, it is cut off."""

KEEPALIVE_IDLE_S: Final = 5
KEEPALIVE_INTERVAL_S: Final = 5
KEEPALIVE_PROBES: Final = 2
"""An idle connection whose other machine has vanished ends after 5 + 2 × 5 s."""

_REASON_BYTES_MAX: Final = 123
"""What a close frame has room for (RFC 6455, 5.5)."""

LIBRARY_LOG: Final = logging.getLogger("rota.wire.websocket")
"""The library's own log. At debug level it would describe every frame."""

LIBRARY_LOG.setLevel(logging.WARNING)

In = TypeVar("In")
Out = TypeVar("Out")


class Connection(asyncio.Protocol, ABC, Generic[In, Out]):
    """One WebSocket connection, and the `Channel` that it is once its handshake is done.

    Args:
        websocket: The rules, for our side.
        codec: Reads and writes messages.
        backlog_bytes_max: A peer for which more waits is cut off: it reads too slowly.
    """

    def __init__(self, websocket: Protocol, codec: Codec[In, Out], *, backlog_bytes_max: int) -> None:
        self._websocket = websocket
        self._codec = codec
        self._backlog_bytes_max = backlog_bytes_max
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport  # set by connection_made, before anything else is called
        self._handler: ChannelHandler[In, Out] | None = None  # until the handshake is done, and after `closed`
        self.peer = ""
        self._outbox = Outbox()
        self._flush_is_due = False
        self._late_flush: asyncio.TimerHandle | None = None
        self._is_congested = False
        self._is_open = False
        self._fragments = bytearray()
        self._end_reason = ""
        self._cut_timer: asyncio.TimerHandle | None = None

    # The Channel port

    @property
    def backlog_bytes(self) -> int:
        return self._outbox.backlog_bytes

    def send(self, message: Out, *, within_s: float = 0.0) -> None:
        if not self._is_open:
            return
        codec = self._codec
        overtakes = self._is_congested and codec.is_urgent(message)
        self._outbox.put(codec.encode(message), overtakes=overtakes)
        if self._outbox.backlog_bytes > self._backlog_bytes_max:
            self._stop(f"cut from this side: {self._outbox.backlog_bytes:,} bytes wait, it reads too slowly")
            self._transport.abort()
        elif self._is_congested:
            pass  # resume_writing flushes
        elif self._outbox.backlog_bytes >= FULL_WRITE_BYTES:
            self._flush()
        elif self._flush_is_due:
            pass
        elif within_s == 0.0:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        elif self._late_flush is None:
            self._late_flush = self._loop.call_later(within_s, self._flush)

    def close(self, *, code: CloseCode, reason: str) -> None:
        if not self._is_open:
            return
        if self._websocket.state is State.OPEN:  # else the other side's end came in the same read
            for frame in self._outbox.take(self._outbox.backlog_bytes):
                self._websocket.send_binary(frame)
            self._websocket.send_close(code, _shortened(reason))
        self._stop(f"closed from this side: {reason}")
        self._write()

    def pause_reading(self) -> None:
        if self._is_open:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    # The transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        self.peer = _address(transport.get_extra_info("peername"))
        _tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        websocket = self._websocket
        websocket.receive_data(data)
        messages: list[In] = []
        problem = self._read(websocket.events_received(), messages)
        if messages and self._is_open and self._handler is not None:
            problem = problem if told(self._handler.received, messages) else OUR_MISTAKE
        if problem is not None:
            self._fail(*problem)
        elif self._is_open and websocket.state is not State.OPEN:  # the peer closed, or broke the rules
            self._stop(_end_of(websocket))
            self._tell_closed()
        self._write()

    def eof_received(self) -> None:
        self._websocket.receive_eof()

    def pause_writing(self) -> None:
        self._is_congested = True

    def resume_writing(self) -> None:
        self._is_congested = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut_timer is not None:
            self._cut_timer.cancel()
        if self._is_open:
            self._stop(f"the connection was lost: {exc}" if exc else "the connection was cut without a word")
        self._tell_closed()
        # The library, its parser (a generator) and the error that ended it hold each other, and the coordinator has no
        # cyclic collector.
        self._websocket.parser.close()
        self._websocket.parser_exc = None

    # For the two sides

    @abstractmethod
    def _greeted(self, greeting: Request | Response) -> None:
        """Take the other side's half of the handshake."""

    def _open(self, handler: ChannelHandler[In, Out]) -> None:
        """The handshake is done: from now on this is a channel."""
        self._is_open = True
        self._handler = handler
        if not told(handler.opened, self):
            self._fail(*OUR_MISTAKE)

    def _write(self) -> None:
        """Hand the transport what the library wants written: greetings, answers, batches, ends."""
        writes = self._websocket.data_to_send()
        transport = self._transport
        if writes and not transport.is_closing():
            transport.write(b"".join(writes))
            if not writes[-1]:  # the library's sign for the end of the stream
                _end_stream(transport)
            if self._is_open and transport.get_write_buffer_size() > UNREAD_ANSWERS_BYTES_MAX:
                self._stop("cut from this side: it pings without reading the answers")
                transport.abort()
        if self._cut_timer is None and self._websocket.close_expected():
            self._cut_timer = self._loop.call_later(CLOSE_GRACE_S, transport.abort)

    # Reading

    def _read(self, events: list[Event], messages: list[In]) -> tuple[CloseCode, str] | None:
        """Add the messages that the events hold; return what is wrong with the next one, if that ends it."""
        try:
            for event in events:
                if not isinstance(event, Frame):
                    self._greeted(event)
                elif event.opcode is Opcode.TEXT:
                    return CloseCode.NOT_BINARY, "messages are binary frames, not text"
                elif event.opcode is Opcode.BINARY and event.fin:
                    messages.append(self._codec.decode(cast(bytes, event.data)))
                elif event.opcode is Opcode.BINARY or event.opcode is Opcode.CONT:
                    self._fragments += event.data
                    if event.fin:
                        whole, self._fragments = self._fragments, bytearray()
                        messages.append(self._codec.decode(whole))
        except BadMessage as error:
            return CloseCode.BAD_MESSAGE, str(error)
        except TooLarge as error:
            return CloseCode.TOO_LARGE, str(error)
        return None

    # Writing

    def _flush(self) -> None:
        """Write what waits, urgent messages first, until the transport has enough."""
        self._flush_is_due = False
        if self._late_flush is not None:
            self._late_flush.cancel()
            self._late_flush = None
        websocket = self._websocket
        while self._outbox and websocket.state is State.OPEN and not self._is_congested:
            for frame in self._outbox.take(WRITE_AHEAD_BYTES):
                websocket.send_binary(frame)
            self._write()

    # Ending

    def _fail(self, code: CloseCode, reason: str) -> None:
        """End it because of what the other side sent, or because our own handler failed."""
        if self._is_open:
            self._websocket.fail(code, _shortened(reason))
            self._stop(f"closed from this side: {reason} ({code})")
            self._tell_closed()

    def _stop(self, reason: str) -> None:
        """Neither send nor receive from now on; read on, so that the other side's end is seen."""
        self._is_open = False
        self._end_reason = reason
        self._outbox.clear()
        if self._late_flush is not None:  # it holds this connection
            self._late_flush.cancel()
            self._late_flush = None
        self._transport.resume_reading()

    def _tell_closed(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            told(handler.closed, self._end_reason)


def _end_stream(transport: asyncio.Transport) -> None:
    """Say that nothing more is written; TLS can say so only by closing."""
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()


def _end_of(websocket: Protocol) -> str:
    """Say how the other side ended the channel: properly, or by breaking the rules."""
    received = websocket.close_rcvd
    if received is None:
        return f"closed from this side: {websocket.parser_exc}"
    code = "no code" if received.code == WebSocketCode.NO_STATUS_RCVD else int(received.code)
    return f"closed by the other side: {received.reason or 'no reason given'} ({code})"


def _shortened(reason: str) -> str:
    """Fit a reason into a close frame.

    >>> _shortened("é" * 100) == "é" * 61
    True
    """
    return reason.encode("utf-8", "replace")[:_REASON_BYTES_MAX].decode("utf-8", "ignore")


def _address(peername: object) -> str:
    """The address of a peer as people write it.

    >>> _address(("127.0.0.1", 8080)), _address(("::1", 8080, 0, 0)), _address("")
    ('127.0.0.1:8080', '[::1]:8080', 'local')
    """
    match peername:
        case (str() as host, int() as port, *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return "local"


def _tune(connection: socket.socket | None) -> None:
    """Set the options of a TCP socket; those that this system lacks are left out."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_NOTSENT_LOWAT", WRITE_AHEAD_BYTES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
