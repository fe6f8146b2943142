"""A machine with a worker: the real agent between a link and pretended slots, as the worker's process drives it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, assert_never

from rota.core.agent import Agent
from rota.core.agent_commands import (
    AgentCommand,
    BeatDue,
    ChannelLost,
    ChannelOpened,
    HangUp,
    HurryUp,
    LeaseDue,
    LeaveWished,
    MessageArrived,
    Run,
    SendUp,
    SlotQuarantined,
    SlotsReported,
    StopAttempt,
    TakeBack,
)
from rota.core.model import Offer, WorkerId
from rota.core.protocol import Ended, FromCoordinator, Started, Stop, Usage, Welcome
from rota.simulator.chores import Chores
from rota.simulator.network import SimulatedLink, Trouble, WorkerEnd
from rota.simulator.pace import Range
from rota.simulator.slots import Slots
from rota.simulator.watch import Watch
from rota.simulator.world import Planned, World

__all__ = ["Exchange", "SimulatedMachine"]

SILENCE_BEATS: Final = 3
"""As with the worker's process: after so many heartbeats without an answer it hangs up."""

LEASE_LOOK_S: Final = 1.0
"""As with the worker's process: how often it is looked whether the lease is over, while something is leased."""

SLOW_LINK_S: Final = (0.3, 0.7)
STRAGGLING_S: Final = (2.0, 8.0)
NO_LAG: Final = (0.0, 0.0)

GOODBYE_S: Final = 0.1
"""Between looks at whether a worker that leaves may go."""


class Exchange(Protocol):
    """Where workers find the coordinator."""

    def connect(self, worker: WorkerEnd) -> SimulatedLink | None:
        """Open a link; ``None`` while nobody is there."""
        ...


class SimulatedMachine:
    """One machine. ``agent`` is ``None`` while no worker runs on it.

    ``down_s`` is how long that takes after a worker died; ``speed`` is 1 for a machine that is as fast as it should be.
    """

    def __init__(
        self, world: World, name: str, offer: Offer, *, chores: Chores, exchange: Exchange, watch: Watch
    ) -> None:
        self.name = name
        self.offer = offer
        self.agent: Agent | None = None
        self.link: SimulatedLink | None = None
        self.is_steady = False
        self.down_s: Range = (0.1, 15.0)
        self.speed = 1.0
        self.starts_at = 0.0
        self._troubles: list[Trouble] = []
        self._world = world
        self._chores = chores
        self._exchange = exchange
        self._watch = watch
        self._starts = 0
        self._skew_s = world.draw(world.pace.skew_s)
        self._quarantined = False
        self._answered_at = 0.0
        self._left_at: float | None = None
        self._cut_off_until = 0.0
        self._stalled_until = 0.0
        self._watches_lease = False
        self._timers: list[Planned] = []

    @property
    def is_idle(self) -> bool:
        """Whether it has a link, and nothing to do on either side of it."""
        return self.agent is not None and self.link is not None and not self.agent.holds and self.slots.is_empty

    # What may happen to it

    def start(self, offer: Offer | None = None) -> None:
        """Start a worker, which is a new instance."""
        assert self.agent is None
        self._starts += 1
        self.offer = offer or self.offer
        instance = f"{self.name}/{self._starts}"
        self._quarantined, self._left_at = False, None
        self._stalled_until, self._watches_lease = 0.0, False
        self.agent = Agent(WorkerId(self.name), instance=instance, offer=self.offer)
        self.slots = Slots(
            self._world,
            self._watch,
            worker=self.name,
            instance=instance,
            offer=self.offer,
            chores=self._chores,
            wall=self._wall,
            tell=self._slots_tell,
        )
        self.slots.speed = self.speed
        self._note(f"starts as {instance}")
        self._timers = []
        self._later(self._world.draw(self._world.pace.dial_s), self._dial)
        self._later(self._world.between(0.5, 1.0), self._beat)

    def start_later(self) -> None:
        """Start a worker when it is to begin."""
        self._world.after(self.starts_at, self.start_if_down)

    def start_if_down(self) -> None:
        """Start a worker unless there is one."""
        if self.agent is None:
            self.start()

    def kill(self, *, is_noticed: bool = True) -> None:
        """Kill -9, or, if nobody notices, pull the plug."""
        if self.agent is None:
            return
        self._note("is killed" if is_noticed else "loses its power")
        if self.link is not None:
            if is_noticed:
                self.link.close_from_worker()
            else:
                self.link.die()
        self._end()

    def leave(self) -> None:
        """SIGTERM."""
        if self.agent is None or self._left_at is not None:
            return
        self._note("is asked to leave")
        self._left_at = self._world.now
        self._do(LeaveWished())
        self._later(GOODBYE_S, self._go_if_done)

    def hurry(self) -> None:
        """SIGTERM again."""
        if self.agent is not None and self._left_at is not None:
            self._note("is asked to hurry")
            self._do(HurryUp(0.5))

    def break_slot(self, *, is_stuck: bool) -> None:
        """Kill the process of a slot; its tree can't be emptied if ``is_stuck``."""
        if self.agent is not None and self.slots.break_one():
            self._note("loses a slot" + (", quarantined" if is_stuck else ""))
            if is_stuck:
                self._quarantined = True
                self._do(SlotQuarantined("processes that can't be killed"))

    def cut_off(self, seconds: float) -> None:
        """Let it reach nobody for a while; what runs goes on."""
        self._note(f"is cut off for {seconds:.1f} s")
        self._cut_off_until = max(self._cut_off_until, self._world.now + seconds)
        if self.link is not None:
            self._world.rng.choice((self.link.cut, self.link.die))()

    def trouble(self, trouble: Trouble, seconds: float) -> None:
        """Let something trouble its messages for a while, on this link and those that follow."""
        self._note(f"has trouble with its messages for {seconds:.1f} s")
        self._troubles.append(trouble)
        self._world.after(seconds, lambda: self._troubles.remove(trouble))
        if self.link is not None:
            self.link.suffer(self._troubles)

    def slow_link(self, seconds: float) -> None:
        """Let its messages take half a second each way for a while."""
        link = self.link
        if link is not None:
            self._note(f"has a slow link for {seconds:.1f} s")
            link.set_lag(SLOW_LINK_S, SLOW_LINK_S)
            self._world.after(seconds, lambda: link.set_lag(NO_LAG, NO_LAG))

    def straggle(self) -> None:
        """Let what it says be on its way for seconds, and hang up: it is heard when the next link is open already."""
        if self.link is not None:
            self.link.set_lag(STRAGGLING_S, NO_LAG)
            self._world.after(self._world.between(0.1, 2.0), partial(self._hang_up_on, self.link))

    def flap(self, times: int) -> None:
        """Cut its link again and again."""
        if times and not self.is_steady:
            if self.link is not None:
                self.link.cut()
            self._world.after(self._world.between(1.0, 4.0), lambda: self.flap(times - 1))

    def set_clock(self, by_s: float) -> None:
        """Let its wall clock jump. The steady one, by which leases go, does not."""
        self._note(f"has its clock set by {by_s:g} s")
        self._skew_s += by_s

    def set_speed(self, speed: float) -> None:
        """Let all that starts from now on run so fast; 1 is as it should be."""
        self._note(f"runs at {speed:g} of its speed")
        self.speed = speed
        if self.agent is not None:
            self.slots.speed = speed

    def stall(self, seconds: float) -> None:
        """Let its agent stand still for a while; what runs goes on."""
        self._note(f"stands still for {seconds:.1f} s")
        self._stalled_until = max(self._stalled_until, self._world.now + seconds)

    def calm_down(self, offer: Offer) -> None:
        """From now on nothing happens to it any more; what is broken is started anew."""
        self.is_steady = True
        if self.speed != 1.0:
            self.set_speed(1.0)
        self._cut_off_until = 0.0
        if self.agent is not None and (self._quarantined or self._left_at is not None or self.offer != offer):
            self.kill()
        if self.agent is None:
            self.start(offer)

    # Of its link

    def received(self, link: SimulatedLink, message: FromCoordinator) -> None:
        """Hand a message to the agent."""
        if self._world.now < self._stalled_until:
            self._world.after(self._stalled_until - self._world.now, lambda: self.received(link, message))
            return
        if link is not self.link or self.agent is None:
            return
        self._answered_at = self._world.now
        if isinstance(message, Welcome):
            self._note(f"is welcome, stops {message.stop}")
        elif isinstance(message, Stop):
            self._watch.stop_arrived(self.name, message.attempts)
        self._do(MessageArrived(message))

    def lost(self, link: SimulatedLink) -> None:
        """Say so to the agent and dial again."""
        if link is self.link and self.agent is not None:
            self._note("lost its link")
            self._forget_link()

    # Helpers

    def _do(self, command: AgentCommand) -> None:
        agent = self.agent
        assert agent is not None
        for effect in agent.apply(command, now=self._world.now):
            match effect:
                case SendUp():
                    if self.link is not None:
                        self.link.send_up(effect.message)
                case Run():
                    self.slots.run(effect.attempts)
                case StopAttempt():
                    self.slots.stop(effect.key, effect.cause, effect.grace_s)
                case TakeBack():
                    self.slots.take_back(effect.keys)
                case HangUp():
                    assert effect.retryable, effect
                    self._hang_up(effect.reason)
                case _:
                    assert_never(effect)
        self._watch_lease()

    def _watch_lease(self) -> None:
        if self.agent is not None and not self._watches_lease and (ends_at := self.agent.lease_ends_at) is not None:
            self._watches_lease = True
            self._later(min(LEASE_LOOK_S, max(0.0, ends_at - self._world.now)), self._look_at_lease)

    def _look_at_lease(self) -> None:
        self._watches_lease = False
        self._do(LeaseDue())

    def _slots_tell(self, started: list[Started], ended: list[Ended]) -> None:
        if self._world.now < self._stalled_until:
            self._later(self._stalled_until - self._world.now, lambda: self._slots_tell(started, ended))
        else:
            self._do(SlotsReported(started, ended, []))

    def _dial(self) -> None:
        if self._world.now >= self._cut_off_until:
            self.link = self._exchange.connect(self)
        if self.link is None:
            self._later(self._world.draw(self._world.pace.redial_s), self._dial)
            return
        if self._troubles:
            self.link.suffer(self._troubles)
        self._answered_at = self._world.now
        self._do(ChannelOpened(self._wall()))

    def _beat(self) -> None:
        assert self.agent is not None
        if self.link is not None:
            if self._world.now - self._answered_at > SILENCE_BEATS * max(1.0, self.agent.heartbeat_s):
                self._hang_up("nothing is answered")
            else:
                self._do(BeatDue(self._wall(), Usage()))
        self._later(self.agent.heartbeat_s * self._world.between(0.8, 1.0), self._beat)

    def _hang_up(self, reason: str) -> None:
        if self.link is not None:
            self._note(f"hangs up: {reason}")
            self.link.close_from_worker()
            self._forget_link()

    def _hang_up_on(self, link: SimulatedLink) -> None:
        if link is self.link and self.agent is not None:
            self._hang_up("it takes too long")

    def _forget_link(self) -> None:
        self.link = None
        self._do(ChannelLost())
        self._later(self._world.draw(self._world.pace.redial_s), self._dial)

    def _go_if_done(self) -> None:
        """Leave once the coordinator has heard everything. Unlike the real one it waits for that for ever."""
        assert self.agent is not None
        if not self.agent.is_done:
            self._later(GOODBYE_S, self._go_if_done)
            return
        self._note("has left")
        if self.link is not None:
            self.link.close_from_worker()
        self._end()

    def _end(self) -> None:
        self.slots.kill()
        self.agent = self.link = None
        for timer in self._timers:
            timer.cancel()
        self._watch.machine_down(self.name)
        if not self.is_steady:
            self._world.after(self._world.draw(self.down_s), self.start_if_down)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Plan something that only this instance does."""

        def act() -> None:
            if self._world.now < self._stalled_until:
                self._later(self._stalled_until - self._world.now, action)
            else:
                action()

        self._timers = [timer for timer in self._timers if not timer.is_over]
        self._timers.append(self._world.after(delay_s, act))

    def _wall(self) -> float:
        return self._world.wall + self._skew_s

    def _note(self, what: str) -> None:
        self._world.note(self.name, what)
