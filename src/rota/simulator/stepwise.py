"""Checks after each step what the step has touched, and now and then everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from rota.core.changes import Changes
from rota.core.cluster import Room
from rota.core.gang_invariants import check_gang
from rota.core.invariants import check_invariants, check_pending, check_room, check_sessions, check_task, check_worker
from rota.core.model import TaskSeq, TaskState
from rota.core.state import State
from rota.core.workers import Worker
from rota.simulator.books import Books
from rota.simulator.decisions import Decisions
from rota.simulator.promises import Promise, keep, keeps
from rota.simulator.record import Record

__all__ = ["StepChecks"]

FULL_EVERY: Final = 256
"""Steps from one look at everything to the next."""


class StepChecks:
    """Follows the rows of one leader after another. ``record`` is what is on disk."""

    def __init__(self, record: Record, *, full_every: int = FULL_EVERY) -> None:
        self.books = Books(record)
        self._decisions = Decisions(self.books)
        self._full_every = full_every
        self._steps = 0

    def loaded(self, state: State) -> None:
        """Begin anew from the record, with which a state that was just loaded must agree."""
        self.books.begin_anew()
        self.check_everything(state)

    def applied(self, state: State) -> None:
        """Note when a turn was applied: if it is ahead of a save, it is looked at later."""
        self._decisions.note_turn(state)

    def changed(self, state: State, changes: Changes | None) -> None:
        """Look at what a turn has touched. ``changes`` are those that it wants saved, if any."""
        self._steps += 1
        if changes is not None:
            names, new = self.books.follow(changes)
            workers = [worker for name in names if (worker := state.cluster.workers.get(name)) is not None]
            self._check_touched(state, [seq for seq, _ in changes.progress], workers)
            if new:
                self._decisions.check(state, new)
        if self._steps % self._full_every == 0:
            self.check_everything(state)

    def check_everything(self, state: State) -> None:
        """Look at all there is. O(everything)."""
        for task in state.tasks.values():
            keep(Promise.STATES, check_task, state, task)
        keep(Promise.ACCOUNTED, check_pending, state)
        for worker in state.cluster.workers.values():
            keep(Promise.ROOM, check_worker, worker)
            self._check_room(worker)
        self._check_caps(state)
        self._check_counts(state)
        keep(Promise.ACCOUNTED, check_invariants, state)

    # What is touched

    def _check_touched(self, state: State, seqs: list[TaskSeq], workers: list[Worker]) -> None:
        tasks = [task for seq in seqs if (task := state.tasks.get(seq)) is not None]
        for task in tasks:
            keep(Promise.STATES, check_task, state, task)
            if task.terms.gang is not None:
                keep(Promise.GANGS, check_gang, state, state.gangs.of(task))
        for worker in workers:
            keep(Promise.ROOM, check_worker, worker)
            self._check_room(worker)
        self._check_caps(state)
        self._check_counts(state)
        keep(Promise.STATES, check_sessions, state)
        if not state.cluster.is_restless:
            fresh = {state.cluster.room_of(task.terms): None for task in tasks if task.state is TaskState.PENDING}
            self._check_rooms(state, fresh, state.cluster.workers.values())
            self._check_rooms(state, state.pending.groups, workers)

    @staticmethod
    @keeps(Promise.ACCOUNTED)
    def _check_rooms(state: State, rooms: Iterable[Room], workers: Collection[Worker]) -> None:
        for room in rooms:
            check_room(state, room, workers)

    @keeps(Promise.ACCOUNTED)
    def _check_counts(self, state: State) -> None:
        """Each task is held, or in a line of those that wait, or a worker has it: nothing in between."""
        pending, held, active = state.pending.size, sum(state.held.values()), len(self.books.seats)
        assert pending + held + active == len(state.tasks), (pending, held, active, len(state.tasks))

    @keeps(Promise.ROOM)
    def _check_room(self, worker: Worker) -> None:
        reserved = self.books.reserved.get(worker.id) or Counter[str]()
        for name, total in worker.ledger.capacity.items():
            assert worker.ledger.free[name] == total - reserved.get(name, 0) >= 0, (worker.id, name)

    @keeps(Promise.CAPS)
    def _check_caps(self, state: State) -> None:
        """What queues and limits have in use is what the rows say. How much they may have, `Decisions` sees to."""
        books = self.books
        for queue in state.queues.all():
            assert queue.running == books.running[queue.name], queue.name
            of_queue = books.of_queue.get(queue.name) or Counter[str]()
            assert all(amount == of_queue.get(name, 0) for name, amount in queue.used.items()), queue.name
        for limit in state.limits.all():
            assert limit.used == books.limits[limit.name], limit.name
