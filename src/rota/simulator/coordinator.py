"""A coordinator's process: the real `Turn` and `Scheduler` between links, a model store and clients.

It does what the real loop does: gather, apply, commit, perform; heartbeats are answered during a commit; after
a commit that failed everything is dropped and loaded. It can be killed at any point, also between two effects.
How effects are carried out is `SimulatedPerformer`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, assert_never

from rota.core.changes import Changes, Fence
from rota.core.commands import (
    Command,
    LeavingArrived,
    ObserverStalled,
    ReplyTo,
    ReportArrived,
    SessionClosed,
    SlotsLostArrived,
    WorkerBeat,
    WorkerHello,
)
from rota.core.config import SchedulerConfig
from rota.core.errors import RotaError, StoreUnavailable, Unavailable
from rota.core.model import Epoch, TaskSeq
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.core.protocol import (
    Closing,
    FromWorker,
    Heartbeat,
    Hello,
    Leaving,
    Marks,
    Report,
    SlotsLost,
)
from rota.core.scheduler import Scheduler
from rota.core.turn import Turn
from rota.simulator.network import SimulatedLink, WorkerEnd
from rota.simulator.pace import Range
from rota.simulator.performer import Killed, OnAnswer, SimulatedPerformer
from rota.simulator.store import ModelStore
from rota.simulator.watch import Watch
from rota.simulator.world import Planned, World

__all__ = ["Coordinator"]

PROBE_S: Final = (0.1, 1.0)
"""Between tries of a store that takes no writes."""


class Coordinator:
    """One process after another on one store."""

    def __init__(
        self,
        world: World,
        store: ModelStore,
        config: SchedulerConfig,
        watch: Watch,
        *,
        policies: Mapping[str, PolicyFactory] = POLICIES,
    ) -> None:
        self.turn: Turn | None = None
        self.is_up = False
        self.wall_jump_s = 0.0
        self.stalled_until = 0.0
        self.restart_s = world.pace.restart_s
        self._world = world
        self._store = store
        self._config = config
        self._policies = policies
        self._watch = watch
        self._reign = 0
        self._fatal_commits: dict[int, Range | None] = {}
        self._stumbles = 0
        self._performer = SimulatedPerformer(world, store, watch, put=self.put, plan_turn=self._plan_turn)
        self._clear()

    def _clear(self) -> None:
        self._inbox: list[Command] = []
        self._next_turn: Planned | None = None
        self._stall_s = 0.0
        self._performer.forget_all()

    # What may happen to it

    def start(self) -> None:
        """Start a process: take the store, load, serve."""
        self._reign += 1
        self._clear()
        self._leadership = self._store.campaign("coordinator")
        self._watch.leader_began(self._leadership.epoch)
        self._number = self._leadership.number
        self._next_seq = TaskSeq(self._leadership.last_seq + 1)
        self.is_up = True
        if self._stumbles:
            self._stumbles -= 1
            if self._world.chance(0.5):
                self._load()
            self._die()
        else:
            self._load()

    def kill(self, *, after_effects: int = 0) -> None:
        """Kill -9, now, or after so many more effects."""
        if not self.is_up:
            return
        if after_effects:
            self._performer.fuse = after_effects
        else:
            self._die()

    def kill_at_commit(self, commits: int, *, restart_s: Range | None = None) -> None:
        """Kill -9 while the so many next commit is under way: it happens, or not, and nobody is told.

        ``restart_s`` is how long it is down then, if not as ever.
        """
        is_saving = self.turn is not None and self.turn.is_saving
        self._fatal_commits[self._store.number + is_saving + commits] = restart_s

    def stumble(self, times: int) -> None:
        """Kill it, and so many of those that follow while they start: before they have loaded, or right after."""
        self._stumbles = times
        self.kill()

    def spare(self) -> None:
        """Let it live from now on."""
        self._performer.fuse = None
        self._fatal_commits.clear()
        self._stumbles = 0

    def stall(self, seconds: float) -> None:
        """Stand still, as a process that gets no processor does."""
        self._world.note("coordinator", f"stands still for {seconds:.1f} s")
        self.stalled_until = max(self.stalled_until, self._world.now + seconds)
        self._stall_s += seconds

    # For workers

    def connect(self, worker: WorkerEnd) -> SimulatedLink | None:
        """Open a link."""
        if self.turn is None:
            return None
        link = SimulatedLink(self._world, worker, self)
        self._performer.open_session(link)
        return link

    def hear_old_links(self) -> None:
        """From now on hear what is still on its way on links that were replaced."""
        self._performer.hears_old_links = True

    def received(self, link: SimulatedLink, message: FromWorker) -> None:
        """Turn a message into a command."""
        session = self._performer.find_session(link)
        if session is None or self.turn is None:
            return
        match message:
            case Heartbeat():
                self._beat(WorkerBeat(session, message))
            case Report():
                self._performer.note_report(session, message)
                self.put(ReportArrived(session, message))
            case Hello():
                self._world.note("coordinator", f"hears a hello of {message.instance} on {session}")
                self.put(WorkerHello(session, message))
            case SlotsLost():
                self.put(SlotsLostArrived(session, message.count, message.message))
            case Leaving():
                self.put(LeavingArrived(session, message.done))
            case Marks():
                pass
            case _:
                assert_never(message)

    def lost(self, link: SimulatedLink) -> None:
        """Tell the core that a link is gone."""
        session = self._performer.take_session(link)
        if session is not None:
            self.put(SessionClosed(session))

    # For clients

    def ask(self, make: Callable[[ReplyTo], Command], on_answer: OnAnswer, *, of: Turn | None) -> None:
        """Put a command whose answer comes after the commit that records it.

        Refused if it follows from a look into the store under another scheduler than the present one: that one
        remembered what had changed since.
        """
        if self.turn is None or self.turn is not of:
            self._performer.hand_out(on_answer, Unavailable("not now") if self.is_up else None)
        else:
            self.put(self._performer.expect(make, on_answer))

    def put(self, command: Command) -> None:
        """Hand over a command; dropped while there is no scheduler, because all channels are closed then."""
        if self.turn is not None:
            self._inbox.append(command)
            self._plan_turn()

    # The loop

    def _plan_turn(self) -> None:
        turn = self.turn
        if turn is None or turn.is_ahead or self._next_turn is not None:
            return
        # While a save is under way a turn goes ahead now and then, as it does where there is much to do.
        if not turn.is_saving or self._world.chance(self._world.pace.ahead_part):
            delay_s = max(self.stalled_until - self._world.now, 0.0) + self._world.draw(self._world.pace.turn_s)
            self._next_turn = self._world.after(delay_s, lambda: self._guard(self._begin))

    def _begin(self) -> None:
        turn = self.turn
        assert turn is not None
        self._next_turn = None
        self._performer.forget_wake()
        commands, self._inbox = self._inbox, []
        if self._stall_s:
            commands = [ObserverStalled(self._stall_s), *commands]
            self._stall_s = 0.0
        changes = turn.begin(commands, now=self._world.now, wall=self._wall())
        self._watch.turn_applied(turn.scheduler.state)
        if not turn.is_ahead:  # else its state is looked at when its changes are
            self._watch.state_changed(turn.scheduler.state, changes)
        if changes is not None:
            self._save(changes)
        elif not turn.is_ahead:
            self._go_on()

    def _save(self, changes: Changes) -> None:
        turn, reign = self.turn, self._reign
        assert turn is not None
        fence = Fence(self._leadership.epoch, self._leadership.holder, self._number + 1)

        def done(error: RotaError | None) -> None:
            if self._reign == reign and self.turn is turn:
                self._guard(lambda: self._saved(error))

        self._store.commit(changes, fence, done)
        due = [number for number in self._fatal_commits if number <= fence.number]
        if due:
            restarts = [self._fatal_commits.pop(number) for number in due]
            self.restart_s = restarts[-1] or self.restart_s
            raise Killed

    def _saved(self, error: RotaError | None) -> None:
        turn = self.turn
        assert turn is not None
        if error is None:
            self._number += 1
            following = turn.saved()
            if following is not None:
                self._watch.count("turns ahead")
                self._watch.state_changed(turn.scheduler.state, following)
                self._save(following)
            else:
                self._watch.recorded(turn.scheduler)
            turn.perform()
            assert turn.number == self._number
            self._go_on()
        elif isinstance(error, StoreUnavailable):
            turn.abandon(error)
            self._recover(error)
        else:
            turn.abandon(error)
            self._leave(error)

    def _go_on(self) -> None:
        if self._inbox:
            self._plan_turn()

    def _beat(self, beat: WorkerBeat) -> None:
        turn = self.turn
        assert turn is not None
        if turn.is_saving and self._world.now >= self.stalled_until:
            self._guard(lambda: turn.meanwhile([beat], now=self._world.now, wall=self._wall()))
        else:
            self.put(beat)

    # Beginnings and ends

    def _load(self) -> None:
        record = self._store.record
        scheduler = Scheduler(
            self._config,
            cluster_id=self._leadership.cluster,
            epoch=Epoch(self._leadership.epoch),
            next_seq=self._next_seq,
            now=self._world.now,
            wall=self._wall(),
            policies=self._policies,
        )
        scheduler.restore_settings(record.settings[key] for key in sorted(record.settings))
        scheduler.restore_workers(record.workers[name] for name in sorted(record.workers))
        scheduler.restore_clients(record.clients[name] for name in sorted(record.clients))
        scheduler.restore_tasks(record.unfinished())
        scheduler.finish_restore()
        self._watch.state_loaded(scheduler.state)
        self.turn = Turn(scheduler, self._performer, number=self._number)
        self._world.note("coordinator", f"loaded {len(scheduler.state.tasks)} tasks at commit {self._number}")
        self._watch.count("loads")

    def _recover(self, error: RotaError) -> None:
        """Drop everything, wait until the store takes a write again, and load."""
        assert self.turn is not None
        self._world.note("coordinator", f"drops its state: {error}")
        self._next_seq = self.turn.scheduler.state.next_seq
        self._drop_all(error)
        for link in self._performer.links:
            link.send_down(Closing("the store takes no writes"))
            link.close_from_coordinator()
        self._clear()
        self._probe_later()

    def _probe_later(self) -> None:
        reign = self._reign

        def probe() -> None:
            if self._reign == reign:
                fence = Fence(self._leadership.epoch, self._leadership.holder, self._number + 1)
                self._store.commit(Changes(), fence, done)

        def done(error: RotaError | None) -> None:
            if self._reign != reign:
                return
            if error is None:
                self._number += 1
                self._load()
            elif isinstance(error, StoreUnavailable):
                self._probe_later()
            else:
                self._leave(error)

        self._world.after(self._world.between(*PROBE_S), probe)

    def _guard(self, action: Callable[[], None]) -> None:
        if not self.is_up:
            return
        try:
            action()
        except Killed:
            self._die()

    def _die(self) -> None:
        self._world.note("coordinator", "is killed")
        self._watch.count("kills of the coordinator")
        self._end()

    def _leave(self, error: RotaError) -> None:
        """End the process: the store is another's, or not as this one left it. Whoever starts it again is outside.

        With several coordinators the others would lead from here on; here the same machine campaigns anew.
        """
        self._world.note("coordinator", f"leaves: {error}")
        self._watch.leader_left(error)
        self._end()

    def _end(self) -> None:
        self._reign += 1
        self._performer.fuse = None
        self.is_up = False
        self._drop_all(None)
        self._store.abandon()
        for link in self._performer.links:
            # What it said last may be on its way, or may be lost with the machine.
            self._world.rng.choice((link.close_from_coordinator, link.cut, link.die))()
        self._clear()
        self._world.after(self._world.draw(self.restart_s), self.start)

    def _drop_all(self, error: RotaError | None) -> None:
        if self.turn is not None:
            self.turn.scheduler.dismantle()
        self.turn = None
        self._performer.forget_wake()
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._performer.answer_all(error)

    def _wall(self) -> float:
        return self._world.wall + self.wall_jump_s
