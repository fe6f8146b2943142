"""The open channels: who is at the other end, the first message says.

A `Session` is one channel, numbered. With a worker's hello it is a worker's from then on, with a client's a client's
(``clients``); anything else said first, or out of turn, closes it. What a worker says becomes commands, what
the core sends goes out. A worker that reads too slowly is closed: it comes back, and what it missed
is sorted out by the hello.
"""

from __future__ import annotations

from itertools import count
from typing import Final, Protocol, assert_never

import structlog

from rota.coordinator.clients import ClientDesk
from rota.coordinator.marks import MarkBoard
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
    ReportAck,
    SlotsLost,
)
from rota.process.clock import steady_s
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import FromPeer, ToPeer, assign_pieces

__all__ = ["BACKLOG_BYTES_MAX", "Session", "Sessions", "WorkerSession"]

BACKLOG_BYTES_MAX: Final = 64 << 20
"""Of what waits to be read by one worker."""

ACK_WITHIN_S: Final = 0.01
"""A worker has no use for an acknowledgement but to forget: it travels with the next assignment, or alone by then."""

log = structlog.get_logger(__name__)


class WorkerSink(Protocol):
    """Where goes what workers say."""

    def put(self, command: Command) -> None: ...

    def put_beat(self, beat: WorkerBeat) -> None: ...


class Peer(Protocol):
    """Somebody who has said who they are."""

    def received(self, messages: list[FromPeer]) -> None:
        """Take in what came on the channel."""
        ...

    def closed(self, reason: str) -> None:
        """Take note that the channel is gone."""
        ...

    def say_goodbye(self, message: str) -> None:
        """Send them away: they come back later."""
        ...


class Session:
    """The handler of one channel: nobody's until its first message."""

    def __init__(self, number: SessionId, sessions: Sessions) -> None:
        self.number = number
        self._sessions = sessions
        self._channel: Channel[ToPeer] | None = None
        self._peer: Peer | None = None

    def opened(self, channel: Channel[ToPeer]) -> None:
        """Wait for a hello."""
        self._channel = channel

    def received(self, messages: list[FromPeer]) -> None:
        """Find out who it is, or hand on what they say."""
        if self._peer is None:
            assert self._channel is not None
            self._peer = self._sessions.greet(self.number, self._channel, messages[0])
            if self._peer is None:
                self._channel.close(code=CloseCode.POLICY, reason="a hello comes first")
                return
            messages = messages[1:]
        if messages:
            self._peer.received(messages)

    def closed(self, reason: str) -> None:
        """Let go of the channel."""
        peer, self._peer, self._channel = self._peer, None, None
        self._sessions.forget(self.number)
        if peer is not None:
            peer.closed(reason)
        else:
            log.warning("channel_closed_before_hello", session=self.number, reason=reason)

    def say_goodbye(self, message: str) -> None:
        """Tell whoever is there to come back later, and close."""
        if self._peer is not None:
            self._peer.say_goodbye(message)
        elif self._channel is not None:
            self._channel.close(code=CloseCode.RESTARTING, reason=message)


class WorkerSession:
    """A worker on its channel."""

    def __init__(
        self, number: SessionId, channel: Channel[ToPeer], *, name: str, sink: WorkerSink, marks: MarkBoard
    ) -> None:
        self._number = number
        self._name = name
        self._channel: Channel[ToPeer] | None = channel
        self._sink = sink
        self._marks = marks

    def received(self, messages: list[FromPeer]) -> None:
        """Turn messages into commands."""
        sink, number = self._sink, self._number
        for message in messages:
            match message:
                case Report():
                    sink.put(ReportArrived(number, message))
                case Heartbeat():
                    sink.put_beat(WorkerBeat(number, message))
                case SlotsLost():
                    sink.put(SlotsLostArrived(number, message.count, message.message))
                case Leaving():
                    sink.put(LeavingArrived(number, message.done))
                case Marks():
                    self._marks.take(number, message.marks, now=steady_s())
                case Hello() | ClientHello() | Submit() | CancelThese() | Follow():
                    self.close(CloseCode.POLICY, "a worker says hello once, and nothing that a client says")
                    return
                case _:
                    assert_never(message)

    def closed(self, reason: str) -> None:
        """Tell the core that the channel is gone."""
        self._channel = None
        log.info("channel_closed", worker=self._name, session=self._number, reason=reason)
        self._sink.put(SessionClosed(self._number))

    def send(self, message: FromCoordinator) -> None:
        """Send a message, cut to size, if the channel is still there."""
        channel = self._channel
        if channel is None:
            return
        if isinstance(message, Assign):
            for piece in assign_pieces(message):
                channel.send(piece)
        else:
            channel.send(message, within_s=ACK_WITHIN_S if isinstance(message, ReportAck) else 0.0)
        if channel.backlog_bytes > BACKLOG_BYTES_MAX:
            self.close(CloseCode.TRY_LATER, "the worker reads too slowly")

    def say_goodbye(self, message: str) -> None:
        """Tell the worker to come back later, and close."""
        self.send(Closing(message))
        self.close(CloseCode.RESTARTING, message)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the channel, if it is still there."""
        if self._channel is not None:
            self._channel.close(code=code, reason=reason)


class Sessions:
    """All open channels.

    Args:
        sink: Takes what workers say.
        clients: Lets clients in.
        marks: Takes what workers say of the progress of attempts.
    """

    def __init__(self, sink: WorkerSink, *, clients: ClientDesk, marks: MarkBoard) -> None:
        self._sink = sink
        self._clients = clients
        self._marks = marks
        self._numbers = count(1)
        self._open: dict[SessionId, Session] = {}
        self._workers: dict[SessionId, WorkerSession] = {}

    def make(self) -> Session:
        """Begin a session for a channel that is about to open."""
        session = Session(SessionId(next(self._numbers)), self)
        self._open[session.number] = session
        return session

    def greet(self, number: SessionId, channel: Channel[ToPeer], first: FromPeer) -> Peer | None:
        """Return who says this first on a channel; ``None`` if it is no hello."""
        match first:
            case Hello():
                worker = self._workers[number] = WorkerSession(
                    number, channel, name=first.worker, sink=self._sink, marks=self._marks
                )
                self._sink.put(WorkerHello(number, first))
                return worker
            case ClientHello():
                return self._clients.let_in(first, channel)
            case _:
                return None

    def send(self, number: SessionId, message: FromCoordinator) -> None:
        """Send to a worker; nothing happens if its channel is gone, which the core learns by itself."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.send(message)

    def disconnect(self, number: SessionId, reason: str) -> None:
        """Close a worker's channel."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.close(CloseCode.NORMAL, reason)

    def close_all(self, message: str) -> None:
        """Tell everybody to come back later, and close."""
        self._marks.clear()
        for session in list(self._open.values()):
            session.say_goodbye(message)

    def forget(self, number: SessionId) -> None:
        """Drop a session whose channel is gone."""
        self._open.pop(number, None)
        self._workers.pop(number, None)
