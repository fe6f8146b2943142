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
    "MEANINGS",
    "MEANINGS_OF_RUN",
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

MEANINGS: Final = {
    OK: "it worked; with `--wait`, and of `wait` and `workload`: all tasks completed",
    REFUSED: "the request was refused, or a task that was waited for did not complete; `up`: the coordinator ended",
    2: "the command line makes no sense",
    69: "`worker`: the coordinator will not take it",
    75: "`coordinator`: the state can't be used, or belongs to another coordinator",
    78: "`coordinator`: it can't listen on its address, or there is no such policy",
    TIMED_OUT: "`wait`: its `--timeout` was over",
    TROUBLE: "Rota could not do it: no coordinator answers, or it takes nothing now",
    ABORTED: "Ctrl-C",
    CLOSED_PIPE: "the reader of the output has left (`rota ps | head`)",
}
"""What they say, for the reference: of all commands but `run`."""

MEANINGS_OF_RUN: Final = {
    "its own": "it exited",
    f"{SIGNAL_BASE} + N": "by signal N",
    TIMED_OUT: "its timeout or deadline was over",
    TROUBLE: "Rota's trouble, not the command's: no coordinator, a refused request, a lost worker, a task that no "
    "worker can run",
    LAUNCH_ERROR: "it could not be started",
    ABORTED: "it was cancelled, by Ctrl-C for instance",
    OUT_OF_MEMORY: "it ran out of memory",
    CLOSED_PIPE: "the reader of our output left; the task was cancelled",
}

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
