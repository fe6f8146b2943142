"""What users ask for: tasks accepted, cancelled, brought back; and what their clocks bring about."""

from __future__ import annotations

from msgspec.structs import replace

from rota.core.attempts import Attempts
from rota.core.commands import CancelTasks, Draft, RetryTask, SubmitTasks
from rota.core.effects import IdsTaken, Settled
from rota.core.explain import explain_impossible
from rota.core.lifecycle import move
from rota.core.model import ENDED_STATES, AttemptRecord, Cause, Progress, Reason, TaskFacts, TaskSeq, TaskState
from rota.core.protocol import Ended
from rota.core.spec import decode_spec, terms_of
from rota.core.state import State
from rota.core.task import Task, task_from_record
from rota.core.timers import DeadlineDue, Impossible, TaskReady

__all__ = ["Intake"]


class Intake:
    """Lets tasks in, and ends those that wait."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts

    def submit(self, command: SubmitTasks) -> None:
        """Accept all drafts, or none if a chosen id is taken."""
        state = self._state
        taken = [
            index
            for index, draft in enumerate(command.drafts)
            if draft.chosen_id is not None and draft.chosen_id in state.chosen_ids
        ]
        if taken:
            state.notes.replies.append((command.reply_to, IdsTaken(taken)))
            return
        facts = [self._accept(draft) for draft in command.drafts]
        state.notes.changes.accepted.extend(facts)
        state.notes.accepted.append((command.reply_to, facts))
        state.counts.accepted += len(facts)

    def cancel(self, command: CancelTasks) -> None:
        """Wish the end of tasks: those that wait end at once, the others when their processes are gone."""
        found = [seq for seq in command.seqs if seq in self._state.tasks]
        for seq in found:
            self._wish(self._state.tasks[seq], Cause.CANCELLED)
        self._state.notes.replies.append((command.reply_to, Settled(found)))

    def retry(self, command: RetryTask) -> None:
        """Bring an ended task back with fresh budgets, unless it is back already."""
        state, facts, progress = self._state, command.record.facts, command.record.progress
        is_back = facts.seq in state.tasks or progress.state not in ENDED_STATES
        settled = [] if is_back or progress.state is TaskState.COMPLETED else [facts.seq]
        state.notes.replies.append((command.reply_to, Settled(settled)))
        if not settled:
            return
        if progress.queued_at is not None:  # else its last attempt has a row of its own already
            state.notes.changes.attempts.append(_superseded(facts.seq, progress))
        # The deadline has passed, or the person who asks for a retry overrules it; likewise the start time.
        facts = replace(facts, start_at=None, deadline_at=None)
        task = task_from_record(
            facts,
            Progress(state=progress.state, attempt=progress.attempt),
            state.intern(terms_of(decode_spec(facts.spec))),
        )
        move(task, TaskState.PENDING)
        state.notes.changes.revived.append(facts)
        self._enter(task)
        self._attempts.queue(task)

    def task_ready(self, timer: TaskReady) -> None:
        """A backoff or a start time is over."""
        task = self._state.tasks.get(timer.seq)
        if task is None or task.hold is None or task.attempt != timer.attempt:
            return
        self._attempts.release(task)
        self._attempts.queue(task)

    def deadline_due(self, timer: DeadlineDue) -> None:
        """End a task whose deadline has come."""
        task = self._state.tasks.get(timer.seq)
        if task is not None and task.deadline_at is not None and task.wish is None:
            self._wish(task, Cause.EXPIRED)

    def impossible_due(self, timer: Impossible) -> bool:
        """Fail the tasks of a shape that nobody can hold and that waited long enough.

        Returns:
            Whether others of the shape still wait for the impossible.
        """
        state = self._state
        room = state.cluster.rooms.get(timer.shape)
        if room is None:
            return False
        room.impossible_armed = False
        groups = state.pending.of_room(room)
        if not groups or state.cluster.refusal(room) is not Reason.IMPOSSIBLE:
            return False
        message = explain_impossible(state.cluster, room)
        for task in [task for group in groups for task in group.tasks() if task.seq <= timer.seq]:
            self._end_waiting(task, TaskState.FAILED, Cause.IMPOSSIBLE, message=message)
        return bool(state.pending.of_room(room))

    def restore(self, task: Task) -> None:
        """Let a pending task from the store wait as it did: for a moment, or for a worker."""
        state = self._state
        self._enter(task)
        waits_until = task.ready_at or task.start_at
        if waits_until is None or waits_until <= state.wall:
            self._attempts.queue(task)
        elif task.ready_at is not None:
            self._attempts.hold(task, Reason.BACKOFF)
            state.timers.at(state.now + waits_until - state.wall, TaskReady(task.seq, task.attempt))
        else:
            self._attempts.hold(task, Reason.START_TIME)
            state.timers.at_wall(waits_until, TaskReady(task.seq, task.attempt))

    def restore_deadline(self, task: Task) -> None:
        """Watch the deadline of a task from the store."""
        if task.deadline_at is not None:
            self._state.timers.at_wall(task.deadline_at, DeadlineDue(task.seq))

    # Helpers

    def _accept(self, draft: Draft) -> TaskFacts:
        state = self._state
        seq = state.next_seq
        state.next_seq = TaskSeq(seq + 1)
        terms = state.intern(draft.terms)
        task = Task(
            seq,
            draft.chosen_id,
            terms,
            draft.spec,
            start_at=draft.start_at,
            deadline_at=draft.deadline_at,
        )
        self._enter(task)
        if draft.start_at is None:
            self._attempts.queue(task)
        else:
            self._hold_until_start(task, draft)
        if draft.deadline_in_s is not None:
            state.timers.at(state.now + draft.deadline_in_s, DeadlineDue(seq))
        elif draft.deadline_at is not None:
            state.timers.at_wall(draft.deadline_at, DeadlineDue(seq))
        return TaskFacts(
            seq,
            draft.chosen_id,
            draft.name,
            terms.queue,
            terms.priority,
            draft.labels,
            state.wall,
            draft.start_at,
            draft.deadline_at,
            draft.spec,
        )

    def _enter(self, task: Task) -> None:
        state = self._state
        state.tasks[task.seq] = task
        if task.chosen_id is not None:
            state.chosen_ids[task.chosen_id] = task.seq
        state.touch(task)

    def _hold_until_start(self, task: Task, draft: Draft) -> None:
        assert task.start_at is not None
        timer = TaskReady(task.seq, task.attempt)
        self._attempts.hold(task, Reason.START_TIME)
        if draft.start_in_s is not None:
            self._state.timers.at(self._state.now + draft.start_in_s, timer)
        else:
            self._state.timers.at_wall(task.start_at, timer)

    def _wish(self, task: Task, cause: Cause) -> None:
        """A wish is recorded once and stays: nothing starts after it."""
        if task.wish is not None:
            return
        if task.state is TaskState.PENDING:
            state = TaskState.CANCELLED if cause is Cause.CANCELLED else TaskState.FAILED
            self._end_waiting(task, state, cause)
            return
        task.wish = cause
        self._state.touch(task)
        self._attempts.stop(task)

    def _end_waiting(self, task: Task, to: TaskState, cause: Cause, *, message: str | None = None) -> None:
        state = self._state
        if task.hold is not None:
            self._attempts.release(task)
        else:
            state.pending.dropped(state.ordering.key(task.terms), state.cluster.room(task.terms.shape))
        move(task, to)
        ended = None if message is None else Ended(task.seq, task.attempt, cause, message=message)
        self._attempts.record_end(task, ended=ended, cause=cause)


def _superseded(seq: TaskSeq, progress: Progress) -> AttemptRecord:
    """The last attempt of a task that is brought back, as a row of its own."""
    assert progress.ended_at is not None
    return AttemptRecord(
        seq=seq,
        number=progress.attempt,
        worker=progress.worker,
        queued_at=progress.queued_at,
        started_at=progress.started_at,
        ended_at=progress.ended_at,
        cause=progress.cause,
        exit_code=progress.exit_code,
        signal=progress.signal,
        cpu_seconds=progress.cpu_seconds,
        peak_memory_kib=progress.peak_memory_kib,
        stdout_bytes=progress.stdout_bytes,
        stderr_bytes=progress.stderr_bytes,
        stdout=progress.stdout,
        stderr=progress.stderr,
        message=progress.message,
    )
