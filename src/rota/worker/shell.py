"""Puts the pure agent to work: its effects go to the channel and the slots, what they say goes to it.

Everything happens on the loop's thread, and nothing here waits.
"""

from __future__ import annotations

import asyncio
from typing import Final, assert_never

import structlog

from rota.core.agent import Agent
from rota.core.agent_commands import (
    AgentCommand,
    AgentEffect,
    ChannelLost,
    ChannelOpened,
    HangUp,
    LeaseDue,
    MarksReported,
    MessageArrived,
    Run,
    SendUp,
    SlotQuarantined,
    SlotsReported,
    StopAttempt,
    TakeBack,
)
from rota.core.model import Cause, LaneId
from rota.core.protocol import Ended, FromCoordinator, FromWorker, Mark, OutputChunk, Started, Welcome
from rota.process.clock import steady_s, wall_s
from rota.wire.channel import Channel, CloseCode
from rota.worker.blobs import BlobShelf
from rota.worker.slots.base import Work
from rota.worker.slots.pool import SlotPool

__all__ = ["AgentShell"]

LEASE_LOOK_S: Final = 1.0
"""Between looks at whether the lease is over, while something is leased: timers stand still while a machine sleeps."""

TELL_EVERY_S: Final = 10.0
"""Between two words about tasks that can't be run here: a disk that is full may fail thousands."""

log = structlog.get_logger(__name__)


class AgentShell:
    """Handler of the channel, listener of the slots."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.answered_at = steady_s()
        self.is_welcome = False
        """Whether the channel that is open, or was last, has been welcomed."""
        self.was_welcome = False
        self.final_refusal: str | None = None
        """Why that channel was refused, if another try of this worker can't succeed."""
        self.lost = asyncio.Event()
        self._channel: Channel[FromWorker] | None = None
        self._pool: SlotPool | None = None
        self._blobs: BlobShelf | None = None
        self._told: set[str] = set()
        self._tells_again_at = 0.0
        self._lease_watch: asyncio.TimerHandle | None = None

    def use(self, pool: SlotPool, blobs: BlobShelf) -> None:
        """Run attempts in these slots, with these blobs."""
        self._pool = pool
        self._blobs = blobs

    def do(self, command: AgentCommand) -> None:
        """Let the agent carry out a command, and carry out what it wants done."""
        for effect in self.agent.apply(command, now=steady_s()):
            self._perform(effect)
        if self._lease_watch is None and (ends_at := self.agent.lease_ends_at) is not None:
            delay_s = min(LEASE_LOOK_S, max(0.0, ends_at - steady_s()))
            self._lease_watch = asyncio.get_running_loop().call_later(delay_s, self._look_at_lease)

    def _look_at_lease(self) -> None:
        self._lease_watch = None
        self.do(LeaseDue())

    # The channel

    def opened(self, channel: Channel[FromWorker]) -> None:
        """Say hello."""
        self._channel = channel
        self.is_welcome = False
        self.final_refusal = None
        self.lost.clear()
        self.answered_at = steady_s()
        self.do(ChannelOpened(wall_s()))

    def received(self, messages: list[FromCoordinator]) -> None:
        """Hand messages to the agent."""
        self.answered_at = steady_s()
        for message in messages:
            if isinstance(message, Welcome):
                self.is_welcome = self.was_welcome = True
                self._told.clear()
                self._obey_welcome(message)
                log.info("registered", cluster=message.cluster, epoch=message.epoch, stopped=len(message.stop))
            self.do(MessageArrived(message))

    def closed(self, reason: str) -> None:
        """Note that the channel is gone."""
        self._channel = None
        self.lost.set()  # before anything that could fail: nobody else would open a new channel
        if self._is_news(reason):
            log.info("channel_closed", reason=reason)
        self.do(ChannelLost())

    def hang_up(self, reason: str) -> None:
        """Close the channel, if there is one."""
        if self._channel is not None:
            self._channel.close(code=CloseCode.NORMAL, reason=reason)

    def _is_news(self, reason: str) -> bool:
        """Say whether a problem was not told since the last welcome: a worker that is refused tries for ever."""
        is_news = reason not in self._told
        self._told.add(reason)
        return is_news

    # The slots

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        """Hand what happened to the agent."""
        for end in ended:
            if end.cause is Cause.AGENT_ERROR:
                self._tell_of_trouble(end)
        self.do(SlotsReported(started, ended, output))

    def _tell_of_trouble(self, end: Ended) -> None:
        """Log what kept a task from running that is no fault of its own: a full disk, say. Not each of thousands."""
        now = steady_s()
        if now >= self._tells_again_at:
            self._tells_again_at = now + TELL_EVERY_S
            log.warning("task_not_run", task_number=end.task, attempt=end.attempt, error=end.message)

    def on_marks(self, marks: list[Mark]) -> None:
        """Tell how far attempts say they are."""
        self.do(MarksReported(marks))

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        """Tell that a slot is lost."""
        log.error("slot_quarantined", lane=lane, detail=message)
        self.do(SlotQuarantined(message))

    # Effects

    def _obey_welcome(self, welcome: Welcome) -> None:
        assert self._pool is not None
        assert self._blobs is not None
        self._pool.use_grace(welcome.kill_grace_s)
        self._blobs.use_home(welcome.blob_home)

    def _perform(self, effect: AgentEffect) -> None:
        assert self._pool is not None
        match effect:
            case SendUp():
                if self._channel is not None:
                    self._channel.send(effect.message)
            case Run():
                self._pool.run(_works_of(effect))
            case StopAttempt():
                self._pool.stop(effect.key, cause=effect.cause, grace_s=effect.grace_s)
            case TakeBack():
                self._pool.take_back(effect.keys)
            case HangUp():
                if self._is_news(effect.reason):
                    log.warning("sent_away", reason=effect.reason)
                if not effect.retryable:
                    self.final_refusal = effect.reason
                self.hang_up(effect.reason)
            case _:
                assert_never(effect)


def _works_of(run: Run) -> list[Work]:
    if not run.gangs:
        return [
            Work((given.task, given.attempt), given.lane, given.id, given.spec, given.devices) for given in run.attempts
        ]
    works = []
    for given in run.attempts:
        key = (given.task, given.attempt)
        works.append(Work(key, given.lane, given.id, given.spec, given.devices, run.gangs.get(key)))
    return works
