"""The exit codes of ``rota``: documented in ``docs/reference/cli.md``, and stable.

Codes of `rota run` follow ``timeout(1)``, ``env(1)`` and the shell, so that a script can put
``rota run --`` in front of a command and go on as before.
"""

from __future__ import annotations

from typing import Final

from rota.core.errors import NoCoordinator, RotaError, Unavailable

__all__ = [
    "ABORTED",
    "CLOSED_PIPE",
    "LAUNCH_ERROR",
    "OK",
    "OUT_OF_MEMORY",
    "REFUSED",
    "SIGNAL_BASE",
    "TIMED_OUT",
    "TROUBLE",
    "exit_code_of_error",
    "exit_code_of_task",
]

OK: Final = 0
REFUSED: Final = 1
"""The request was refused, or a task that was waited for did not complete."""

TIMED_OUT: Final = 124
"""As ``timeout(1)``: the task's timeout or deadline was over."""

TROUBLE: Final = 125
"""As ``env(1)``: Rota itself could not do it (no coordinator, a lost worker), the command is not to blame."""

LAUNCH_ERROR: Final = 127
"""As the shell: the program could not be started."""

SIGNAL_BASE: Final = 128
"""As the shell: 128 + the number of the signal that ended it."""

ABORTED: Final = 130
"""128 + SIGINT: Ctrl-C, or a task that was cancelled."""

OUT_OF_MEMORY: Final = 137
"""128 + SIGKILL: what the kernel's own killer leaves."""

CLOSED_PIPE: Final = 141
"""128 + SIGPIPE: the reader of the output has left (``rota ps | head``)."""

_CODE_OF_CAUSE: Final = {
    "error": REFUSED,
    "timeout": TIMED_OUT,
    "expired": TIMED_OUT,
    "oom": OUT_OF_MEMORY,
    "launch-error": LAUNCH_ERROR,
    "cancelled": ABORTED,
}


def exit_code_of_error(error: RotaError) -> int:
    """Return what ``rota`` exits with after this error.

    >>> exit_code_of_error(NoCoordinator("no answer")), exit_code_of_error(RotaError("no"))
    (125, 1)
    """
    return TROUBLE if isinstance(error, NoCoordinator | Unavailable) else REFUSED


def exit_code_of_task(*, state: str, cause: str | None, exit_code: int | None, signal: int | None) -> int:
    """Return what ``rota run`` exits with after a task that ended like this.

    >>> exit_code_of_task(state="failed", cause="exit", exit_code=3, signal=None)
    3
    >>> exit_code_of_task(state="failed", cause="signal", exit_code=None, signal=15)
    143
    """
    if state == "completed":
        return OK
    if cause == "exit" and exit_code:
        return exit_code
    if cause == "signal" and signal:
        return SIGNAL_BASE + signal
    return _CODE_OF_CAUSE.get(cause or state, TROUBLE)
