"""A task that has not ended, as the core holds it.

Made once a task and there by the million while they wait, so it is small: 120 bytes, and
what only the executor needs stays encoded. What a task looked like at the end of a turn is
taken down as a `Progress`, the only form that leaves the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from rota.core.model import (
    AttemptRecord,
    Cause,
    Epoch,
    Progress,
    Reason,
    TaskFacts,
    TaskId,
    TaskSeq,
    TaskState,
    Terms,
    generated_task_id,
)
from rota.core.protocol import Ended

if TYPE_CHECKING:
    from rota.core.workers import Lane

__all__ = ["CurrentAttempt", "Task", "attempt_record_of", "progress_of", "progress_so_far", "task_from_record"]


class CurrentAttempt(Struct, gc=False):
    """The current attempt of a task, while a worker has it.

    ``estimate_s`` is what it was thought to take when it was put into its lane. ``is_preempted`` says that it was
    told to make room for another.
    """

    lane: Lane
    place: int
    epoch: Epoch
    queued_at: float
    estimate_s: float
    started_at: float | None = None
    is_preempted: bool = False


class Task(Struct, gc=False):
    """One unit of work. ``run`` is there exactly while the state is assigned or running.

    ``hold`` says what a pending task waits for that is its own business (backoff, start time);
    ``None`` means it stands in a queue, where its group knows. ``wish`` is the cause with which it is to
    end as soon as nothing of it runs.
    """

    seq: TaskSeq
    chosen_id: str | None
    terms: Terms
    spec: bytes
    state: TaskState = TaskState.PENDING
    attempt: int = 0
    retries_used: int = 0
    losses_used: int = 0
    start_at: float | None = None
    deadline_at: float | None = None
    ready_at: float | None = None
    hold: Reason | None = None
    wish: Cause | None = None
    run: CurrentAttempt | None = None

    @property
    def id(self) -> TaskId:
        return TaskId(self.chosen_id) if self.chosen_id is not None else generated_task_id(self.seq)


def progress_of(task: Task, *, ended: Ended | None, ended_at: float, cause: Cause | None) -> Progress:
    """Take down how a task ended.

    Args:
        task: As it is now; its ``run``, if any, gives worker, lane and times.
        ended: The worker's account of the last attempt, if the task ended with it.
        ended_at: When the task ended, wall clock.
        cause: Why it ended, if not well.
    """
    progress = progress_so_far(task)
    progress.ended_at = ended_at
    progress.cause = cause
    if ended is not None:
        progress.exit_code = ended.exit_code
        progress.signal = ended.signal
        progress.cpu_seconds = ended.cpu_seconds
        progress.peak_memory_kib = ended.peak_memory_kib
        progress.message = ended.message
        progress.value = ended.value
        if ended.blobs:
            progress.blobs = ended.blobs
        if ended.outputs:
            progress.outputs = ended.outputs
        if ended.stdout_bytes or ended.stderr_bytes:
            progress.stdout_bytes = ended.stdout_bytes
            progress.stderr_bytes = ended.stderr_bytes
            progress.stdout = ended.stdout
            progress.stderr = ended.stderr
    return progress


def progress_so_far(task: Task) -> Progress:
    """Take down where a task stands that has not ended. In one call, because to set fields one by one takes longer."""
    run = task.run
    if run is None:
        return Progress(
            state=task.state,
            attempt=task.attempt,
            retries_used=task.retries_used,
            losses_used=task.losses_used,
            ready_at=task.ready_at,
            wish=task.wish,
        )
    lane = run.lane
    worker = lane.worker
    return Progress(
        state=task.state,
        attempt=task.attempt,
        retries_used=task.retries_used,
        losses_used=task.losses_used,
        ready_at=task.ready_at,
        wish=task.wish,
        worker=worker.id,
        instance=worker.instance,
        lane=lane.id,
        place=run.place,
        epoch=run.epoch,
        queued_at=run.queued_at,
        started_at=run.started_at,
        devices=lane.devices,
    )


def attempt_record_of(task: Task, ended: Ended, *, ended_at: float) -> AttemptRecord:
    """Take down an attempt that another will follow."""
    run = task.run
    assert run is not None
    return AttemptRecord(
        seq=task.seq,
        number=task.attempt,
        worker=run.lane.worker.id,
        queued_at=run.queued_at,
        started_at=run.started_at,
        ended_at=ended_at,
        cause=ended.cause,
        exit_code=ended.exit_code,
        signal=ended.signal,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_kib=ended.peak_memory_kib,
        stdout_bytes=ended.stdout_bytes,
        stderr_bytes=ended.stderr_bytes,
        stdout=ended.stdout,
        stderr=ended.stderr,
        message=ended.message,
    )


def task_from_record(facts: TaskFacts, progress: Progress, terms: Terms) -> Task:
    """Make the living task from its row, without its run."""
    return Task(
        seq=facts.seq,
        chosen_id=facts.chosen_id,
        terms=terms,
        spec=facts.spec,
        state=progress.state,
        attempt=progress.attempt,
        retries_used=progress.retries_used,
        losses_used=progress.losses_used,
        start_at=facts.start_at,
        deadline_at=facts.deadline_at,
        ready_at=progress.ready_at,
        wish=progress.wish,
    )
