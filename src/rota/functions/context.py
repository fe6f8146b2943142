"""What a running function can ask of its task: ``rota.current()``.

The process that runs functions says where to ask for the current task, and that one is made only when somebody asks.
Outside of a task there is none, so a function can be called as it is in a test.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "CurrentGang",
    "CurrentTask",
    "NotInATask",
    "TaskCancelled",
    "current",
    "find_current",
    "provide_current",
    "set_current",
]


class TaskCancelled(BaseException):
    """Raised inside a function when its task is to end: it was cancelled, or is over its time.

    No ``Exception``, so that ``except Exception`` does not swallow it. A function may catch it to clean up,
    and has the grace period for that; afterwards its process is killed.
    """


class NotInATask(RuntimeError):
    """There is no current task: this code does not run under Rota."""


class CurrentGang:
    """The gang that a task is a member of.

    Args:
        id: What its members have in common.
        rank: Which of them this task is, from 0.
        hosts: A host or address for each rank.
    """

    __slots__ = ("hosts", "id", "rank")

    def __init__(self, id: str, rank: int, hosts: tuple[str, ...]) -> None:
        self.id = id
        self.rank = rank
        self.hosts = hosts

    @property
    def size(self) -> int:
        """How many members it has."""
        return len(self.hosts)


class CurrentTask:
    """The task that runs in this process.

    Args:
        id: What users call the task.
        attempt: The number of this attempt, from 1.
        queue: The queue that it came through.
        worker: The id of the worker that runs it.
        gang: Which member of which gang it is, if it is one.
        report: Called with a fraction (or ``None``) and a text whenever the function says how far it is.
    """

    __slots__ = ("_report", "attempt", "gang", "id", "is_cancelled", "queue", "worker")

    def __init__(
        self,
        *,
        id: str,
        attempt: int,
        queue: str,
        worker: str,
        report: Callable[[float | None, str], None],
        gang: CurrentGang | None = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.queue = queue
        self.worker = worker
        self.gang = gang
        self.is_cancelled = False
        """Whether the task is to end. A function that catches `TaskCancelled`, or runs in threads, looks here."""
        self._report = report

    def set_progress(self, fraction: float | None, text: str = "") -> None:
        """Say how far the function is; shown wherever the task is shown.

        Args:
            fraction: 0.0 to 1.0, or ``None`` if that is not known.
            text: A few words; at most 200 characters are kept.

        Raises:
            ValueError: The fraction is not between 0 and 1.
            TypeError: It is no number, or the text is no string.
        """
        if fraction is not None and not _is_fraction(fraction):
            raise ValueError(f"the fraction of a progress must be 0.0 to 1.0, got {fraction}")
        if not isinstance(text, str):
            raise TypeError(f"the text of a progress must be a string, got {text!r}")
        self._report(fraction, text[:200])

    def __repr__(self) -> str:
        return f"<task {self.id}, attempt {self.attempt}>"


def _is_fraction(value: float) -> bool:
    try:
        return 0.0 <= value <= 1.0
    except TypeError as error:
        raise TypeError(f"the fraction of a progress must be a number, or None, got {value!r}") from error


def _none() -> CurrentTask | None:
    return None


class _Holder:
    provide: Callable[[], CurrentTask | None] = staticmethod(_none)


def current() -> CurrentTask:
    """Return the task that runs in this process.

    Raises:
        NotInATask: There is none.
    """
    task = _Holder.provide()
    if task is None:
        raise NotInATask("rota.current() works inside a function that Rota runs; find_current() returns None elsewhere")
    return task


def find_current() -> CurrentTask | None:
    """Return the task that runs in this process, or ``None``."""
    return _Holder.provide()


def provide_current(provide: Callable[[], CurrentTask | None]) -> None:
    """For the process that runs functions: say who knows which task runs now."""
    _Holder.provide = provide


def set_current(task: CurrentTask | None) -> None:
    """For tests: say which task runs now."""
    _Holder.provide = lambda: task
