"""Whole workers under test: the real agent over pretended slots, and channels that lose what is on its way.

A `Site` is one machine. Its agent, its slots and its channel move only when a test says so, one
message or one attempt at a time, so that a test (or chance) decides about every order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rota.core.agent import Agent
from rota.core.agent_commands import (
    AgentCommand,
    AgentEffect,
    BeatDue,
    ChannelLost,
    ChannelOpened,
    HangUp,
    HurryUp,
    LeaveWished,
    MessageArrived,
    Run,
    SendUp,
    SlotsReported,
    StopAttempt,
    TakeBack,
)
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
from rota.core.effects import Disconnect, Effect, Send
from rota.core.model import AttemptKey, Cause, LaneId, WorkerId
from rota.core.protocol import (
    Ended,
    FromCoordinator,
    FromWorker,
    Heartbeat,
    Hello,
    Leaving,
    Marks,
    Report,
    SlotsLost,
    Started,
    Usage,
)
from tests.support.core import make_offer

__all__ = ["Channel", "Site"]


@dataclass
class Channel:
    """One open channel and what is on its way, both ways."""

    session: SessionId
    up: deque[FromWorker] = field(default_factory=deque)
    down: deque[FromCoordinator] = field(default_factory=deque)


class Site:
    """A machine with a worker. ``ran`` holds every attempt that was ever started here; ``clock`` is its steady one."""

    def __init__(self, name: str, *, clock: Callable[[], float] = lambda: 0.0, **offer: Any) -> None:
        self.name = name
        self.clock = clock
        self.offer = make_offer(**offer)
        self.channel: Channel | None = None
        self.ran: list[AttemptKey] = []
        self.heard: list[Report] = []
        self._instances = 0
        self.start_anew()

    def start_anew(self) -> None:
        """Begin as a new agent process: what ran is gone without a word."""
        self._instances += 1
        self.agent = Agent(WorkerId(self.name), instance=f"{self.name}-{self._instances}", offer=self.offer)
        self.lines: dict[LaneId, deque[AttemptKey]] = {}
        self.running: dict[AttemptKey, LaneId] = {}
        self.wishes: dict[AttemptKey, Cause] = {}
        self.stopped: set[AttemptKey] = set()
        self.channel = None

    # The channel

    def connect(self, session: SessionId, wall: float) -> None:
        """Open a channel and say hello on it."""
        self.hang_up()
        self.channel = Channel(session)
        self._do(ChannelOpened(wall))

    def hang_up(self) -> SessionClosed | None:
        """Lose the channel with all that is on its way; return what the coordinator will notice."""
        if self.channel is None:
            return None
        closed = SessionClosed(self.channel.session)
        self.channel = None
        self._do(ChannelLost())
        return closed

    def beat(self, wall: float) -> None:
        self._do(BeatDue(wall, Usage()))

    def take_up(self, count: int) -> list[Command]:
        """Deliver up to ``count`` messages to the coordinator."""
        channel = self.channel
        if channel is None:
            return []
        sent = [channel.up.popleft() for _ in range(min(count, len(channel.up)))]
        self.heard += [message for message in sent if isinstance(message, Report)]
        return [_command(channel.session, message) for message in sent]

    def take_down(self, count: int) -> None:
        """Deliver up to ``count`` messages to the agent."""
        for _ in range(count):
            if self.channel is None or not self.channel.down:
                return
            self._do(MessageArrived(self.channel.down.popleft()))

    def take_effects(self, effects: Sequence[Effect]) -> None:
        """Put what the coordinator sends on this site's channel, if it is still the one that is meant."""
        for effect in effects:
            if self.channel is None or not isinstance(effect, Send | Disconnect):
                continue
            if effect.session != self.channel.session:
                continue
            if isinstance(effect, Send):
                self.channel.down.append(effect.message)
            else:
                self.hang_up()

    # The slots

    def start_heads(self, wall: float) -> list[AttemptKey]:
        """Start what is first in each lane and does not run yet."""
        begun = []
        for lane, line in self.lines.items():
            if line and line[0] not in self.running:
                self.running[line[0]] = lane
                self.ran.append(line[0])
                begun.append(line[0])
        if begun:
            self._do(SlotsReported([Started(*key, wall) for key in begun], [], []))
        return begun

    def end(self, key: AttemptKey, cause: Cause | None, *, wall: float, run_s: float = 0.01) -> None:
        """End a running attempt; one that was to be stopped ends for that reason."""
        cause = self.wishes.pop(key, cause)
        self._remove(key)
        self._do(SlotsReported([], [Ended(*key, cause, started_at=wall, ended_at=wall, run_s=run_s)], []))

    def leave(self) -> None:
        self._do(LeaveWished())

    def hurry(self) -> None:
        self._do(HurryUp(0.0))

    # Helpers

    def _do(self, command: AgentCommand) -> None:
        for effect in self.agent.apply(command, now=self.clock()):
            self._perform(effect)

    def _perform(self, effect: AgentEffect) -> None:
        match effect:
            case SendUp():
                assert self.channel is not None, effect
                self.channel.up.append(effect.message)
            case Run():
                for given in effect.attempts:
                    self.lines.setdefault(given.lane, deque()).append((given.task, given.attempt))
            case StopAttempt():
                self._stop(effect)
            case TakeBack():
                self._hand_back(effect.keys)
            case HangUp():
                pass  # the test decides when

    def _stop(self, stop: StopAttempt) -> None:
        """What runs ends when the test says so, what waits at once."""
        if stop.key in self.stopped:  # told to end for two reasons at once
            return
        assert any(stop.key in line for line in self.lines.values()), f"{stop} was never handed to a slot"
        if stop.key in self.running:
            self.wishes.setdefault(stop.key, stop.cause)
        else:
            self.stopped.add(stop.key)
            self._remove(stop.key)
            self._do(SlotsReported([], [Ended(*stop.key, stop.cause)], []))

    def _hand_back(self, keys: Sequence[AttemptKey]) -> None:
        waiting = [key for key in keys if key not in self.running]
        self.stopped.update(waiting)
        for key in waiting:
            self._remove(key)
        if waiting:
            self._do(SlotsReported([], [Ended(*key, Cause.RETURNED) for key in waiting], []))

    def _remove(self, key: AttemptKey) -> None:
        self.running.pop(key, None)
        for lane, line in list(self.lines.items()):
            if key in line:
                line.remove(key)
            if not line:
                del self.lines[lane]


def _command(session: SessionId, message: FromWorker) -> Command:
    match message:
        case Hello():
            return WorkerHello(session, message)
        case Heartbeat():
            return WorkerBeat(session, message)
        case Report():
            return ReportArrived(session, message)
        case SlotsLost():
            return SlotsLostArrived(session, message.count, message.message)
        case Leaving():
            return LeavingArrived(session, message.done)
        case Marks():
            raise AssertionError("marks are no command")
