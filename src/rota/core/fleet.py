"""Workers: how they come, fall silent, are lost, come back and leave.

A broken channel is not a lost worker. Silence is: after a while the worker is suspicious and gets nothing
new, later it is offline and its attempts go elsewhere. Nobody is declared offline soon after a
start, nor when so many fall silent at once, or stay away after a start, that the fault must be ours.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import Final

from rota.core.attempts import Attempts
from rota.core.commands import (
    ForgetWorker,
    LeavingArrived,
    ObserverStalled,
    SessionClosed,
    SessionId,
    SetDrained,
    SlotsLostArrived,
    WorkerBeat,
    WorkerHello,
)
from rota.core.effects import WorkerForgotten, WorkerKnown
from rota.core.model import AttemptKey, Cause, LaneId, Progress, WorkerId, WorkerRecord, WorkerState
from rota.core.protocol import PROTOCOL_VERSION, WORKER_ID_TAKEN, Ended, HeartbeatAck, Hello, Refused, Welcome
from rota.core.state import State
from rota.core.task import CurrentAttempt, Task
from rota.core.timers import WorkerDue
from rota.core.workers import Worker

__all__ = ["BLACKOUT_WINDOW_S", "Fleet"]

BLACKOUT_WINDOW_S: Final = 60.0
"""Silences within this time are counted together."""

BLACKOUT_WORKERS_MIN: Final = 3
"""Fewer silent workers than this are a coincidence, not a blackout."""


class Fleet:
    """Keeps the workers."""

    def __init__(self, state: State, attempts: Attempts, *, cluster_id: str, started_at: float) -> None:
        self._state = state
        self._attempts = attempts
        self._cluster_id = cluster_id
        self._grace_until = started_at + state.config.grace_s
        self._blackout_until = started_at
        self._silences: deque[tuple[float, WorkerId]] = deque()
        self._restored = 0
        self._awaited: set[WorkerId] = set()

    # From the store

    def restore_worker(self, record: WorkerRecord) -> None:
        """Know a worker again; it has until the end of the grace to come back."""
        worker = self._state.cluster.add(record, now=self._state.now)
        if worker.state is not WorkerState.OFFLINE:
            self._restored += 1
            self._awaited.add(worker.id)
        self._watch(worker)

    def restore_attempts(self, running: list[tuple[Task, Progress]]) -> None:
        """Put attempts that workers had back into their lanes, in the order of their places."""

        def lane_of(item: tuple[Task, Progress]) -> tuple[WorkerId, LaneId]:
            _, progress = item
            assert progress.worker is not None
            assert progress.lane is not None
            return progress.worker, progress.lane

        running.sort(key=lambda item: (*lane_of(item), item[1].place or 0))
        for (worker_id, lane_id), items in groupby(running, key=lane_of):
            worker = self._state.cluster.workers[worker_id]
            self._rebuild_lane(worker, lane_id, list(items))

    # From workers

    def hello(self, command: WorkerHello) -> None:
        """Let a worker in, and agree with it on what it has."""
        hello, session = command.hello, command.session
        if session in self._state.cluster.sessions:
            self._state.notes.disconnect(session, "said hello twice on one channel")
            self.closed(SessionClosed(session))
            return
        worker = self._state.cluster.workers.get(hello.worker)
        refusal = self._find_refusal(hello, worker)
        if refusal is not None:
            self._state.notes.send(session, refusal)
            self._state.notes.disconnect(session, refusal.message)
            return
        if worker is None:
            worker = self._admit(hello)
        elif worker.instance == hello.instance:
            self._come_back(worker)
        else:
            self._replace(worker, hello)
        self._take_session(worker, session, hello)
        stop = self._reconcile(worker, hello)
        config = self._state.config
        self._state.notes.send(
            session,
            Welcome(
                PROTOCOL_VERSION,
                self._cluster_id,
                self._state.epoch,
                config.heartbeat_s,
                stop,
                config.kill_grace_s,
                config.blob_home,
                config.lease_s,
                config.lease_grace_s,
            ),
        )
        self._restate(worker)

    def beat(self, command: WorkerBeat) -> None:
        """Note that a worker lives. Saves nothing, so it may be applied while a commit is under way."""
        worker = self._state.cluster.sessions.get(command.session)
        if worker is None:
            return
        worker.usage = command.beat.usage
        worker.skew_s = self._state.wall - command.beat.sent_at
        self.heard(worker)
        self._state.notes.send(command.session, HeartbeatAck(command.beat.sent_at))

    def heard(self, worker: Worker) -> None:
        """Count any message as a sign of life."""
        worker.last_seen = self._state.now
        if worker.state is WorkerState.SUSPICIOUS and worker.session is not None:
            self._set_state(worker, WorkerState.ONLINE, "worker_back")
            self._watch(worker)

    def slots_lost(self, command: SlotsLostArrived) -> None:
        """Offer fewer lanes on a worker that could not empty some slots."""
        worker = self._state.cluster.sessions.get(command.session)
        if worker is not None:
            worker.quarantined = command.count
            self._state.notes.notice("slots_quarantined", worker.id, command.message)

    def leaving(self, command: LeavingArrived) -> None:
        """Give a worker that wants to leave nothing new; let it go when it is done."""
        worker = self._state.cluster.sessions.get(command.session)
        if worker is None:
            return
        if not worker.leaving:
            worker.leaving = True
            self._empty_lines(worker)
            self._state.cluster.worker_changed(worker)
            self._state.notes.notice("worker_leaving", worker.id)
        if command.done:
            # It has nothing and owes nothing, so what we gave it last came too late to start: no loss.
            for task in list(worker.attempts()):
                self._return(task)
            self._lose(worker, "left")

    def closed(self, command: SessionClosed) -> None:
        """Note that a channel is gone. The worker has until its time is up to come back."""
        worker = self._state.cluster.sessions.pop(command.session, None)
        if worker is not None and worker.session == command.session:
            worker.session = None
            self._state.cluster.worker_changed(worker)
            if worker.state is WorkerState.ONLINE:
                self._state.notes.notice("worker_disconnected", worker.id)

    def set_drained(self, command: SetDrained) -> None:
        """Drain or resume a worker, known or not."""
        worker = self._state.cluster.workers.get(command.worker)
        self._state.notes.replies.append((command.reply_to, WorkerKnown(worker is not None)))
        if worker is None or worker.drained == command.drained:
            return
        worker.drained = command.drained
        self._state.notes.dirty_workers[worker.id] = worker
        if worker.drained:
            self._empty_lines(worker)
        self._state.cluster.worker_changed(worker)
        self._state.notes.notice("worker_drained" if worker.drained else "worker_resumed", worker.id)

    def forget(self, command: ForgetWorker) -> None:
        """Strike off a worker because somebody knows that it is gone: what it had goes elsewhere now.

        One that is heard is refused: it would only come back, and what it runs would have run in vain.
        """
        worker = self._state.cluster.workers.get(command.worker)
        problem = None
        if worker is not None and worker.session is not None and worker.state is WorkerState.ONLINE:
            problem = f"worker {worker.id!r} is connected: drain it, stop it, and then forget it"
        elif worker is not None:
            if worker.state is not WorkerState.OFFLINE:
                self._state.counts.workers_lost += 1
                self._lose(worker, "forgotten")
            self._forget(worker)
            self._state.notes.notice("worker_forgotten", worker.id)
        self._state.notes.replies.append((command.reply_to, WorkerForgotten(problem)))

    # From the clock

    def stalled(self, command: ObserverStalled) -> None:
        """Credit our own standstill to every worker: nobody could be heard."""
        for worker in self._state.cluster.workers.values():
            worker.last_seen = min(self._state.now, worker.last_seen + command.lag_s)

    def look(self, timer: WorkerDue) -> None:
        """See how long a worker has been silent, and look again when that could mean more."""
        worker = self._state.cluster.workers.get(timer.worker)
        if worker is None or worker.watch != timer.watch:
            return
        config, now = self._state.config, self._state.now
        silent_s = now - worker.last_seen
        if worker.state is WorkerState.OFFLINE:
            if silent_s >= config.forget_after_s:
                self._forget(worker)
                return
        elif silent_s >= config.offline_after_s and now >= self._spared_until:
            self._await_the_missing()
            if now >= self._spared_until:
                self._state.counts.workers_lost += 1
                self._lose(worker, f"silent for {silent_s:.0f} s")
            elif worker.state is WorkerState.ONLINE:  # not looked at for long: spared, but not to be trusted
                self._suspect(worker)
        elif silent_s >= config.suspicious_after_s and worker.state is WorkerState.ONLINE:
            self._suspect(worker)
        self._watch(worker)

    # Helpers

    @property
    def _spared_until(self) -> float:
        """Nobody is declared offline before this time."""
        return max(self._grace_until, self._blackout_until)

    def _find_refusal(self, hello: Hello, worker: Worker | None) -> Refused | None:
        if hello.version != PROTOCOL_VERSION:
            return Refused(
                "protocol_version",
                f"the worker speaks protocol {hello.version}, the coordinator {PROTOCOL_VERSION}: "
                "run the same version of rota on both",
                retryable=False,
            )
        in_use = (
            worker is not None
            and worker.instance != hello.instance
            and worker.session is not None
            and worker.state is WorkerState.ONLINE
        )
        if in_use:
            return Refused(
                WORKER_ID_TAKEN,
                f"another worker is connected as {hello.worker!r}: give this one another --id",
                retryable=True,
            )
        return None

    def _admit(self, hello: Hello) -> Worker:
        """Let in a worker that is not known: it never came, or was struck off; if in this turn, it stays on record."""
        gone = self._state.notes.changes.workers_gone
        if hello.worker in gone:
            gone.remove(hello.worker)
        record = WorkerRecord(
            id=hello.worker,
            instance=hello.instance,
            offer=hello.offer,
            drained=False,
            registered_at=self._state.wall,
            lost_at=None,
        )
        return self._state.cluster.add(record, now=self._state.now)

    def _come_back(self, worker: Worker) -> None:
        """The same agent on a new channel: the old channel, if still open, is a corpse."""
        if worker.session is not None:
            self._state.notes.disconnect(worker.session, "replaced by a new channel of the same worker")
            self._state.cluster.sessions.pop(worker.session, None)

    def _replace(self, worker: Worker, hello: Hello) -> None:
        """A new agent under a known id: what the old one had is lost at once."""
        self._come_back(worker)
        worker.session = None
        self._lose_attempts(worker, f"worker {worker.id} was started anew")
        worker.instance = hello.instance
        worker.quarantined = 0
        self._state.cluster.change_offer(worker, hello.offer)

    def _take_session(self, worker: Worker, session: SessionId, hello: Hello) -> None:
        worker.session = session
        self._state.cluster.sessions[session] = worker
        worker.leaving = False
        worker.lost_at = None
        self._awaited.discard(worker.id)
        worker.last_seen = self._state.now
        worker.skew_s = self._state.wall - hello.sent_at
        self._set_state(worker, WorkerState.ONLINE, "worker_online")
        self._watch(worker)
        self._state.notes.dirty_workers[worker.id] = worker

    def _reconcile(self, worker: Worker, hello: Hello) -> list[AttemptKey]:
        """Compare what the worker has with what we think it has.

        What it reports and we know goes on. What we know and it does not report never reached it
        and returns free. What it reports and we don't know is named in the answer: it must stop.
        """
        known = {(task.seq, task.attempt): task for task in worker.attempts()}
        reported: set[AttemptKey] = set()
        if hello.cluster in (None, self._cluster_id):  # else its numbers are another cluster's
            reported.update((held.task, held.attempt) for held in hello.holds)
            reported.update(hello.ended)
        for key, task in known.items():
            if key not in reported:
                self._return(task)
        held_keys = [(held.task, held.attempt) for held in hello.holds]
        return [key for key in held_keys if key not in known or key not in reported]

    def _return(self, task: Task) -> None:
        """Let an attempt that its worker never had run again, at no charge."""
        message = "the assignment never reached the worker"
        self._attempts.end(task, Ended(task.seq, task.attempt, Cause.RETURNED, message=message))

    def _restate(self, worker: Worker) -> None:
        """Ask again for what a worker may not have heard: the end of attempts, and the way back of lines."""
        for task in worker.attempts():
            if task.wish is not None:
                self._attempts.stop(task, task.wish)
            elif task.run is not None and task.run.is_preempted:
                self._attempts.preempt(task.run.lane)
            elif task.terms.gang is not None and self._state.gangs.of(task).is_stopping:
                self._attempts.stop(task, Cause.GANG)
        for lane in worker.lanes.values():
            self._attempts.ask_again(lane)

    def _rebuild_lane(self, worker: Worker, lane_id: LaneId, items: list[tuple[Task, Progress]]) -> None:
        state = self._state
        room = state.cluster.room_of(items[0][0].terms)
        lane = state.cluster.adopt_lane(worker, room, lane_id, items[0][1].devices)
        lane.head_since = state.now
        lane.recalled = True  # until its head ends: how far that is, nobody knows
        for task, progress in items:
            assert progress.place is not None
            assert progress.epoch is not None
            estimate_s = room.run_times.estimate_s(task.terms.class_key)
            queued_at = progress.queued_at or 0.0
            task.run = CurrentAttempt(lane, progress.place, progress.epoch, queued_at, estimate_s, progress.started_at)
            self._attempts.restore_to(task, lane, estimate_s)
            worker.next_place = max(worker.next_place, progress.place + 1)
        if room.policy.looks_at_tasks:
            state.cluster.give_key(lane, room.policy.key_of(items[0][0]))

    def _suspect(self, worker: Worker) -> None:
        self._set_state(worker, WorkerState.SUSPICIOUS, "worker_suspicious")
        now = self._state.now
        self._silences.append((now, worker.id))
        while self._silences and self._silences[0][0] < now - BLACKOUT_WINDOW_S:
            self._silences.popleft()
        silent = len({worker_id for _, worker_id in self._silences})
        fleet = sum(worker.state is not WorkerState.OFFLINE for worker in self._state.cluster.workers.values())
        self._spare_all_if_most_are(silent, of=fleet, are="fell silent")

    def _await_the_missing(self) -> None:
        """When the grace is over, give those whom we knew before the start more time, once, if most stay away."""
        missing, self._awaited = len(self._awaited), set()
        self._spare_all_if_most_are(missing, of=self._restored, are="did not come back after the start")

    def _spare_all_if_most_are(self, count: int, *, of: int, are: str) -> None:
        """Declare nobody offline for a while if at least half are not heard: then the fault is likely ours."""
        if count < BLACKOUT_WORKERS_MIN or 2 * count < of:
            return
        now = self._state.now
        if now >= self._blackout_until:
            self._state.counts.blackouts += 1
            self._state.notes.notice("blackout", detail=f"{count} of {of} workers {are}: nobody is lost yet")
        self._blackout_until = now + self._state.config.blackout_s

    def _lose(self, worker: Worker, why: str) -> None:
        self._set_state(worker, WorkerState.OFFLINE, "worker_offline", why)
        if worker.session is not None:
            self._state.notes.disconnect(worker.session, why)
            self._state.cluster.sessions.pop(worker.session, None)
            worker.session = None
        worker.lost_at = self._state.wall
        self._state.notes.dirty_workers[worker.id] = worker
        self._lose_attempts(worker, f"worker {worker.id} was lost ({why})")

    def _lose_attempts(self, worker: Worker, message: str) -> None:
        for lane in list(worker.lanes.values()):
            self._attempts.lose(lane, message)

    def _forget(self, worker: Worker) -> None:
        self._awaited.discard(worker.id)
        self._state.cluster.remove(worker)
        self._state.notes.dirty_workers.pop(worker.id, None)
        self._state.notes.changes.workers_gone.append(worker.id)

    def _empty_lines(self, worker: Worker) -> None:
        for lane in worker.lanes.values():
            self._attempts.recall(lane)

    def _set_state(self, worker: Worker, to: WorkerState, event: str, detail: str = "") -> None:
        if worker.state is not to:
            worker.state = to
            self._state.notes.notice(event, worker.id, detail)
        self._state.cluster.worker_changed(worker)

    def _watch(self, worker: Worker) -> None:
        """Set the next look at a worker for when its silence could next mean something."""
        config, state = self._state.config, worker.state
        if state is WorkerState.OFFLINE:
            at = worker.last_seen + config.forget_after_s
        elif state is WorkerState.ONLINE:
            at = worker.last_seen + config.suspicious_after_s
        else:
            at = max(worker.last_seen + config.offline_after_s, self._spared_until)
        # Never in the past: a look that changes nothing must not be repeated in the same turn.
        worker.watch += 1
        self._state.timers.at(max(at, self._state.now + 0.001), WorkerDue(worker.id, worker.watch))
