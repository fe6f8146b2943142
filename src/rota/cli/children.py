"""The processes that ``rota up`` starts: watched, stopped in order, and never left behind.

One thread, no signal handlers: the signals that matter are blocked and taken one by one where we
wait, so none can arrive at a bad moment. A child gets SIGKILL from the kernel when we die, however
we die, and Ctrl-C reaches it only through us, since each has a process group of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

__all__ = [
    "FINISH_S",
    "STOP_S",
    "STOP_SIGNALS",
    "Child",
    "block_signals",
    "start_child",
    "stop_children",
    "wait_for_signal",
]

STOP_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_WAITED_SIGNALS: Final = STOP_SIGNALS | {signal.SIGCHLD}

FINISH_S: Final = 3.0
"""For workers to finish what runs, before they are told to stop it: as long as people like to wait for their prompt."""

STOP_S: Final = 10.0
"""From the last SIGTERM to SIGKILL: longer than a hurried worker gives its tasks, so it can hand them back."""

KILL_S: Final = 5.0
"""For the kernel to end a killed process, on a machine that is busy."""

PIPE_BYTES: Final = 64 * 1024
"""What a pipe holds: far more than the line or two that our programs write to stdout."""

_PR_SET_PDEATHSIG: Final = 1


class Child:
    """One process of ours."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._process = process
        self._said = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def has_failed(self) -> bool:
        """Whether it ended, and not because it was done."""
        return self._process.returncode not in {None, 0}

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it."""
        return (self._process.returncode or 0) < 0

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        return f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"

    def said(self) -> str:
        """Return what it has written to stdout so far, without waiting for more."""
        pipe = self._process.stdout
        if pipe is not None:
            with suppress(BlockingIOError):
                self._said += os.read(pipe.fileno(), PIPE_BYTES)
        return self._said.decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self._process.send_signal(number)

    def reap(self, timeout_s: float) -> None:
        """Wait for the end of a process that was killed."""
        self._process.wait(timeout_s)


def block_signals() -> None:
    """Hold back the signals that we wait for, from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_SIGNALS)


def wait_for_signal(timeout_s: float) -> bool:
    """Wait until somebody wants us to stop, a child has ended, or the time is over; return whether we are to stop."""
    taken = signal.sigtimedwait(_WAITED_SIGNALS, max(0.0, timeout_s))
    return taken is not None and taken.si_signo in STOP_SIGNALS


def start_child(name: str, arguments: Sequence[str], *, env: Mapping[str, str], is_heard: bool = False) -> Child:
    """Start ``rota`` with these arguments as a process that dies with us.

    Args:
        name: What to call it.
        arguments: The command and its options.
        env: Its whole environment.
        is_heard: Whether `Child.said` has what it writes to stdout; it goes to ours otherwise.
    """
    process = subprocess.Popen(
        # -P: a file that is called like a module of ours, where one happens to stand, must not be run.
        [sys.executable, "-P", "-m", "rota", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if is_heard else None,
        env=dict(env),
        process_group=0,
        preexec_fn=_dying_with(os.getpid()),  # noqa: PLW1509 - safe: this process has one thread
    )
    if process.stdout is not None:
        os.set_blocking(process.stdout.fileno(), False)
    return Child(name, process)


def stop_children(children: Sequence[Child], *, terms_s: Sequence[float], is_urgent: bool) -> bool:
    """End processes with SIGTERM, or SIGKILL when that takes too long or somebody wants us to stop again.

    Args:
        children: The processes.
        terms_s: A SIGTERM for each, and the time to wait after it. To a worker the second one means to hand
            back what runs, which then is nobody's fault; SIGKILL makes a loss of it.
        is_urgent: Whether not to wait at all.

    Returns:
        Whether it had become urgent.
    """
    for term_s in terms_s:
        for child in children:
            child.send(signal.SIGTERM)
        is_urgent = is_urgent or _wait_for_ends(children, term_s)
    for child in children:
        if not child.has_ended:
            child.send(signal.SIGKILL)
    for child in children:
        child.reap(KILL_S)
    return is_urgent


def _wait_for_ends(children: Sequence[Child], timeout_s: float) -> bool:
    """Wait until all have ended, somebody wants us to stop, or the time is over; return whether we are to stop."""
    give_up_at = time.monotonic() + timeout_s
    is_urgent = False
    while not is_urgent and not all(child.has_ended for child in children):
        left_s = give_up_at - time.monotonic()
        if left_s <= 0:
            break
        is_urgent = wait_for_signal(left_s)
    return is_urgent


def _dying_with(parent: int) -> Callable[[], None]:
    """Return what a child does before it becomes another program. All is looked up before the fork."""
    set_option = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if set_option is not None:
            set_option(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # We may have died before the kernel was told.
        if os.getppid() != parent:
            os._exit(0)

    return prepare
