"""What must hold over a whole run: sees every commit, every message that leaves, and all that really runs.

It believes nobody: what ran is known from the slots, what is on record from the store, and what was
promised from the answers that clients got.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from rota.core.changes import Changes
from rota.core.commands import CancelTasks, Command
from rota.core.effects import Accepted, Answer
from rota.core.gangs import gang_name
from rota.core.invariants import check_invariants
from rota.core.model import (
    ACTIVE_STATES,
    ENDED_STATES,
    MACHINE_CAUSES,
    TASK_CAUSES,
    AttemptKey,
    Cause,
    LaneId,
    Progress,
    TaskSeq,
    TaskState,
    WorkerId,
)
from rota.core.protocol import Assign, Assignment, FromCoordinator, Report, Stop
from rota.core.spec import decode_spec
from rota.core.state import State
from rota.simulator.record import Record
from rota.simulator.watch import Watch
from rota.simulator.world import World

__all__ = ["Checker", "Execution"]

SUPERSEDED: Final = (Cause.WORKER_LOST, Cause.RETURNED)
"""How the record ends an attempt whose worker did not say how it ended."""


class Execution(Struct):
    """An attempt that really ran. ``is_held`` while a living worker has it, or its result, and it is not on record.

    ``runs`` while there is a process of it somewhere, whoever knows of it.
    """

    worker: str
    has_ended: bool = False
    runs: bool = True
    cause: Cause | None = None
    is_held: bool = True


class Checker(Watch):
    """Raises `AssertionError` at the first broken promise."""

    is_strict = True

    def __init__(self, world: World, record: Record, *, workers_may_be_lost: bool) -> None:
        self.record = record
        self.accepted: set[TaskSeq] = set()
        self.cancel_asked: set[TaskSeq] = set()
        self.executions: dict[AttemptKey, Execution] = {}
        self.counts: dict[str, int] = {}
        self._world = world
        self._workers_may_be_lost = workers_may_be_lost
        self._ends: dict[AttemptKey, Cause | None] = {}
        self._stopped: set[tuple[str, AttemptKey]] = set()

    def count(self, what: str) -> None:
        """Count something that is shown with the run."""
        self.counts[what] = self.counts.get(what, 0) + 1

    # What really happens on machines

    def attempt_started(self, worker: str, instance: str, given: Assignment) -> None:
        key = (given.task, given.attempt)
        self._world.note(worker, f"runs {given.task}.{given.attempt} in lane {given.lane}")
        self.count("attempts run")
        progress = self.record.progress[given.task]
        assert key not in self.executions, f"attempt {key} is run twice"
        assert progress.attempt >= given.attempt, f"attempt {key} runs and is not on record"
        assert (worker, key) not in self._stopped, f"attempt {key} starts after its stop"
        self._check_exclusive(given)
        self.executions[key] = Execution(worker)
        del instance

    def attempt_ended(self, worker: str, key: AttemptKey, cause: Cause | None) -> None:
        self._world.note(worker, f"ends {key[0]}.{key[1]}: {cause.value if cause else 'done'}")
        execution = self.executions[key]
        execution.has_ended, execution.runs, execution.cause = True, False, cause

    def stop_arrived(self, worker: str, keys: list[AttemptKey]) -> None:
        self._stopped.update((worker, key) for key in keys)

    def machine_down(self, worker: str) -> None:
        for execution in self.executions.values():
            if execution.worker == worker:
                execution.is_held = execution.runs = False

    # What leaves the coordinator

    def state_changed(self, state: State) -> None:
        check_invariants(state)

    def message_leaves(self, message: FromCoordinator) -> None:
        """Nothing is told to a worker that is not on record."""
        match message:
            case Assign():
                for given in message.attempts:
                    self._check_assignment(given)
            case Stop():
                for seq, _ in message.attempts:
                    progress = self.record.progress[seq]
                    if message.cause is Cause.GANG and gang_name(self.record.facts[seq]) is not None:
                        continue
                    assert progress.wish is message.cause or progress.state in ENDED_STATES, (seq, message)
            case _:
                pass

    def report_acknowledged(self, report: Report) -> None:
        """What is acknowledged is on record: the worker forgets it now."""
        for started in report.started:
            progress = self.record.progress[started.task]
            is_known = progress.attempt != started.attempt or progress.state is not TaskState.ASSIGNED
            assert is_known, f"the start of {started} is forgotten"
        for ended in report.ended:
            progress = self.record.progress[ended.task]
            is_known = progress.attempt != ended.attempt or progress.state not in ACTIVE_STATES
            assert is_known, f"the end of {ended} is forgotten"

    def answer_leaves(self, command: Command, answer: Answer) -> None:
        """Nothing is promised to a client that is not on record."""
        if isinstance(answer, Accepted):
            assert all(task.facts.seq in self.record.facts for task in answer.tasks)
        if isinstance(command, CancelTasks):
            for seq in command.seqs:
                progress = self.record.progress[seq]
                assert progress.wish is not None or progress.state in ENDED_STATES, f"{seq} is not cancelled"

    # What goes on record

    def commit(self, before: Record, changes: Changes) -> None:
        """Look at a commit, with the rows as they were before it."""
        gone = {worker for worker in before.workers if _is_gone(before, changes, worker)}
        assert self._workers_may_be_lost or not gone, f"{gone} given up for nothing"
        revived = {facts.seq for facts in changes.revived}
        ends: dict[AttemptKey, Cause | None] = {}
        for row in changes.attempts:
            if row.seq in revived:
                assert self._ends[row.seq, row.number] == row.cause
            else:
                ends[row.seq, row.number] = row.cause
        for seq, progress in changes.progress:
            self._check_progress(seq, before.progress.get(seq), progress, ends=ends, is_revived=seq in revived)
            if progress.state in ENDED_STATES:
                self.count(f"tasks {progress.state.word}")
                if progress.queued_at is not None:
                    ends[seq, progress.attempt] = progress.cause
        for key, cause in ends.items():
            self._check_end(before.progress[key[0]], key, cause, gone=gone)
        self._check_losses(before, ends)
        self._check_gangs(before, changes)

    # At the end

    def check_over(self) -> None:
        """All that was promised has been kept."""
        record = self.record
        for seq in self.accepted:
            assert seq in record.facts, f"task {seq} was acknowledged and is lost"
        for seq, progress in record.progress.items():
            assert progress.state in ENDED_STATES, f"task {seq} is {progress.state.word} for ever"
            if progress.state is TaskState.COMPLETED:
                assert self.executions[seq, progress.attempt].cause is None
        for key, execution in self.executions.items():
            assert not execution.is_held, f"what became of {key} on {execution.worker} never got on record"

    # Helpers

    def _check_exclusive(self, given: Assignment) -> None:
        """No two attempts of an exclusive task overlap in time."""
        if self._is_exclusive(given.task):
            self.count("exclusive attempts run")
            for number in range(1, given.attempt):
                before = self.executions.get((given.task, number))
                assert before is None or not before.runs, f"exclusive task {given.task} runs twice at once"

    def _is_exclusive(self, seq: TaskSeq) -> bool:
        return decode_spec(self.record.facts[seq].spec).exclusive

    def _check_assignment(self, given: Assignment) -> None:
        progress = self.record.progress[given.task]
        assert (progress.attempt, progress.lane, progress.place) == (given.attempt, given.lane, given.place), given
        assert progress.state in ACTIVE_STATES, f"task {given.task} is assigned while {progress.state.word}"
        assert progress.wish is None, f"task {given.task} is assigned after its cancel"

    def _check_progress(
        self,
        seq: TaskSeq,
        before: Progress | None,
        after: Progress,
        *,
        ends: dict[AttemptKey, Cause | None],
        is_revived: bool,
    ) -> None:
        """Budgets are charged for what happened, and a wish is kept."""
        if before is None or is_revived:
            assert (after.retries_used, after.losses_used) == (0, 0), after
            return
        spec = decode_spec(self.record.facts[seq].spec)
        if after.state in ENDED_STATES:
            if before.wish is not None:
                assert after.cause is before.wish, f"task {seq} was to end as {before.wish}, not {after.cause}"
            cause: Cause | None = after.cause
            charged = cause in MACHINE_CAUSES or ends.get((seq, before.attempt)) in MACHINE_CAUSES
        else:
            assert before.wish in (None, after.wish), f"task {seq} forgot its wish"
            cause = ends.get((seq, before.attempt))
            charged = cause in MACHINE_CAUSES
            assert after.retries_used - before.retries_used == (cause in TASK_CAUSES), (seq, cause)
        assert after.losses_used - before.losses_used == charged, (seq, cause)
        assert after.retries_used <= spec.retries
        assert after.losses_used <= spec.losses + 1

    def _check_end(self, before: Progress, key: AttemptKey, cause: Cause | None, *, gone: set[WorkerId]) -> None:
        """An attempt ends on record as it ended in the world, unless its worker was given up."""
        assert key not in self._ends, f"attempt {key} ends twice: {self._ends[key]} and {cause}"
        assert before.attempt == key[1], f"attempt {key} was never on record"
        self._ends[key] = cause
        leased = " in a lease" if cause is Cause.WORKER_LOST and self._is_exclusive(key[0]) else ""
        self.count(f"attempts {cause.value if cause else 'done'}{leased}")
        execution = self.executions.get(key)
        if execution is None:
            assert cause is not None, f"{key} ended well without having run"
            assert cause not in TASK_CAUSES, f"{key} ended as {cause} without having run"
        elif execution.is_held and before.worker not in gone:
            assert execution.has_ended, f"{key} ends as {cause} and runs on {execution.worker}"
            assert cause is execution.cause or self._is_wished(key[0], cause), f"{key}: {execution.cause}, not {cause}"
        else:
            right = cause is execution.cause or cause in SUPERSEDED or self._is_wished(key[0], cause)
            assert right, f"{key}: {execution.cause}, not {cause}"
        if execution is not None:
            execution.is_held = False

    def _is_wished(self, seq: TaskSeq, cause: Cause | None) -> bool:
        """Whether somebody asked for this end, or for that of its gang."""
        mates = {seq, *(mate.facts.seq for mate in self.record.mates(seq))}
        if cause is Cause.GANG:
            return gang_name(self.record.facts[seq]) is not None
        if cause is Cause.CANCELLED:
            return not mates.isdisjoint(self.cancel_asked)
        return cause is Cause.EXPIRED and self.record.facts[seq].deadline_at is not None

    def _check_gangs(self, before: Record, changes: Changes) -> None:
        """All members of a gang are assigned in one commit, or none."""
        new = {facts.seq: facts for facts in changes.accepted}
        assigned: dict[str, set[TaskSeq]] = {}
        for seq, progress in changes.progress:
            known = before.progress.get(seq)
            is_new = known is None or known.attempt < progress.attempt
            if progress.state in ACTIVE_STATES and is_new and (name := gang_name(new.get(seq) or before.facts[seq])):
                assigned.setdefault(name, set()).add(seq)
        for name, seqs in assigned.items():
            self.count("gangs placed")
            first = min(seqs)
            terms = decode_spec((new.get(first) or before.facts[first]).spec).gang
            assert terms is not None
            assert len(seqs) == terms.size, f"{len(seqs)} of {terms.size} members of {name} are placed"

    def _check_losses(self, before: Record, ends: dict[AttemptKey, Cause | None]) -> None:
        """Only the first of a lane is charged for the loss of its worker."""
        lost = [key for key, cause in ends.items() if cause is Cause.WORKER_LOST]
        for key in lost:
            mine = before.progress[key[0]]
            for seq, other in _in_lane(before, mine.worker, mine.lane):
                if (other.place or 0) < (mine.place or 0):
                    cause = ends.get((seq, other.attempt), Cause.RETURNED)
                    assert cause not in SUPERSEDED, f"{key} is charged a loss behind {seq}"


def _is_gone(before: Record, changes: Changes, worker: WorkerId) -> bool:
    """Whether a commit gives a worker up: it is lost, has left, or was started anew."""
    return any(
        row.id == worker and (row.lost_at is not None or row.instance != before.workers[worker].instance)
        for row in changes.workers
    )


def _in_lane(record: Record, worker: WorkerId | None, lane: LaneId | None) -> Iterator[tuple[TaskSeq, Progress]]:
    for seq, progress in record.progress.items():
        if progress.state in ACTIVE_STATES and (progress.worker, progress.lane) == (worker, lane):
            yield seq, progress
