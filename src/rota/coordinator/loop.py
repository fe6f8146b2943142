"""The loop: gather commands, apply, commit, perform, repeat.

It is the only writer of state. Everything else hands it commands and gets answers back after the commit
that records them. When the store does not take a commit, those who wait are refused, all that is in
memory is dropped and read from the store again, by the same code as at a start; until the store
takes writes again nothing is accepted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Final, TypeVar

import structlog

from rota.coordinator.inbox import Inbox
from rota.coordinator.metrics import Counters
from rota.coordinator.pace import OutagePace
from rota.coordinator.recorder import Recorder
from rota.core.changes import Changes
from rota.core.commands import Command, ObserverStalled, ReplyTo, WorkerBeat
from rota.core.config import SchedulerConfig
from rota.core.errors import RotaError, StoreUnavailable, Unavailable
from rota.core.model import Epoch, TaskSeq
from rota.core.placement.guarded import GuardedPolicies
from rota.core.protocol import OutputChunk
from rota.core.scheduler import Scheduler
from rota.core.state import Counts
from rota.core.task import Task
from rota.core.turn import Performer, Turn
from rota.process.clock import steady_s, wall_s
from rota.store.base import Leadership

__all__ = ["Loop"]

RETRY_S_MIN: Final = 0.25
RETRY_S_MAX: Final = 5.0
"""Between tries of a store that takes no writes: soon enough that freed space is noticed by a person who waits."""

STALL_S: Final = 0.5
"""A standstill of ours that is longer is credited to the workers, who could not be heard."""

PULSE_S: Final = 0.25
"""How often the loop shows itself that it lives, when nothing else happens."""

AHEAD_MIN: Final = 64
"""Tasks and ends that must wait before a turn is begun while another is being saved.

With fewer, a commit would be worth less than it costs; it is shared by all that come until the disk is ready.
"""

NEVER: Final = sys.maxsize
"""More than can wait."""

log = structlog.get_logger(__name__)

A = TypeVar("A")


class Loop:
    """Drives turns, one after another."""

    def __init__(
        self,
        inbox: Inbox,
        recorder: Recorder,
        *,
        leadership: Leadership,
        config: SchedulerConfig,
        counters: Counters,
        on_outage: Callable[[str], None],
        policies: GuardedPolicies,
    ) -> None:
        self.turn: Turn | None = None
        self.inbox = inbox
        self.lag_s = 0.0
        self._stalled_s = 0.0  # standstills that nobody was credited yet
        self.counts = Counts()
        self._recorder = recorder
        self._leadership = leadership
        self._config = config
        self._counters = counters
        self._on_outage = on_outage
        self.policies = policies
        self._number = leadership.number
        self._next_seq = TaskSeq(leadership.last_seq + 1)
        self._wake_at: float | None = None
        self._alive_at = steady_s()
        self._stopping = False
        self._pace = OutagePace()
        self._unsaved_output: list[OutputChunk] = []
        self._saving: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._refusal: RotaError = Unavailable("the coordinator is starting: try again in a moment", code="starting")

    # For sessions and handlers

    def put(self, command: Command) -> None:
        """Hand over a command; dropped while there is no scheduler, because all channels are closed then."""
        if self.turn is not None:
            self.inbox.put(command)

    def put_beat(self, beat: WorkerBeat) -> None:
        """Hand over a heartbeat: answered at once while a commit is under way."""
        if self.turn is None:
            return
        if self.turn.is_saving:
            self.turn.meanwhile([beat], now=steady_s(), wall=wall_s())
        else:
            self.inbox.put(beat)

    def scheduler(self) -> Scheduler:
        """Return the scheduler of the present reign.

        Raises:
            Unavailable: There is none, because the coordinator starts, stops, or its store takes no writes.
        """
        if self.turn is None or self._stopping:
            raise copy(self._refusal)  # one that was raised keeps the frames that it passed: thousands in an outage
        return self.turn.scheduler

    def find_task(self, seq: TaskSeq) -> Task | None:
        """Return a task that has not ended, as far as the scheduler has come: the record may be a commit behind."""
        return self.turn.scheduler.state.tasks.get(seq) if self.turn is not None else None

    @property
    def is_serving(self) -> bool:
        """Whether commands are accepted."""
        return self.turn is not None and not self._stopping

    @property
    def is_stopping(self) -> bool:
        """Whether there will be no more turns."""
        return self._stopping

    @property
    def number(self) -> int:
        """The number of the last commit."""
        return self._number

    def wake_at(self, at: float) -> None:
        """Make the next turn begin at a steady time, if nothing makes it begin before."""
        self._wake_at = at

    # The life of the loop

    async def load(self, performer: Performer) -> None:
        """Read the state from the store and begin to serve. Used at a start and after a commit that failed.

        Raises:
            StoreError: The store can't be read.
        """
        began = time.perf_counter()
        scheduler = Scheduler(
            self._config,
            cluster_id=self._leadership.cluster,
            epoch=Epoch(self._leadership.epoch),
            next_seq=self._next_seq,
            now=steady_s(),
            wall=wall_s(),
            policies=self.policies,
        )
        scheduler.state.counts = self.counts
        scheduler.restore_workers(await self._recorder.store.load_workers())
        scheduler.restore_settings(await self._recorder.store.load_settings())
        scheduler.restore_clients(await self._recorder.store.load_clients())
        async for batch in self._recorder.store.load_tasks():
            scheduler.restore_tasks(batch)
        scheduler.finish_restore()
        self._wake_at = None
        self.turn = Turn(scheduler, performer, number=self._number)
        self.inbox.wake()
        log.info("state_loaded", tasks=len(scheduler.state.tasks), seconds=round(time.perf_counter() - began, 3))

    async def run(self, performer: Performer) -> None:
        """Turn until stopped.

        Raises:
            StoreError: The store is broken, or another leader has it: the process must leave.
        """
        try:
            while not self._stopping:
                outage: StoreUnavailable | None = None
                try:
                    await self._turns()
                except StoreUnavailable as error:
                    outage = copy(error)  # not itself: it holds the frames that it passed, and these the state
                if outage is not None:
                    await self._recover(outage, performer)
        except Exception as error:
            self._refusal = Unavailable(f"the coordinator is leaving: {error}", code="stopping")
            raise
        finally:  # whatever ended it: nobody may wait for a turn that will never come
            self._stopping = True
            if self._saving is not None:
                self._saving.cancel()
            self.inbox.refuse_all(self._refusal)
            self._idle.set()

    async def stop(self) -> None:
        """Refuse what comes from now on, and return when the turn under way is over."""
        self._refusal = Unavailable("the coordinator is stopping: try again in a moment", code="stopping")
        self._stopping = True
        self.inbox.wake()
        await self._idle.wait()

    async def ask(
        self, make: Callable[[ReplyTo], Command], answer_type: type[A] | tuple[type[A], ...], *, of: Scheduler
    ) -> A:
        """Put a command for a scheduler and return its answer.

        Args:
            make: Makes the command.
            answer_type: What it is answered with.
            of: The scheduler that served when its sender began to look things up: another one, loaded
                since, does not remember what this one knew of the latest changes.

        Raises:
            RotaError: It was not carried out.
        """
        if self.scheduler() is not of:
            raise Unavailable("the coordinator has just read its state again: send the request again")
        return await self.inbox.ask(make, answer_type)

    async def _turns(self) -> None:
        assert self.turn is not None
        while not self._stopping:
            await self._gather()
            if self._stalled_s:  # read what came meanwhile before anybody is judged by their silence
                await asyncio.sleep(0)
            began = time.perf_counter()
            commands = [*self._stall(), *self.inbox.take()]
            changes = self.turn.begin(commands, now=steady_s(), wall=wall_s())
            self._counters.turn_seconds.observe(time.perf_counter() - began)
            self._tell_of_policies()
            if changes is not None:
                self._start_saving(changes)
            elif self.turn.is_ahead:
                await self._settle()
        while self._saving is not None:
            await self._settle()

    async def _gather(self) -> None:
        """Wait for a command or a timer; while a save is under way, for its end or for enough to work ahead.

        Shows signs of life meanwhile.
        """
        while not self._stopping:
            if self._saving is not None and self._saving.done():
                await self._settle()
            now = steady_s()
            self._note_lag(now)
            if self._saving is not None:
                if self.inbox.weight >= AHEAD_MIN:
                    break
                await self.inbox.arrival(PULSE_S, at_least=AHEAD_MIN)
                continue
            due_in_s = PULSE_S if self._wake_at is None else self._wake_at - now
            if self.inbox or due_in_s <= 0.0:
                break
            await self.inbox.arrival(min(PULSE_S, due_in_s))
        self._wake_at = None

    def _note_lag(self, now: float) -> None:
        self.lag_s = max(0.0, now - self._alive_at - PULSE_S)
        self._alive_at = now
        if self.lag_s >= STALL_S:
            self._stalled_s += self.lag_s

    def _stall(self) -> Sequence[Command]:
        """The command that credits standstills, if there were any since the last turn."""
        stalled_s, self._stalled_s = self._stalled_s, 0.0
        if not stalled_s:
            return ()
        log.warning("loop_stalled", seconds=round(stalled_s, 3))
        return (ObserverStalled(stalled_s),)

    def _tell_of_policies(self) -> None:
        """Log the placement policies of other packages that have just failed, each once."""
        for failure in self.policies.take_news():
            log.error(
                "placement_policy_failed",
                policy=failure.policy,
                error=failure.problem,
                stand_in=failure.stand_in,
                traceback=failure.traceback,
            )

    def _start_saving(self, changes: Changes) -> None:
        self._saving = asyncio.ensure_future(self._save(changes))
        self._saving.add_done_callback(lambda _: self.inbox.wake())

    async def _save(self, changes: Changes) -> None:
        began = time.perf_counter()
        try:
            await self._recorder.save(changes, number=self._number + 1)
        except RotaError:
            self._counters.commit_failures += 1
            self._unsaved_output = changes.output
            raise
        counters = self._counters
        counters.commits += 1
        counters.commit_seconds.observe(time.perf_counter() - began)
        counters.commit_tasks.observe(len(changes.progress))

    async def _settle(self) -> None:
        """See the save under way to its end, begin that of the turn ahead, and carry out what is on the record.

        Raises:
            RotaError: The changes are not on the record; who waited for them is refused.
        """
        turn, saving = self.turn, self._saving
        assert turn is not None
        assert saving is not None
        while not saving.done():
            await self.inbox.arrival(PULSE_S, at_least=NEVER)
            self._note_lag(steady_s())
        self._saving = None
        try:
            saving.result()
        except RotaError as error:
            turn.abandon(error)
            raise
        finally:
            del saving  # it holds its failure, which holds this frame, and with it the state
        self._number += 1
        self._pace.saved(now=steady_s())
        following = turn.saved()
        if following is not None:
            self._start_saving(following)
            await asyncio.sleep(0)  # for the disk to begin before we go on here
        turn.perform()

    async def _recover(self, error: StoreUnavailable, performer: Performer) -> None:
        """Drop everything, wait until the store takes a write again, and load."""
        assert self.turn is not None
        log.error("store_unavailable", error=str(error))
        self._refusal = error
        # Numbers that were given in the lost turn are not given again: a client may have seen one in a log.
        self._next_seq = self.turn.scheduler.state.next_seq
        self.turn.scheduler.dismantle()
        self.turn = None
        self.inbox.refuse_all(copy(error))
        self._on_outage(str(error))
        while True:
            # Nothing arrives without a scheduler, but `stop` ends the pause.
            await self.inbox.arrival(self._pace.next_pause_s(least_s=RETRY_S_MIN, most_s=RETRY_S_MAX))
            if self._stopping:
                return
            try:
                # With the output that did not fit: else a full log store would be found out again by the next turn.
                await self._recorder.save(Changes(output=self._unsaved_output), number=self._number + 1)
                self._number += 1
                self._unsaved_output = []
                await self.load(performer)
            except StoreUnavailable as again:
                self._refusal = copy(again)
                continue
            self._pace.recovered(now=steady_s())
            log.info("store_available")
            return
