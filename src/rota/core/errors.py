"""Every error that leaves the program, in one place.

RotaError
├── BadRequest            the request can't be understood or makes no sense (400)
│   └── BadSpec           a field of a task does: names the field, and the index in an array
├── NotFound              no such task, worker, … (404)
├── Conflict              the id is taken by another spec, the state does not allow it (409)
├── Gone                  it was here, and is no longer kept (410)
├── TooLarge              the body, the array or the spec is over its limit (413)
├── Overloaded            too many tasks wait: come again later (429)
├── Unauthorized          a token is asked for and is missing or wrong (401)
├── Forbidden             a foreign Origin or Host, a worker id in use (403)
├── NoCoordinator         nothing answers at the address (raised by clients only)
├── NotPicklable          a function, or what it uses, can't travel: names the variable (raised by the SDK only)
├── TaskFailed            a task failed without an exception to raise: its process crashed, … (raised by the SDK only)
├── ClientClosed          the client was shut down before it knew the end of a task (raised by the SDK only)
└── Unavailable           the store does not take writes just now, or the coordinator is stopping (503)
    └── StoreError        what the store says, see below
        ├── StoreUnavailable   full, locked: worth trying again
        ├── StoreBroken        an I/O error on write or fsync: the process must leave
        ├── StoreUnusable      corrupt, read-only, of a newer version: says what to do
        ├── StoreHeld          another coordinator has this state
        └── LostLeadership     another leader has written since

``code`` is stable and documented; ``retryable`` says whether the same request can succeed later.
"""

from __future__ import annotations

__all__ = [
    "BadRequest",
    "BadSpec",
    "ClientClosed",
    "Conflict",
    "Forbidden",
    "Gone",
    "LostLeadership",
    "NoCoordinator",
    "NotFound",
    "NotPicklable",
    "Overloaded",
    "RotaError",
    "StoreBroken",
    "StoreError",
    "StoreHeld",
    "StoreUnavailable",
    "StoreUnusable",
    "TaskFailed",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]


class RotaError(Exception):
    """What all errors share: a sentence that says what was wrong and what to do, and a stable code."""

    code = "error"
    retryable = False
    index: int | None = None
    """Which of several tasks, sent at once, it is about; the message begins with it then."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def say_index(self, index: int | None) -> None:
        """Have the message say which of several tasks is meant, unless there is only one or it says so already.

        >>> error = TooLarge("the task is too large")
        >>> error.say_index(3)
        >>> str(error), error.index
        ('task 3: the task is too large', 3)
        """
        if index is not None and self.index is None:
            self.args = (f"task {index}: {self}", *self.args[1:])
            self.index = index


class BadRequest(RotaError):
    """The request can't be understood, or asks for what makes no sense."""

    code = "bad_request"


class BadSpec(BadRequest):
    """One field of a task is wrong."""

    code = "bad_spec"

    def __init__(self, field: str, problem: str, *, index: int | None = None) -> None:
        where = f"task {index}: {field}" if index is not None else field
        super().__init__(f"{where}: {problem}" if field else problem)
        self.field = field
        self.problem = problem
        self.index = index


class NotFound(RotaError):
    """Nothing has this name."""

    code = "not_found"


class Conflict(RotaError):
    """The name is taken by something else, or the state does not allow the change."""

    code = "conflict"


class Gone(RotaError):
    """It was here, and is no longer kept."""

    code = "result_gone"


class TooLarge(RotaError):
    """More than the limit that the message names."""

    code = "too_large"


class Overloaded(RotaError):
    """Too many tasks wait already."""

    code = "overloaded"
    retryable = True


class Unauthorized(RotaError):
    """A token is asked for, and the request has none or a wrong one."""

    code = "unauthorized"


class Forbidden(RotaError):
    """The request comes from where it must not come from."""

    code = "forbidden"


class NoCoordinator(RotaError):
    """Nothing answers at the address, or not as a coordinator does. Raised by clients, never sent.

    ``may_have_arrived`` says that the request was sent, and perhaps done, though no answer came.
    """

    code = "no_coordinator"
    retryable = True
    may_have_arrived = False


class NotPicklable(RotaError, TypeError):
    """A function, or one of its arguments, can't be sent to a worker. Raised by the SDK, never sent.

    ``path`` leads to what can't be pickled, such as ``args[0]['conn'].socket``.
    """

    code = "not_picklable"

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class TaskFailed(RotaError):
    """A task failed, and there is no exception of its own to raise: raised by the SDK instead, never sent.

    It is no `TimeoutError` when the task was over its time: that would be taken for a ``result(timeout=…)``
    that has not waited long enough. ``cause`` tells.

    Args:
        message: A sentence: what happened, to which task.
        task_id: The task.
        cause: As in the architecture's words: ``signal``, ``timeout``, ``oom``, ``worker-lost``, …;
            ``None`` if nothing is on record.
        exit_code: Of the process, if it exited.
        signal: That killed it, if one did.
        worker: That ran it last.
    """

    code = "task_failed"

    def __init__(
        self,
        message: str,
        *,
        task_id: str | None = None,
        cause: str | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        worker: str | None = None,
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.cause = cause
        self.exit_code = exit_code
        self.signal = signal
        self.worker = worker

    def __reduce__(self) -> tuple[object, ...]:
        # By name: a task that waits for another one may raise this, and it must travel.
        return type(self), self.args, self.__dict__


class ClientClosed(RotaError):
    """The client was shut down before the end of a task was known to it. The task goes on. Raised by the SDK."""

    code = "client_closed"


class Unavailable(RotaError):
    """The coordinator can't take this now; nothing of it was recorded."""

    code = "unavailable"
    retryable = True


class StoreError(Unavailable):
    """The store could not do what it was asked."""

    code = "store_unavailable"


class StoreUnavailable(StoreError):
    """Full, locked or unreachable: worth trying again."""


class StoreBroken(StoreError):
    """An I/O error on write or fsync: what is on disk is unknown, so the process must leave and recover."""

    code = "store_broken"
    retryable = False


class StoreUnusable(StoreError):
    """Corrupt, read-only, on a network file system, or written by a newer version."""

    code = "store_unusable"
    retryable = False


class StoreHeld(StoreError):
    """Another coordinator has this state."""

    code = "store_held"
    retryable = False


class LostLeadership(StoreError):
    """Another leader has written since: this process must stop deciding."""

    code = "lost_leadership"
    retryable = False

    def __init__(self, *, epoch: int, found: int) -> None:
        super().__init__(f"commit with epoch {epoch} refused: the store is at epoch {found}")
        self.epoch = epoch
        self.found = found
