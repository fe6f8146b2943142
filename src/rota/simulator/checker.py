"""What must hold over a whole run: sees every commit, every message that leaves, and all that really runs.

It believes nobody: what ran is known from the slots, what is on record from the store, and what was
promised from the answers that clients got.
"""

from __future__ import annotations

from msgspec import Struct

from rota.core.changes import Changes
from rota.core.commands import CancelTasks, Command
from rota.core.effects import Accepted, Answer
from rota.core.errors import RotaError
from rota.core.gangs import gang_name
from rota.core.model import (
    ACTIVE_STATES,
    ENDED_STATES,
    TASK_CAUSES,
    AttemptKey,
    Cause,
    Progress,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
)
from rota.core.protocol import Assign, Assignment, FromCoordinator, Report, Stop
from rota.core.scheduler import Scheduler
from rota.core.state import State
from rota.simulator.books import settings_on, terms_of_spec
from rota.simulator.commit_checks import SUPERSEDED, check_gangs, check_losses, check_progress
from rota.simulator.promises import Promise, keeps
from rota.simulator.record import Record
from rota.simulator.restarts import Restarts
from rota.simulator.stepwise import StepChecks
from rota.simulator.watch import Watch
from rota.simulator.world import World

__all__ = ["Checker", "Execution"]


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
    """Raises `BrokenPromise` at the first one. ``restarts`` tries one now and then, if given."""

    is_strict = True

    def __init__(
        self,
        world: World,
        record: Record,
        *,
        workers_may_be_lost: bool,
        restarts: Restarts | None = None,
        full_every: int = 1,
    ) -> None:
        self.record = record
        self.steps = StepChecks(record, full_every=full_every)
        self.is_blind = False
        self.is_refused = False
        self.accepted: set[TaskSeq] = set()
        self.cancel_asked: set[TaskSeq] = set()
        self.executions: dict[AttemptKey, Execution] = {}
        self.counts: dict[str, int] = {}
        self._world = world
        self._workers_may_be_lost = workers_may_be_lost
        self._ends: dict[AttemptKey, Cause | None] = {}
        self._stopped: set[tuple[str, AttemptKey]] = set()
        self._preempted: set[AttemptKey] = set()
        self._handed_back: set[AttemptKey] = set()
        self._given_up: set[AttemptKey] = set()
        self._of_worker: dict[str, dict[AttemptKey, Execution]] = {}
        self._restarts = restarts
        self._epoch = 0

    def count(self, what: str) -> None:
        """Count something that is shown with the run."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def expect_refusal(self) -> None:
        """The store has lost what was on it: nothing is known any more, and nothing may be told before a leader leaves.

        One that is killed before it has noticed leaves it to the next, which can't: so that counts as well.
        """
        self.is_blind = True

    # What really happens on machines

    def attempt_started(self, worker: str, instance: str, given: Assignment) -> None:
        key = (given.task, given.attempt)
        self._world.note(worker, f"runs {given.task}.{given.attempt} in lane {given.lane}")
        if self.is_blind:
            return
        self.count("attempts run")
        self._check_start(worker, key)
        self._check_not_handed_back(key)
        self._check_exclusive(given)
        # What it does with an attempt that was given up with it, and reached it all the same, it does in vain.
        execution = Execution(worker, is_held=key not in self._given_up)
        self.executions[key] = self._of_worker.setdefault(worker, {})[key] = execution
        del instance

    def attempt_ended(self, worker: str, key: AttemptKey, cause: Cause | None) -> None:
        self._world.note(worker, f"ends {key[0]}.{key[1]}: {cause.value if cause else 'done'}")
        execution = self.executions.get(key)
        if execution is None:  # only where nothing is known any more
            assert self.is_blind
            return
        execution.has_ended, execution.runs, execution.cause = True, False, cause

    def stop_arrived(self, worker: str, keys: list[AttemptKey]) -> None:
        self._stopped.update((worker, key) for key in keys)

    def machine_down(self, worker: str) -> None:
        for execution in self._of_worker.pop(worker, {}).values():
            execution.is_held = execution.runs = False

    @keeps(Promise.DURABLE)
    def _check_start(self, worker: str, key: AttemptKey) -> None:
        assert key not in self.executions, f"attempt {key} is run twice"
        assert self.record.progress[key[0]].attempt >= key[1], f"attempt {key} runs and is not on record"
        if (worker, key) in self._stopped:
            self._fail_stopped(key)

    @keeps(Promise.CURRENT)
    def _check_not_handed_back(self, key: AttemptKey) -> None:
        assert key not in self._handed_back, f"attempt {key} starts where it was handed back"

    @staticmethod
    @keeps(Promise.CANCELLED)
    def _fail_stopped(key: AttemptKey) -> None:
        raise AssertionError(f"attempt {key} starts after its stop")

    # What leaves the coordinator

    def state_loaded(self, state: State) -> None:
        if self.is_blind:
            self.count("starts on what is left")
            self.is_refused = True
            return
        self.steps.loaded(state)

    def turn_applied(self, state: State) -> None:
        if not self.is_blind:
            self.steps.applied(state)

    def state_changed(self, state: State, changes: Changes | None) -> None:
        if not self.is_blind:
            self.steps.changed(state, changes)

    def recorded(self, scheduler: Scheduler) -> None:
        if self._restarts is not None and self._restarts.is_due():
            self.count("restarts tried")
            self._restarts.compare(scheduler, self.record)

    @keeps(Promise.EPOCHS)
    def leader_began(self, epoch: int) -> None:
        assert epoch > self._epoch, f"epoch {epoch} comes after {self._epoch}"
        self._epoch = epoch

    def leader_left(self, error: RotaError) -> None:
        self.is_refused = self.is_blind
        self.count(f"leaders gone: {error.code}")

    def message_leaves(self, message: FromCoordinator) -> None:
        """Nothing is told to a worker that is not on record."""
        if self.is_blind:
            self._check_silence(is_promise=isinstance(message, Assign))
            return
        match message:
            case Assign():
                for given in message.attempts:
                    self._check_assignment(given)
            case Stop():
                self._check_stop(message)
            case _:
                pass

    @keeps(Promise.HELD)
    def report_acknowledged(self, report: Report) -> None:
        """What is acknowledged is on record: the worker forgets it now."""
        if self.is_blind:
            return
        for started in report.started:
            progress = self.record.progress[started.task]
            is_known = progress.attempt != started.attempt or progress.state is not TaskState.ASSIGNED
            assert is_known, f"the start of {started} is forgotten"
        for ended in report.ended:
            progress = self.record.progress[ended.task]
            is_known = progress.attempt != ended.attempt or progress.state not in ACTIVE_STATES
            assert is_known, f"the end of {ended} is forgotten"

    @keeps(Promise.DURABLE)
    def answer_leaves(self, command: Command, answer: Answer) -> None:
        """Nothing is promised to a client that is not on record."""
        if self.is_blind:
            self._check_silence(is_promise=isinstance(answer, Accepted))
            return
        if isinstance(answer, Accepted):
            assert all(task.facts.seq in self.record.facts for task in answer.tasks)
        if isinstance(command, CancelTasks):
            for seq in command.seqs:
                progress = self.record.progress[seq]
                assert progress.wish is not None or progress.state in ENDED_STATES, f"{seq} is not cancelled"

    # What goes on record

    def commit(self, before: Record, changes: Changes) -> None:
        """Look at a commit, with the rows as they were before it."""
        assert not self.is_blind, "a leader writes on what is left of the store"
        gone = {row.id for row in changes.workers if _is_gone(before, row)} | set(changes.workers_gone)
        self._check_nobody_given_up(gone)
        revived = {facts.seq for facts in changes.revived}
        ends: dict[AttemptKey, Cause | None] = {}
        for row in changes.attempts:
            if row.seq in revived:
                assert self._ends[row.seq, row.number] == row.cause
            else:
                ends[row.seq, row.number] = row.cause
        for seq, progress in changes.progress:
            check_progress(before, seq, progress, ends=ends, is_revived=seq in revived)
            if progress.state in ENDED_STATES:
                self.count(f"tasks {progress.state.word}")
                if progress.queued_at is not None:
                    ends[seq, progress.attempt] = progress.cause
        for key, cause in ends.items():
            self._check_end(before.progress[key[0]], key, cause, gone=gone)
        check_losses(before, ends)
        for _ in check_gangs(before, changes):
            self.count("gangs placed")

    # At the end

    def check_over(self) -> None:
        """All that was promised has been kept."""
        self._check_all_are_there()
        self._check_all_is_told()
        self._check_all_have_ended()

    @keeps(Promise.ACCEPTED)
    def _check_all_are_there(self) -> None:
        for seq in self.accepted:
            assert seq in self.record.facts, f"task {seq} was acknowledged and is lost"

    @keeps(Promise.REST)
    def _check_all_have_ended(self) -> None:
        for seq, progress in self.record.progress.items():
            assert progress.state in ENDED_STATES, f"task {seq} is {progress.state.word} for ever"
            if progress.state is TaskState.COMPLETED:
                assert self.executions[seq, progress.attempt].cause is None

    @keeps(Promise.HELD)
    def _check_all_is_told(self) -> None:
        for key, execution in self.executions.items():
            assert not execution.is_held, f"what became of {key} on {execution.worker} never got on record"

    # Helpers

    @staticmethod
    @keeps(Promise.NUMBERS)
    def _check_silence(*, is_promise: bool) -> None:
        assert not is_promise, "something is promised on a store that has lost what was on it"

    @keeps(Promise.HELD)
    def _check_nobody_given_up(self, gone: set[WorkerId]) -> None:
        assert self._workers_may_be_lost or not gone, f"{gone} given up for nothing"

    @keeps(Promise.DURABLE)
    def _check_stop(self, message: Stop) -> None:
        """Only what is to end on the record is stopped, or what makes room for somebody who may ask for that."""
        for key in message.attempts:
            progress = self.record.progress[key[0]]
            if message.cause is Cause.PREEMPTED:
                self._check_preemption(key)
            elif message.cause is not Cause.GANG or gang_name(self.record.facts[key[0]]) is None:
                assert progress.wish is message.cause or progress.state in ENDED_STATES, (key, message)

    @keeps(Promise.PREEMPTION)
    def _check_preemption(self, key: AttemptKey) -> None:
        if key in self._preempted:  # asked again: who wanted its room may be gone by now
            return
        self._preempted.add(key)
        self.count("preempted")
        priority = self.record.facts[key[0]].priority
        may = any(
            gap is not None and facts.priority >= priority + max(gap, 1)
            for facts in (task.facts for task in self.record.unfinished())
            for gap in (settings_on(self.record, facts.queue).preempts_by,)
        )
        assert may, f"{key} is preempted for nobody who may do that"

    @keeps(Promise.EXCLUSIVE)
    def _check_exclusive(self, given: Assignment) -> None:
        """No two attempts of an exclusive task overlap in time."""
        if self._is_exclusive(given.task):
            self.count("exclusive attempts run")
            for number in range(1, given.attempt):
                before = self.executions.get((given.task, number))
                assert before is None or not before.runs, f"exclusive task {given.task} runs twice at once"

    def _is_exclusive(self, seq: TaskSeq) -> bool:
        return terms_of_spec(self.record.facts[seq].spec).exclusive

    @keeps(Promise.DURABLE)
    def _check_assignment(self, given: Assignment) -> None:
        progress = self.record.progress.get(given.task)
        assert progress is not None, f"task {given.task} is assigned and is not on record"
        assert (progress.attempt, progress.lane, progress.place) == (given.attempt, given.lane, given.place), given
        assert progress.state in ACTIVE_STATES, f"task {given.task} is assigned while {progress.state.word}"
        if progress.wish is not None:
            self._fail_stopped((given.task, given.attempt))

    @keeps(Promise.ONE_END)
    def _check_end(self, before: Progress, key: AttemptKey, cause: Cause | None, *, gone: set[WorkerId]) -> None:
        """An attempt ends on record as it ended in the world, unless its worker was given up."""
        assert key not in self._ends, f"attempt {key} ends twice: {self._ends[key]} and {cause}"
        assert before.attempt == key[1], f"attempt {key} was never on record"
        self._ends[key] = cause
        if before.worker in gone:
            self._given_up.add(key)
        elif cause is Cause.RETURNED:
            self._handed_back.add(key)
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


def _is_gone(before: Record, row: WorkerRecord) -> bool:
    """Whether a row gives a worker up: it is lost, has left, was started anew, or struck off before it came again."""
    known = before.workers.get(row.id)
    return known is not None and (
        row.lost_at is not None or (row.instance, row.registered_at) != (known.instance, known.registered_at)
    )
