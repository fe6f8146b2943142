"""What must hold of a decision: who was given a worker, and who was not, at the end of the turn that decided it.

Knows the rules from the manual, not from the policies: ranks, caps and who may be given something are reckoned anew.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from rota.core.model import Progress, Reason, TaskSeq, Terms
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


SAVE_S_MAX: Final = 10.0
"""Between a turn and its commit, at most: two saves that are slow and answered late."""

OFFSETS: Final = 8
"""Of the wall clock from the steady one, as last seen."""


class Decisions:
    """Looks at each turn that has given attempts to workers."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._offsets: deque[tuple[float, float]] = deque(maxlen=OFFSETS)

    def check(self, state: State, new: list[tuple[TaskSeq, Progress]]) -> None:
        """Check a turn. ``new`` are the rows of the attempts that it made."""
        offset = round(state.wall - state.now, 3)
        if not self._offsets or self._offsets[-1][1] != offset:
            self._offsets.append((state.now, offset))
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
            silent_s = self._decided_at(state, queued_at) - worker.last_seen
            assert name not in self._books.drained, f"{name} is drained and is given something"
            assert not worker.leaving, f"{name} leaves and is given something"
            assert worker.session is not None, f"{name} is not there and is given something"
            assert silent_s <= state.config.suspicious_after_s + SILENCE_SLACK_S, f"{name} is silent for {silent_s} s"

    def _decided_at(self, state: State, queued_at: float) -> float:
        """When a turn was applied, on the steady clock: some time ago, if it was ahead of a slow save.

        Only the wall clock says when, and that may have jumped since: the earliest that can be meant.
        """
        recent = [offset for seen, offset in self._offsets if seen >= state.now - SAVE_S_MAX]
        offsets = {*recent, self._offsets[-1][1], self._offsets[max(-2, -len(self._offsets))][1]}
        moments = [queued_at - offset for offset in offsets]
        return min((at for at in moments if state.now - SAVE_S_MAX <= at <= state.now), default=state.now)

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
        room = state.cluster.rooms.get((given.terms.shape, given.terms.queue))
        for group in state.pending.of_room(room) if room is not None else ():
            head = group.head()
            if head is None or _may_be_passed_over(state, group, given.terms) or self._may_preempt(head, given):
                continue
            assert not self._goes_before(state, head, given), f"{given.id} is given a worker before {head.id}"

    def _may_preempt(self, head: Task, given: Task) -> bool:
        """Whether a task may have been made room for, by its priority, whatever the order of its queue."""
        gap = self._books.gap_of(given.terms.queue)
        return gap is not None and given.terms.priority - head.terms.priority >= max(1, gap)

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


def _may_be_passed_over(state: State, group: Group, given: Terms) -> bool:
    """Whether others may go first: its limits are used up, or workers are kept for somebody whom it would delay."""
    is_same = group.stream.priority == given.priority and group.stream.limits == given.limits
    is_out_of_limits = group.block is Reason.LIMIT and group.stream.limits != given.limits
    return is_out_of_limits or (not is_same and bool(state.holds))
