"""What happened to each task and in each attempt of a run, in columns: 60 bytes a task, 40 an attempt."""

from __future__ import annotations

import math
from array import array
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from rota.core.model import TaskState
from rota.simulator.fairness import Fairness

__all__ = ["Columns", "Plight"]

NEVER: Final = math.nan


class Plight(Struct, frozen=True):
    """Why so many ``tasks`` failed, or still wait, with what there is to say of the first of them."""

    why: str
    tasks: int
    example: str


class Columns:
    """Times are seconds from the start of the run.

    Attributes:
        created, started, ended: Of each task, in the order in which they were accepted; ``nan`` until it has. It is
            created when it comes, accepted or not.
        ran: How long its last attempt did.
        state: What became of it, a `TaskState`.
        queue: Its place in ``queues``.
        of_task, at_worker, began, over, cpu: Of each attempt that is over: its task's row, its worker's place in
            ``workers``, times, and its millicores.
        causes: How many attempts ended by each cause that is no success.
        lost_s: Seconds of work that were done in vain, by the cause that ended them.
        used_s: Of each worker: how long it had anything to do.
        fairness: How the queues shared.
        failures: By cause: how many tasks failed of it, and what was said of the first.
        waits: What the tasks wait for that had not begun when the run was over.
    """

    def __init__(self, workers: list[str], fairness: Fairness) -> None:
        self.workers = workers
        self.fairness = fairness
        self.queues: dict[str, int] = {}
        self.created, self.started = array("d"), array("d")
        self.ended, self.ran = array("d"), array("d")
        self.state, self.queue = bytearray(), array("H")
        self.of_task, self.at_worker = array("l"), array("l")
        self.began, self.over, self.cpu = array("d"), array("d"), array("l")
        self.causes: dict[str, int] = {}
        self.lost_s: dict[str, float] = {}
        self.failures: dict[str, Plight] = {}
        self.waits: list[Plight] = []
        self.used_s = array("d", bytes(8 * len(workers)))

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len(self.created)

    def add_task(self, created: float, queue: int) -> None:
        """Take in one more."""
        self.created.append(created)
        self.queue.append(queue)
        for column in (self.started, self.ended, self.ran):
            column.append(NEVER)
        self.state.append(TaskState.PENDING)

    def add_attempt(self, task: int, worker: int, began: float, over: float, cpu: int) -> None:
        """Take in one that is over."""
        self.of_task.append(task)
        self.at_worker.append(worker)
        self.began.append(began)
        self.over.append(over)
        self.cpu.append(cpu)

    def add_failure(self, cause: str, message: str) -> None:
        """Count a task that has failed."""
        known = self.failures.get(cause, Plight(cause, 0, message))
        self.failures[cause] = replace(known, tasks=known.tasks + 1)

    def of_state(self, state: TaskState) -> int:
        """How many tasks are in a state, of those that tasks end in."""
        return self.state.count(state)
