"""What both ends of a gRPC channel share: frames to messages, messages to frames, and a proper end.

Of a stream one frame is written at a time: what is sent meanwhile leaves together in the next, so that
frames grow by themselves with the load. A write lasts until gRPC's flow control lets it pass, and a frame holds little
more than `FRAME_BYTES_WANTED`, so that on a congested line what is urgent can still overtake. One frame is
read at a time, too: who does not read on makes the other side wait, as flow control is meant to.

An end is said before it is done: a last frame says why, what still comes in is thrown away until the
other side has ended the stream too, and after `CLOSE_GRACE_S` the stream is cut.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from rota.core.errors import TooLarge
from rota.wire.channel import ChannelHandler, CloseCode
from rota.wire.grpc.frames import close_frame, pack, unpack
from rota.wire.handlers import OUR_MISTAKE, told
from rota.wire.messages import BadMessage, Codec
from rota.wire.outbox import Outbox

__all__ = ["CHANNEL_OPTIONS", "StreamConnection", "StreamLost"]

CLOSE_GRACE_S: Final = 2.0
"""How long the other side has to answer a close: ten round trips around the world."""

FRAME_BYTES_WANTED: Final = 256 << 10
"""With so much in it a frame takes no further message: it is what urgent messages can't overtake."""

CHANNEL_OPTIONS: Final = (
    # An idle connection whose other machine has vanished ends after 15 + 15 s. The answer comes from gRPC's threads in
    # the other process: one that is stopped for a moment must not lose its channel, so it is not less.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    # The library's other name for the same: where it is not set, an answer is waited for a whole minute.
    ("grpc.http2.ping_timeout_ms", 15_000),
    ("grpc.http2.max_pings_without_data", 0),
)
"""How both ends watch over the connection under their streams."""

_CUT: Final = "the connection was cut without a word"

In = TypeVar("In")
Out = TypeVar("Out")


class StreamLost(Exception):
    """The stream is gone without an end; says why in a few words, if anybody has told."""


class StreamConnection(ABC, Generic[In, Out]):
    """One stream, and the `Channel` that it is once it has been opened.

    Args:
        codec: Reads and writes messages.
        peer: The address of the other side.
        backlog_bytes_max: A peer for which more waits is cut off: it reads too slowly.
    """

    def __init__(self, codec: Codec[In, Out], *, peer: str, backlog_bytes_max: int) -> None:
        self.peer = peer
        self._codec = codec
        self._backlog_bytes_max = backlog_bytes_max
        self._loop = asyncio.get_running_loop()
        self._handler: ChannelHandler[In, Out] | None = None  # until it is opened, and after `closed`
        self._is_open = False
        self._outbox = Outbox()
        self._writing: asyncio.Task[None] | None = None
        self._late_write: asyncio.TimerHandle | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._farewell: bytes | None = None  # the last frame, from when we close on
        self._end_reason = ""
        self._cut_timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()

    # The Channel port

    @property
    def backlog_bytes(self) -> int:
        return self._outbox.backlog_bytes if self._is_open else 0

    def send(self, message: Out, *, within_s: float = 0.0) -> None:
        if not self._is_open:
            return
        outbox, codec = self._outbox, self._codec
        # Less than a frame leaves with the next one anyway, so that nothing is gained by overtaking.
        is_congested = self._writing is not None and outbox.backlog_bytes >= FRAME_BYTES_WANTED
        outbox.put(codec.encode(message), overtakes=is_congested and codec.is_urgent(message))
        if outbox.backlog_bytes > self._backlog_bytes_max:
            self._cut(f"cut from this side: {outbox.backlog_bytes:,} bytes wait, it reads too slowly")
        elif self._writing is not None:
            pass  # who writes takes this along
        elif within_s == 0.0 or outbox.backlog_bytes >= FRAME_BYTES_WANTED:
            self._start_writing()
        elif self._late_write is None:
            self._late_write = self._loop.call_later(within_s, self._start_writing)

    def close(self, *, code: CloseCode, reason: str) -> None:
        if self._is_open:
            self._say_end(code, reason)
            self._stop(f"closed from this side: {reason}")

    def pause_reading(self) -> None:
        if self._is_open:
            self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    # For the two sides

    @abstractmethod
    async def _read_frame(self) -> bytes | None:
        """Return the next frame, or ``None`` if the other side has ended the stream.

        Raises:
            StreamLost: It was cut.
        """

    @abstractmethod
    async def _write_frame(self, frame: bytes) -> None:
        """Write a frame; returns when there is room for the next one.

        Raises:
            StreamLost: It was cut.
        """

    @abstractmethod
    async def _end_writing(self) -> None:
        """Tell the other side that no more frames come, if this side can."""

    def _open(self, handler: ChannelHandler[In, Out]) -> None:
        """The stream is accepted: from now on this is a channel."""
        self._is_open = True
        self._handler = handler
        if not told(handler.opened, self):
            self._fail(*OUR_MISTAKE)

    async def _live(self) -> None:
        """Read until the stream is over, for whatever reason, and say so."""
        reading = self._loop.create_task(self._read())
        try:
            await self._over
        finally:
            reading.cancel()
            self._let_go()

    # Reading

    async def _read(self) -> None:
        reason = _CUT
        try:
            while (frame := await self._read_frame()) is not None:
                await self._may_read.wait()
                if self._is_open:
                    self._take(frame)
        except StreamLost as lost:
            reason = f"the connection was lost: {lost}"
        finally:
            if self._is_open:
                self._stop(reason)
            self._finish()

    def _take(self, frame: bytes) -> None:
        messages: list[In] = []
        problem: tuple[CloseCode, str] | None = None
        close = None
        try:
            encoded, close = unpack(frame)
            self._decode(encoded, messages)
        except BadMessage as error:
            problem = CloseCode.BAD_MESSAGE, str(error)
        except TooLarge as error:
            problem = CloseCode.TOO_LARGE, str(error)
        if messages and self._handler is not None and not told(self._handler.received, messages):
            problem = OUR_MISTAKE
        if problem is not None:
            self._fail(*problem)
        elif close is not None:
            self._answer(f"closed by the other side: {close.reason or 'no reason given'} ({close.code})")

    def _decode(self, encoded: Sequence[bytes], messages: list[In]) -> None:
        """Add the messages, up to the first that is none, which is raised."""
        decode = self._codec.decode
        for one in encoded:
            messages.append(decode(one))  # noqa: PERF401 - those before a bad one still count

    # Writing

    def _start_writing(self, first: bytes | None = None) -> None:
        if self._late_write is not None:
            self._late_write.cancel()
            self._late_write = None
        if self._writing is None and not self._over.done():
            self._writing = self._loop.create_task(self._write(first))

    async def _write(self, first: bytes | None) -> None:
        """Write a first frame, what waits, urgent messages first, and then the end if there is to be one."""
        outbox = self._outbox
        try:
            if first is not None:
                await self._write_frame(first)
            while outbox:
                await self._write_frame(pack(outbox.take(FRAME_BYTES_WANTED)))
            if self._farewell is not None:
                farewell, self._farewell = self._farewell, None
                await self._write_frame(farewell)
                await self._end_writing()
        except StreamLost:
            pass  # who reads is told, too
        finally:
            self._writing = None

    # Ending

    def _say_end(self, code: CloseCode, reason: str) -> None:
        """Let the other side know when all that waits has been written."""
        self._farewell = close_frame(code, reason)
        self._start_writing()
        self._cut_timer = self._loop.call_later(CLOSE_GRACE_S, self._finish)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """End it because of what the other side sent, or because our own handler failed."""
        if self._is_open:
            self._outbox.clear()
            self._say_end(code, reason)
            self._stop(f"closed from this side: {reason} ({code})")
            self._tell_closed()

    def _answer(self, reason: str) -> None:
        """The other side has said its end: end the stream from this side, too."""
        if self._is_open:
            self._outbox.clear()
            self._stop(reason)
            self._tell_closed()
            self._finish()

    def _cut(self, reason: str) -> None:
        """End it at once."""
        self._outbox.clear()
        self._stop(reason)
        self._finish()

    def _stop(self, reason: str) -> None:
        """Neither send nor receive from now on; read on, so that the other side's end is seen."""
        self._is_open = False
        self._end_reason = reason
        if self._late_write is not None:  # it holds this connection
            self._late_write.cancel()
            self._late_write = None
        self._may_read.set()

    def _finish(self) -> None:
        """Let `_live` return."""
        if not self._over.done():
            self._over.set_result(None)

    def _let_go(self) -> None:
        """Leave nothing behind that refers to this connection: the coordinator has no cyclic collector."""
        for timer in (self._cut_timer, self._late_write):
            if timer is not None:
                timer.cancel()
        self._cut_timer = self._late_write = None
        if self._writing is not None:
            self._writing.cancel()
        self._outbox.clear()
        if self._is_open:
            self._stop(_CUT)
        self._tell_closed()

    def _tell_closed(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            told(handler.closed, self._end_reason)
