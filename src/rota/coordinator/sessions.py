"""The open channels of workers: what arrives becomes commands, what the core sends goes out.

A session is one channel, numbered. It speaks only after a hello that the core took; what it
says before, or out of turn, closes it. A session whose worker reads too slowly is closed: the
worker comes back and what it missed is sorted out by the hello.
"""

from __future__ import annotations

from itertools import count
from typing import Final, Protocol, assert_never

import structlog

from rota.core.client_protocol import CancelThese, ClientHello, Follow, Submit
from rota.core.commands import (
    Command,
    LeavingArrived,
    ReportArrived,
    SessionClosed,
    SessionId,
    SlotsLostArrived,
    WorkerBeat,
    WorkerHello,
)
from rota.core.protocol import (
    Assign,
    Closing,
    FromCoordinator,
    Heartbeat,
    Hello,
    Leaving,
    Marks,
    Report,
    SlotsLost,
)
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import FromPeer, ToPeer, assign_pieces

__all__ = ["BACKLOG_BYTES_MAX", "Session", "Sessions"]

BACKLOG_BYTES_MAX: Final = 64 << 20
"""Of what waits to be read by one worker."""

log = structlog.get_logger(__name__)


class CommandSink(Protocol):
    """Where commands go."""

    def put(self, command: Command) -> None: ...

    def put_beat(self, beat: WorkerBeat) -> None: ...


class Session:
    """The handler of one channel."""

    def __init__(self, number: SessionId, sessions: Sessions) -> None:
        self.number = number
        self._sessions = sessions
        self._channel: Channel[ToPeer] | None = None
        self._said_hello = False

    def opened(self, channel: Channel[ToPeer]) -> None:
        """Wait for a hello."""
        self._channel = channel

    def received(self, messages: list[FromPeer]) -> None:
        """Turn messages into commands."""
        sink = self._sessions.sink
        for message in messages:
            if isinstance(message, Hello) == self._said_hello:
                self.close(CloseCode.POLICY, "a hello comes first, and once")
                return
            match message:
                case Report():
                    sink.put(ReportArrived(self.number, message))
                case Heartbeat():
                    sink.put_beat(WorkerBeat(self.number, message))
                case Hello():
                    self._said_hello = True
                    sink.put(WorkerHello(self.number, message))
                case SlotsLost():
                    sink.put(SlotsLostArrived(self.number, message.count, message.message))
                case Leaving():
                    sink.put(LeavingArrived(self.number, message.done))
                case Marks():
                    pass
                case ClientHello() | Submit() | CancelThese() | Follow():
                    self.close(CloseCode.POLICY, "clients are not served yet")
                case _:
                    assert_never(message)

    def closed(self, reason: str) -> None:
        """Tell the core that the channel is gone."""
        self._channel = None
        self._sessions.forget(self.number)
        if self._said_hello:
            log.info("channel_closed", session=self.number, reason=reason)
            self._sessions.sink.put(SessionClosed(self.number))
        else:
            log.warning("channel_closed_before_hello", session=self.number, reason=reason)

    def send(self, message: FromCoordinator) -> None:
        """Send a message, cut to size, if the channel is still there."""
        channel = self._channel
        if channel is None:
            return
        if isinstance(message, Assign):
            for piece in assign_pieces(message):
                channel.send(piece)
        else:
            channel.send(message)
        if channel.backlog_bytes > BACKLOG_BYTES_MAX:
            self.close(CloseCode.TRY_LATER, "the worker reads too slowly")

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the channel, if it is still there."""
        if self._channel is not None:
            self._channel.close(code=code, reason=reason)


class Sessions:
    """All open channels."""

    def __init__(self, sink: CommandSink) -> None:
        self.sink = sink
        self._numbers = count(1)
        self._open: dict[SessionId, Session] = {}

    def make(self) -> Session:
        """Begin a session for a channel that is about to open."""
        session = Session(SessionId(next(self._numbers)), self)
        self._open[session.number] = session
        return session

    def send(self, number: SessionId, message: FromCoordinator) -> None:
        """Send on a session; nothing happens if it is gone, which the core learns by itself."""
        session = self._open.get(number)
        if session is not None:
            session.send(message)

    def disconnect(self, number: SessionId, reason: str) -> None:
        """Close a session."""
        session = self._open.get(number)
        if session is not None:
            session.close(CloseCode.NORMAL, reason)

    def close_all(self, message: str) -> None:
        """Tell all workers to come back later, and close."""
        for session in list(self._open.values()):
            session.send(Closing(message))
            session.close(CloseCode.RESTARTING, message)

    def forget(self, number: SessionId) -> None:
        """Drop a session whose channel is gone."""
        self._open.pop(number, None)
