"""What must hold of a decision: who was given a worker, and who was not, at the end of the turn that decided it.

Knows the rules from the manual, not from the policies: ranks, caps and who may be given something are reckoned anew.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

from rota.core.model import Progress, Reason, Shape, TaskSeq, Terms, WorkerId
from rota.core.ordering import TaskStream, stream_of
from rota.core.pending import Group
from rota.core.state import State
from rota.core.task import Task
from rota.simulator.books import Books
from rota.simulator.promises import Promise, keeps

__all__ = ["Decisions"]

SLACK_S: Final = 2.5
"""Moments of arrival are remembered to the second, and a restart finds them by the wall clock."""

SILENCE_SLACK_S: Final = 0.01
"""From when a silence means something until its timer is looked at."""


TURNS: Final = 64
"""Of which it is known when they were applied: a turn that is ahead is looked at one save later."""


Held = dict[WorkerId, tuple[TaskStream, Shape]]
"""Which workers are kept for tasks of which stream and shape."""


class _Turn(NamedTuple):
    """A turn: when it was applied, on the steady clock, and what was kept before it."""

    at: float
    held_before: Held


class Decisions:
    """Looks at each turn that has given attempts to workers."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._turns: OrderedDict[float, _Turn] = OrderedDict()
        self._held: Held = {}

    def note_turn(self, state: State) -> None:
        """Note when a turn was applied, and which workers were kept for whom before it."""
        self._turns[state.wall] = _Turn(state.now, self._held)
        if len(self._turns) > TURNS:
            self._turns.popitem(last=False)
        holders = state.holds.holders()
        self._held = {worker.id: (group.stream, group.room.shape) for worker, group in holders.items()}

    def check(self, state: State, new: list[tuple[TaskSeq, Progress]]) -> None:
        """Check a turn. ``new`` are the rows of the attempts that it made."""
        self._check_workers(state, new)
        self._check_caps(new)
        for seq, _ in new:
            task = state.tasks[seq]
            if task.terms.gang is None:
                self._check_order(state, task)

    @keeps(Promise.CLOSED)
    def _check_workers(self, state: State, new: list[tuple[TaskSeq, Progress]]) -> None:
        for name, queued_at in {progress.worker: progress.queued_at for _, progress in new}.items():
            assert name is not None
            assert queued_at is not None
            worker = state.cluster.workers[name]
            silent_s = self._turn_of(state, queued_at).at - worker.last_seen
            assert name not in self._books.drained, f"{name} is drained and is given something"
            assert not worker.leaving, f"{name} leaves and is given something"
            assert worker.session is not None, f"{name} is not there and is given something"
            assert silent_s <= state.config.suspicious_after_s + SILENCE_SLACK_S, f"{name} is silent for {silent_s} s"

    def _turn_of(self, state: State, queued_at: float) -> _Turn:
        """The turn that gave an attempt to a worker; of one that is not known, what the wall clock says of it."""
        known = self._turns.get(queued_at)
        return known or _Turn(state.now - max(0.0, state.wall - queued_at), {})

    @keeps(Promise.CAPS)
    def _check_caps(self, new: list[tuple[TaskSeq, Progress]]) -> None:
        books = self._books
        terms = [books.seats[seq].terms for seq, _ in new if seq in books.seats]
        for name in {each.queue: None for each in terms}:
            settings = books.settings_of(name)
            assert not settings.paused, f"queue {name} is paused and is given something"
            assert settings.max_running is None or books.running[name] <= settings.max_running, name
            of_queue = books.of_queue.get(name) or Counter[str]()
            for resource, most in settings.max_resources.items():
                assert of_queue.get(resource, 0) <= most, (name, resource)
        for limit in {limit: None for each in terms for limit, _ in each.limits}:
            assert books.limits[limit] <= books.size_of(limit), limit

    @keeps(Promise.PRIORITY)
    def _check_order(self, state: State, given: Task) -> None:
        """Of one shape and queue nobody waits who goes before one that was given a worker."""
        assert given.run is not None
        room = state.cluster.rooms.get((given.terms.shape, given.terms.queue))
        held = self._turn_of(state, given.run.queued_at).held_before
        # So it is after a preemption, whatever the order.
        was_kept_for_it = held.get(given.run.lane.worker.id) == (stream_of(given.terms), given.terms.shape)
        if room is None or was_kept_for_it:
            return
        # One that ended in this turn has kept workers from somebody until then.
        is_held = bool(held) or bool(state.holds)
        for group in state.pending.of_room(room):
            head = group.head()
            if head is None or _may_be_passed_over(group, given.terms, is_held=is_held):
                continue
            assert not self._goes_before(state, head, given), f"{given.id} is given a worker before {head.id}"

    def _goes_before(self, state: State, one: Task, other: Task) -> bool:
        config = state.config
        ordering = config.ordering
        if ordering == "fair":
            ordering = self._books.settings_of(one.terms.queue).ordering or "priority"
        mine, theirs = one.terms.priority, other.terms.priority
        if ordering == "fcfs" or (mine == theirs and one.terms.limits == other.terms.limits):
            return one.seq < other.seq
        per_s = config.ageing / 60.0
        aged = per_s * (state.arrivals.at(other.seq) - state.arrivals.at(one.seq))
        return mine + aged > theirs + per_s * SLACK_S


def _may_be_passed_over(group: Group, given: Terms, *, is_held: bool) -> bool:
    """Whether others may go first: its limits are used up, or workers are kept for somebody whom it would delay."""
    is_same = group.stream.priority == given.priority and group.stream.limits == given.limits
    is_out_of_limits = group.block is Reason.LIMIT and group.stream.limits != given.limits
    return is_out_of_limits or (not is_same and is_held)
