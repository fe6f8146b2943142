"""Looks at what really runs in the slots and at what goes on record, and writes it into columns."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping

from rota.core.changes import Changes
from rota.core.explain import Explainer, reasons
from rota.core.model import ENDED_STATES, AttemptKey, Cause, Reason, TaskState
from rota.core.protocol import Assignment
from rota.core.spec import decode_spec, resources_of
from rota.core.state import State
from rota.simulator.chores import Chore, chore_of_spec
from rota.simulator.columns import Columns, Plight
from rota.simulator.fairness import Fairness
from rota.simulator.record import Record
from rota.simulator.watch import Watch
from rota.simulator.world import WALL_AT_START, World

__all__ = ["Measures"]


class Measures(Watch):
    """Fills the columns, and knows what attempts do.

    Attributes:
        columns: What happened.
        due: When those came that are not accepted yet, in order.
        ended_count: How many tasks have ended.
        counts: What else was counted.
    """

    def __init__(self, world: World, workers: list[str], *, weights: Mapping[str, float] | None = None) -> None:
        self.columns = Columns(workers, Fairness(weights or {}))
        self.due: deque[float] = deque()
        self.ended_count = 0
        self.counts: dict[str, int] = {}
        self._world = world
        self._number = {name: number for number, name in enumerate(workers)}
        self._running: dict[AttemptKey, tuple[int, int, float, int]] = {}
        self._firsts: list[int] = []
        self._offsets: list[int] = []
        self._cpu: dict[int, int] = {}
        self._lanes = [0] * len(workers)
        self._since = [0.0] * len(workers)

    @property
    def moves(self) -> int:
        """Grows with everything that happens to tasks."""
        return self.columns.tasks + self.ended_count + len(self.columns.began) + len(self._running)

    @property
    def is_running(self) -> bool:
        """Whether anything runs now."""
        return bool(self._running)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # Of the slots

    def chore_of(self, given: Assignment) -> Chore:
        """Say what an attempt does, and keep how much it takes."""
        spec = decode_spec(given.spec)
        self._cpu[given.task] = dict(resources_of(spec)).get("cpu", 0)
        return chore_of_spec(spec)

    def attempt_started(self, worker: str, instance: str, given: Assignment) -> None:
        del instance
        columns = self.columns
        now, number, row = self._world.now, self._number[worker], self._row_of(given.task)
        cpu = self._cpu.pop(given.task)
        self._running[given.task, given.attempt] = (row, number, now, cpu)
        if math.isnan(columns.started[row]):
            columns.started[row] = now
        if not self._lanes[number]:
            self._since[number] = now
        self._lanes[number] += 1
        columns.fairness.runs(now, columns.queue[row], cpu)

    def attempt_ended(self, worker: str, key: AttemptKey, cause: Cause | None) -> None:
        del worker
        self._close(key, cause)

    def machine_down(self, worker: str) -> None:
        number = self._number[worker]
        for key in [key for key, running in self._running.items() if running[1] == number]:
            self._close(key, Cause.WORKER_LOST)

    def close(self) -> None:
        """Count what still runs as far as it has come: the run is over."""
        for key in list(self._running):
            self._close(key, None)

    def _close(self, key: AttemptKey, cause: Cause | None) -> None:
        columns = self.columns
        row, number, began, cpu = self._running.pop(key)
        now = self._world.now
        columns.add_attempt(row, number, began, now, cpu)
        columns.ran[row] = now - began
        self._lanes[number] -= 1
        if not self._lanes[number]:
            columns.used_s[number] += now - self._since[number]
        columns.fairness.stops(now, columns.queue[row], cpu)
        if cause is not None:
            columns.causes[cause.value] = columns.causes.get(cause.value, 0) + 1
            columns.lost_s[cause.value] = columns.lost_s.get(cause.value, 0.0) + now - began

    def note_waits(self, state: State) -> None:
        """Look what is still waited for, in a run that is over. Cost: O(tasks that wait)."""
        counts = reasons(state)
        explainer, examples = Explainer(state), dict[Reason, str]()
        for task in state.tasks.values():
            if len(examples) == len(counts):
                break
            if task.state is TaskState.PENDING:
                reason, sentence = explainer.explain(task)
                examples.setdefault(reason, sentence)
        self.columns.waits = [
            Plight(reason.value, count, examples.get(reason, "")) for reason, count in sorted(counts.items())
        ]

    # Of the record

    def commit(self, before: Record, changes: Changes) -> None:
        del before
        columns = self.columns
        for facts in changes.accepted:
            self._note_gap(facts.seq)
            queue = columns.queues.setdefault(facts.queue, len(columns.queues))
            columns.add_task(self.due.popleft(), queue)
            columns.fairness.comes(self._world.now, queue, facts.queue)
        for seq, progress in changes.progress:
            if progress.state in ENDED_STATES:
                assert progress.ended_at is not None
                row = self._row_of(seq)
                columns.ended[row] = progress.ended_at - WALL_AT_START
                columns.state[row] = progress.state
                self.ended_count += 1
                if progress.state is TaskState.FAILED and progress.cause is not None:
                    columns.add_failure(progress.cause.value, progress.message or "")
                columns.fairness.ends(self._world.now, columns.queue[row])

    # Numbers of tasks count up, but those of a commit that failed are never given again.

    def _note_gap(self, seq: int) -> None:
        offset = seq - self.columns.tasks
        if not self._offsets or self._offsets[-1] != offset:
            self._firsts.append(seq)
            self._offsets.append(offset)

    def _row_of(self, seq: int) -> int:
        if len(self._offsets) == 1:
            return seq - self._offsets[0]
        return seq - self._offsets[bisect_right(self._firsts, seq) - 1]
