"""How a task ended, as what Python knows: a value, an exception to raise, or a cancellation.

A function's own exception is raised again, with the traceback of the worker as its cause. Where there is
none (the process crashed, the time was over, the worker was lost) it is a `TaskFailed` that says what happened.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final

from rota.client.modules import explain_import
from rota.client.session import Rejection
from rota.core.client_protocol import Outcome
from rota.core.errors import (
    BadRequest,
    ClientClosed,
    Forbidden,
    NoCoordinator,
    NotFound,
    RotaError,
    TaskFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from rota.core.model import Cause, TaskState, generated_task_id
from rota.functions.envelope import is_blob
from rota.functions.failure import RemoteTraceback, load_failure
from rota.functions.pickling import load_value

__all__ = ["Opener", "error_of", "signal_name", "value_of"]

Opener = Callable[[bytes], bytes | memoryview]
"""Gives the envelope that holds a value itself, for one that may only name a blob."""

_WORDS: Final = {
    Cause.TIMEOUT: "was over its time and was stopped",
    Cause.OOM: "needed more memory than it may have and was killed",
    Cause.LAUNCH_ERROR: "could not be started",
    Cause.WORKER_LOST: "was lost with its worker, as often as its budget of losses allows",
    Cause.AGENT_ERROR: "could not be run by its worker",
    Cause.IMPOSSIBLE: "needs more than any worker has",
    Cause.DEPENDENCY: "needs a task that failed",
    Cause.EXPIRED: "was not finished by its deadline",
}

_ERROR_OF_CODE: Final[dict[str, type[RotaError]]] = {
    "client_closed": ClientClosed,
    "forbidden": Forbidden,
    "no_coordinator": NoCoordinator,
    "not_found": NotFound,
    "too_large": TooLarge,
    "unauthorized": Unauthorized,
    "unavailable": Unavailable,
}


def value_of(outcome: Outcome, opened: Opener) -> Any:  # whatever the function returned
    """What a task that completed has returned: ``None`` if it was no function.

    Raises:
        Exception: Whatever making the value here raises, with a note that says of which task.
    """
    value = outcome.value
    if not value:
        return None
    try:
        return load_value(opened(value) if is_blob(value) else value)
    except Exception as error:
        error.add_note(f"(raised while the result of task {generated_task_id(outcome.task)} was loaded here)")
        raise


def error_of(verdict: Outcome | Rejection, opened: Opener) -> BaseException:
    """The exception that a task which has no value ended with. Not for one that was cancelled."""
    if isinstance(verdict, Rejection):
        if verdict.code == "forgotten":
            return TaskFailed(verdict.message)
        return _ERROR_OF_CODE.get(verdict.code, BadRequest)(verdict.message, code=verdict.code)
    assert verdict.state is TaskState.FAILED
    if verdict.value and verdict.cause is Cause.ERROR:
        try:
            error, text = load_failure(opened(verdict.value))
        except RotaError as lost:
            error, text = None, f"(its exception could not be fetched: {lost})"
        if error is not None:
            explain_import(error)
            return error
        failed = _failed(verdict)
        failed.__cause__ = RemoteTraceback(text)
        return failed
    return _failed(verdict)


def signal_name(number: int) -> str:
    """What people call a signal.

    >>> signal_name(11), signal_name(63)
    ('SIGSEGV', 'signal 63')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _failed(outcome: Outcome) -> TaskFailed:
    task_id = generated_task_id(outcome.task)
    return TaskFailed(
        f"task {task_id} {_what_happened(outcome)}",
        task_id=task_id,
        cause=outcome.cause,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        worker=outcome.worker,
    )


def _what_happened(outcome: Outcome) -> str:
    if outcome.cause is Cause.SIGNAL and outcome.signal is not None:
        words = f"was killed by {signal_name(outcome.signal)}"
    elif outcome.cause is Cause.EXIT:
        words = f"exited with code {outcome.exit_code}"
    elif outcome.cause is Cause.ERROR:
        return f"raised {outcome.message}" if outcome.message else "raised an exception"
    else:
        words = _WORDS.get(outcome.cause, "failed") if outcome.cause is not None else "failed"
    where = f" on {outcome.worker}" if outcome.worker else ""
    return f"{words}{where}: {outcome.message}" if outcome.message else words + where
