"""Attempts: how they are given to workers, and what their ends lead to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rota.core.cluster import Room
from rota.core.gang_ends import decide, doom, judge, settle
from rota.core.lifecycle import after_attempt, move
from rota.core.model import (
    ENDED_STATES,
    TASK_CAUSES,
    AttemptKey,
    Cause,
    Reason,
    TaskSeq,
    TaskState,
)
from rota.core.ordering import stream_of
from rota.core.protocol import Assignment, Ended, Report, Started
from rota.core.reservations import is_owed
from rota.core.state import State
from rota.core.task import CurrentAttempt, Task, attempt_record_of, progress_of
from rota.core.timers import LineOverdue, TaskReady
from rota.core.workers import Lane, Worker

__all__ = ["LINE_S", "OVERDUE_S", "Attempts"]

LINE_S: Final = 0.1
"""Estimated work that a lane may hold: enough to hide a round trip, too little to hold anybody back."""

REFILL_BELOW_S: Final = 0.075
"""A line is filled up when it holds less. Ends come a quarter of a line at a time, so each such report fills it.

Filled up at half, a line whose tasks ran faster than was thought was empty before the new ones came.
"""

OVERDUE_S: Final = 0.1
"""How far the head of a line may run over its estimate before the line is asked back."""


class Attempts:
    """Gives attempts to lanes and takes in what becomes of them."""

    def __init__(self, state: State) -> None:
        self._state = state

    # To a worker

    def assign(self, tasks: Sequence[Task], lanes: Iterable[Lane], room: Room) -> None:
        """Make the next attempts of pending tasks, each last in the line of its lane; all lanes are of one room.

        `lines_grew` follows once all are assigned. What is the same for all is looked up once, not task by task: that
        is half of the time.
        """
        state, notes, estimates_s = self._state, self._state.notes, room.run_times
        epoch, now, wall = state.epoch, state.now, state.wall
        dirty, batches = notes.dirty, notes.assignments
        for task, lane in zip(tasks, lanes, strict=True):
            worker, line, seq, terms = lane.worker, lane.line, task.seq, task.terms
            session, place = worker.session, worker.next_place
            assert session is not None
            estimate_s = estimates_s.estimate_s(terms.class_key)
            move(task, TaskState.ASSIGNED)
            attempt = task.attempt = task.attempt + 1
            task.ready_at = None
            task.run = CurrentAttempt(lane, place, epoch, wall, estimate_s)
            worker.next_place = place + 1
            if not line:
                lane.head_since = now
            line.append(task)
            lane.backlog_s += estimate_s
            dirty[seq] = task
            given = Assignment(seq, attempt, lane.id, place, task.id, task.spec, lane.devices)
            batch = batches.get(session)
            if batch is None:
                batches[session] = [given]
            else:
                batch.append(given)
            if task.chosen_id is not None:
                notes.chosen_ids[seq] = task.chosen_id
            if terms.exclusive:
                notes.leased.setdefault(session, []).append((seq, attempt))
        self._occupy(tasks, room)
        state.counts.attempts_assigned += len(tasks)

    def lines_grew(self, lanes: Iterable[Lane]) -> None:
        """See to lanes that were given attempts: whether they want more, and when they are overdue."""
        for lane in lanes:
            if len(lane.line) > 1:
                self._state.cluster.long_lines[lane] = None
            elif lane.backlog_s >= REFILL_BELOW_S:
                continue  # a new lane that wants no more: there is nothing to watch
            self._note_hunger(lane)
            self._watch_line(lane)

    def stop(self, task: Task, cause: Cause) -> None:
        """Ask the worker to end the current attempt, now or when it is back."""
        assert task.run is not None
        session = task.run.lane.worker.session
        if session is not None:
            self._state.notes.stops.setdefault((session, cause), []).append((task.seq, task.attempt))

    def preempt(self, lane: Lane) -> None:
        """Tell the head of a lane to make room, and ask back what stands behind it."""
        run = lane.line[0].run
        assert run is not None
        run.is_preempted = True
        self.recall(lane)
        session = lane.worker.session
        if session is not None:
            key = lane.line[0].seq, lane.line[0].attempt
            self._state.notes.stops.setdefault((session, Cause.PREEMPTED), []).append(key)

    def recall(self, lane: Lane, *, count: int | None = None) -> None:
        """Ask back what stands behind the head of a lane, or the last of it; the worker answers for each."""
        session = lane.worker.session
        waiting = lane.line[1:] if count is None else lane.line[-count:]
        if session is None or not waiting:
            return
        if count is None:
            lane.recalled = True
            lane.room.hungry.pop(lane, None)
        keys: list[AttemptKey] = [(task.seq, task.attempt) for task in waiting]
        self._state.notes.recalls.setdefault(session, []).extend(keys)

    def line_overdue(self, timer: LineOverdue) -> None:
        """Ask a line back if its head has run well over its estimate, else look again later."""
        worker = self._state.cluster.workers.get(timer.worker)
        lane = worker.lanes.get(timer.lane) if worker is not None else None
        if lane is None:
            return
        lane.timer_armed = False
        if len(lane.line) < 2:
            return
        if self._state.now >= self._overdue_at(lane):
            if not lane.recalled:
                self.recall(lane)
        else:
            self._watch_line(lane)

    def ask_again(self, lane: Lane) -> None:
        """See to the line of a worker that is back: what was asked meanwhile may never have reached it."""
        head = lane.line[0].run
        lane.recalled = head is not None and head.is_preempted  # asked just now, with the stop: nothing joins it
        lane.is_shared = False
        lane.head_since = self._state.now  # the end of its head may be on its way
        if lane.worker.is_open:
            self._watch_line(lane)
        else:
            self.recall(lane)

    # From a worker

    def report(self, worker: Worker, report: Report) -> None:
        """Take in what a worker reports. What is not about a current attempt is counted and dropped."""
        for chunk in report.output:  # before the ends: the last piece of output often comes with the end
            if self._find_current(worker, chunk.task, chunk.attempt) is not None:
                self._state.notes.changes.output.append(chunk)
        for started in report.started:
            task = self._find_current(worker, started.task, started.attempt)
            if task is not None:
                self._started(task, started, worker.skew_s)
        for ended in report.ended:
            task = self._find_current(worker, ended.task, ended.attempt)
            if task is not None:
                self._ended(task, ended, worker.skew_s)

    def lose(self, lane: Lane, message: str) -> None:
        """Write off all attempts of a lane whose worker is gone: only the first may have started."""
        tasks = list(lane.line)
        for index, task in enumerate(tasks):
            if task.terms.exclusive:
                self._state.exclusive.lost(task.seq, last_seen=lane.worker.last_seen, now=self._state.now)
            cause = Cause.WORKER_LOST if index == 0 else Cause.RETURNED
            if index == 0:
                self._state.counts.attempts_lost += 1
            self.end(task, Ended(task.seq, task.attempt, cause, message=message if index == 0 else None))

    def end(self, task: Task, ended: Ended, *, ended_at: float | None = None) -> None:
        """Close the current attempt of a task, which ended now unless said, and decide what comes next."""
        state, run = self._state, task.run
        assert run is not None
        if ended_at is None:
            ended_at = state.wall
        gang = None if task.terms.gang is None else state.gangs.of(task)
        if gang is not None:
            ended = judge(gang, task, ended)
        decision = after_attempt(task, ended.cause, state.rng)
        if gang is not None:
            decision = decide(gang, decision)
        if decision.state in ENDED_STATES:
            move(task, decision.state)
            self.record_end(task, ended=ended, cause=decision.cause, ended_at=ended_at)
        else:
            self._count_return(ended.cause)
            state.notes.changes.attempts.append(attempt_record_of(task, ended, ended_at=ended_at))
            move(task, TaskState.PENDING)
            task.run = None
            state.touch(task)
            self.queue(task, delay_s=decision.delay_s)
        self._leave_lane(task, run)
        if gang is not None:
            settle(state.gangs, task, decision, stop=self._stop_mate, end=self.end_waiting)

    def end_waiting(self, task: Task, to: TaskState, cause: Cause, *, message: str | None = None) -> None:
        """End a task that waits, and with it its gang, if it has one."""
        state = self._state
        if task.hold is not None:
            self.release(task)
        else:
            state.pending.dropped(stream_of(task.terms), state.cluster.room_of(task.terms))
        move(task, to)
        ended = None if message is None else Ended(task.seq, task.attempt, cause, message=message)
        self.record_end(task, ended=ended, cause=cause, ended_at=state.wall)
        if task.terms.gang is not None:
            gang = state.gangs.of(task)
            called = gang.call(task)
            state.gangs.leave(task)
            doom(gang, called, cause, stop=self._stop_mate, end=self.end_waiting)

    def _stop_mate(self, task: Task, cause: Cause) -> None:
        self._state.touch(task)
        self.stop(task, cause)

    def doom_mates(self, task: Task, cause: Cause) -> None:
        """Let the gang of a member end that is to end, without waiting until it has."""
        gang = self._state.gangs.of(task)
        doom(gang, gang.call(task), cause, stop=self._stop_mate, end=self.end_waiting)

    def record_end(self, task: Task, *, ended: Ended | None, cause: Cause | None, ended_at: float) -> None:
        """Take down the end of a task and let go of it: from here on only the store knows it."""
        state, notes, seq = self._state, self._state.notes, task.seq
        notes.ended[seq] = progress_of(task, ended=ended, ended_at=ended_at, cause=cause)
        notes.dirty.pop(seq, None)
        task.run = None
        del state.tasks[seq]
        if state.task_blobs:
            state.task_blobs.pop(task.seq, None)
        if ended is not None and (ended.blobs or ended.outputs):
            state.notes.changes.blobs.update(dict.fromkeys(ended.digests))
        state.note_retried_end(task, ended_at)
        if task.chosen_id is not None:
            notes.chosen_ids[seq] = task.chosen_id
            state.remember_ended(task.chosen_id)
        counts = state.counts
        if task.state is TaskState.COMPLETED:
            counts.completed += 1
        elif task.state is TaskState.CANCELLED:
            counts.cancelled += 1
        elif cause is not None:
            counts.failed[cause] = counts.failed.get(cause, 0) + 1

    def queue(self, task: Task, *, delay_s: float = 0.0) -> None:
        """Let a pending task wait: for the end of a delay first, if there is one, then for a worker."""
        state = self._state
        if delay_s > 0.0:
            task.ready_at = state.wall + delay_s
            self.hold(task, Reason.BACKOFF)
            state.timers.at(state.now + delay_s, TaskReady(task.seq, task.attempt))
            return
        if task.terms.exclusive and (may_run_until := state.exclusive.may_run_until(task.seq)) > state.now:
            self.hold(task, Reason.EXCLUSIVE)
            state.timers.at(may_run_until, TaskReady(task.seq, task.attempt))
            return
        if task.terms.gang is not None:
            self.hold(task, Reason.GANG)
            if state.gangs.get_ready(task).is_complete:
                state.cluster.stirred[state.cluster.room_of(task.terms)] = None
            return
        room = state.cluster.room_of(task.terms)
        state.pending.add(task, stream_of(task.terms), room)
        state.cluster.stirred[room] = None

    def queue_fresh(self, tasks: Sequence[Task]) -> None:
        """Let new tasks of the same terms wait for a worker."""
        state, terms = self._state, tasks[0].terms
        room = state.cluster.room_of(terms)
        state.pending.add_fresh(tasks, stream_of(terms), room)
        state.cluster.stirred[room] = None

    def hold(self, task: Task, reason: Reason) -> None:
        """Keep a pending task out of the queues for a reason of its own."""
        task.hold = reason
        self._state.held[reason] += 1

    def release(self, task: Task) -> None:
        """End a hold."""
        assert task.hold is not None
        self._state.held[task.hold] -= 1
        task.hold = None

    # Helpers

    def _find_current(self, worker: Worker, seq: TaskSeq, attempt: int) -> Task | None:
        task = self._state.tasks.get(seq)
        if task is None or task.attempt != attempt or task.run is None or task.run.lane.worker is not worker:
            self._state.counts.reports_stale += 1
            return None
        return task

    def _started(self, task: Task, started: Started, skew_s: float) -> None:
        assert task.run is not None
        if task.state is TaskState.ASSIGNED:
            move(task, TaskState.RUNNING)
        task.run.started_at = self._local(started.at, skew_s, run=task.run)
        self._state.touch(task)

    def _ended(self, task: Task, ended: Ended, skew_s: float) -> None:
        run = task.run
        assert run is not None
        ended_at = self._local(ended.ended_at, skew_s, run=run) if ended.ended_at else self._state.wall
        if ended.started_at is not None:
            run.started_at = self._local(ended.started_at, skew_s, run=run)
            ended_at = max(ended_at, run.started_at)
        cause = ended.cause
        if cause is None or cause in TASK_CAUSES:
            run.lane.room.run_times.learn(task.terms.class_key, ended.run_s)
        self.end(task, ended, ended_at=ended_at)

    def _local(self, at: float, skew_s: float, *, run: CurrentAttempt) -> float:
        """A time of a worker's clock on ours: after it was given the attempt and not after now, whatever it says."""
        here, wall = at + skew_s, self._state.wall
        if here >= wall:
            return wall
        return here if here > run.queued_at else min(run.queued_at, wall)

    def restore_to(self, task: Task, lane: Lane, estimate_s: float) -> None:
        """Put an attempt that its worker has had since before the start back into its lane."""
        lane.line.append(task)
        lane.backlog_s += estimate_s
        self._occupy([task], lane.room)

    def _occupy(self, tasks: Sequence[Task], room: Room) -> None:
        """Count live attempts: with `_vacate` the only place where use of queues and limits changes."""
        room.queue.running += len(tasks)
        for task in tasks:
            if task.terms.limits:
                self._state.limits.take(task.terms.limits)

    def _vacate(self, task: Task, lane: Lane) -> None:
        """Count it no more, and let those go on who waited for that."""
        stirred, queue = self._state.cluster.stirred, lane.room.queue
        queue.running -= 1
        if queue.rooms:
            stirred.update(queue.rooms)
            queue.rooms.clear()
        if task.terms.limits:
            for limit in self._state.limits.give_back(task.terms.limits):
                stirred.update(limit.rooms)
                limit.rooms.clear()

    def _leave_lane(self, task: Task, run: CurrentAttempt) -> None:
        lane = run.lane
        self._vacate(task, lane)
        was_head = lane.line[0] is task
        if was_head:
            del lane.line[0]
            lane.head_since = self._state.now
            lane.recalled = lane.is_shared = False
        else:
            lane.line.remove(task)
        if not lane.line:
            self._state.cluster.close_lane(lane)
            return
        lane.backlog_s -= run.estimate_s
        if len(lane.line) == 1:
            self._state.cluster.long_lines.pop(lane, None)
        self._watch_line(lane)
        if self._note_hunger(lane):
            self._state.cluster.stirred[lane.room] = None

    def _note_hunger(self, lane: Lane) -> bool:
        """Refill by quarters, not at every end: that makes messages of many tasks.

        Not where a reservation waits for the lane to end: one that is filled up again never does.
        """
        worker = lane.worker
        is_hungry = lane.backlog_s < REFILL_BELOW_S and not lane.recalled and not lane.room.shape.alone
        if is_hungry and worker.kept:
            is_hungry = not is_owed(worker, lane.room)
        if is_hungry:
            lane.room.hungry[lane] = None
        else:
            lane.room.hungry.pop(lane, None)
        return is_hungry

    def _overdue_at(self, lane: Lane) -> float:
        head = lane.line[0]
        assert head.run is not None
        return lane.head_since + min(head.run.estimate_s, LINE_S) + OVERDUE_S

    def _watch_line(self, lane: Lane) -> None:
        if not lane.timer_armed and len(lane.line) > 1:
            lane.timer_armed = True
            self._state.timers.at(self._overdue_at(lane), LineOverdue(lane.worker.id, lane.id))

    def _count_return(self, cause: Cause | None) -> None:
        if cause is Cause.RETURNED:
            self._state.counts.attempts_returned += 1
        else:
            self._state.counts.attempts_retried += 1
