"""What may become of a task: the table of transitions, and what the end of an attempt leads to."""

from __future__ import annotations

import random
from typing import Final

from msgspec import Struct

from rota.core.model import FREE_CAUSES, MACHINE_CAUSES, Backoff, Cause, TaskState
from rota.core.task import Task

__all__ = ["TRANSITIONS", "IllegalTransition", "Next", "after_attempt", "longest_delay_s", "move", "retry_delay_s"]

_S = TaskState

TRANSITIONS: Final[dict[TaskState, frozenset[TaskState]]] = {
    _S.PENDING: frozenset({_S.ASSIGNED, _S.FAILED, _S.CANCELLED}),
    _S.ASSIGNED: frozenset({_S.RUNNING, _S.PENDING, _S.COMPLETED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.PENDING, _S.COMPLETED, _S.FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset({_S.PENDING}),  # a person's retry, and nothing else
    _S.CANCELLED: frozenset({_S.PENDING}),
}
"""From ``assigned`` straight to an end: short attempts are reported once, when they are over."""

JITTER: Final = 0.25
"""Part of a delay that is drawn by lot, so that tasks that failed together don't return together."""


class IllegalTransition(AssertionError):
    """Our mistake: a task was to go where no arrow leads."""

    def __init__(self, task: Task, to: TaskState) -> None:
        super().__init__(f"task {task.seq}, attempt {task.attempt}: {task.state.word} -> {to.word}")
        self.seq = task.seq
        self.to = to


class Next(Struct, frozen=True):
    """Where a task goes after an attempt: its state, the cause on record, and the delay before it waits again."""

    state: TaskState
    cause: Cause | None
    delay_s: float = 0.0


def move(task: Task, to: TaskState) -> None:
    """Change the state of a task along an arrow of `TRANSITIONS`.

    Raises:
        IllegalTransition: There is no such arrow.
    """
    if to not in TRANSITIONS[task.state]:
        raise IllegalTransition(task, to)
    task.state = to


def after_attempt(task: Task, cause: Cause | None, rng: random.Random) -> Next:
    """Decide what the end of the current attempt means for its task, and charge its budgets.

    A wish (cancel, deadline) wins over everything, also over a success that came after it.

    Args:
        task: Its ``retries_used`` or ``losses_used`` is raised if the cause counts.
        cause: Why the attempt ended; ``None`` for success.
        rng: For the jitter of the backoff.
    """
    if task.wish is not None:
        state = TaskState.CANCELLED if task.wish is Cause.CANCELLED else TaskState.FAILED
        return Next(state, task.wish)
    if cause is None:
        return Next(TaskState.COMPLETED, None)
    if cause in FREE_CAUSES:
        return Next(TaskState.PENDING, cause)
    if cause in MACHINE_CAUSES:
        task.losses_used += 1
        if task.losses_used > task.terms.losses:
            return Next(TaskState.FAILED, cause)
        # A lost worker says nothing of the next one; an agent in trouble may well be the next one again.
        delay_s = 0.0 if cause is Cause.WORKER_LOST else retry_delay_s(task.terms.backoff, task.losses_used, rng)
        return Next(TaskState.PENDING, cause, delay_s)
    if task.retries_used >= task.terms.retries:
        return Next(TaskState.FAILED, cause)
    task.retries_used += 1
    return Next(TaskState.PENDING, cause, retry_delay_s(task.terms.backoff, task.retries_used, rng))


def retry_delay_s(backoff: Backoff, failures: int, rng: random.Random) -> float:
    """How long to wait after so many failures: exponential, capped, with jitter below it.

    >>> [round(retry_delay_s(Backoff(1.0, 2.0, 10.0), n, random.Random(1))) for n in (1, 2, 3, 9)]
    [1, 2, 4, 10]

    References:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return longest_delay_s(backoff, failures) * (1.0 - JITTER * rng.random())


def longest_delay_s(backoff: Backoff, failures: int) -> float:
    """What `retry_delay_s` is at most after so many failures."""
    assert failures >= 1
    # The exponent is bounded so that a factor of 100 and a million failures don't overflow.
    return min(backoff.cap_s, backoff.base_s * backoff.factor ** min(failures - 1, 64))
