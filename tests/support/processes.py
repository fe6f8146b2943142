"""Real processes under test: started, watched through their output, and always gone at the end.

A `RunningProcess` writes stdout and stderr into one file, which a test reads as often as it
likes and which is shown (its tail) when the test fails. It dies with the test process, whatever
happens to that one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from tests.support.waiting import TIMEOUT_S, GaveUp, wait_until

__all__ = ["RunningProcess", "running_rota"]

T = TypeVar("T")

TAIL_LINES: Final = 60
"""Lines of output shown with a failure: a traceback with what led to it."""

STOP_TIMEOUT_S: Final = 30.0
"""From SIGTERM to SIGKILL: more than a graceful stop may take."""

KILL_TIMEOUT_S: Final = 60.0
"""For the kernel to end a killed process, on a machine that is busy."""


class RunningProcess:
    """A program that runs while the ``with`` block does.

    ``return_code`` is ``None`` while it runs; -9 stands for SIGKILL, as in `subprocess`.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start ``argv``.

        Args:
            argv: The program and its arguments.
            log_path: Takes the output; what is there already is kept, so restarts can share a file.
            env: Added to the environment of the tests.
            cwd: Where to start it.
        """
        self.argv = [os.fspath(part) for part in argv]
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._reads_from = log.tell()
            self._process = subprocess.Popen(
                [*_dying_with_us(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                cwd=cwd,
                # A Ctrl-C at the tests' terminal is theirs: they stop what they started.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def return_code(self) -> int | None:
        return self._process.poll()

    def is_running(self) -> bool:
        """Say whether it has not ended yet."""
        return self._process.poll() is None

    def output(self) -> str:
        """Return all that it has written so far, stdout and stderr together."""
        with self.log_path.open("rb") as log:
            log.seek(self._reads_from)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        """Return the last lines of its output, under a line that says whose they are."""
        lines = self.output().splitlines()[-TAIL_LINES:]
        state = "running" if self.is_running() else f"ended with {self.return_code}"
        return "\n".join([f"--- {' '.join(self.argv)} (pid {self.pid}, {state}) wrote:", *lines, "---"])

    def wait_for_line(self, pattern: str, *, timeout_s: float = TIMEOUT_S) -> re.Match[str]:
        """Return the first match of a regular expression in a line of its output.

        Raises:
            GaveUp: It ended, or the time was over, without such a line.
        """
        expression = re.compile(pattern, re.MULTILINE)

        def find() -> re.Match[str] | bool:
            had_ended = not self.is_running()  # before the search, or its last line could be missed
            return expression.search(self.output()) or had_ended

        found = self._wait(find, what=f"a line like {pattern!r}", timeout_s=timeout_s)
        if not isinstance(found, re.Match):
            raise GaveUp(f"a line like {pattern!r}\n{self.tail()}", timeout_s=timeout_s, last="its end")
        return found

    def wait_for_exit(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """Return its exit code once it has ended by itself; -N for signal N."""
        self._wait(lambda: not self.is_running(), what=f"the end of pid {self.pid}", timeout_s=timeout_s)
        return self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self._process.send_signal(number)

    def kill(self) -> int:
        """End it with SIGKILL, wait until it is gone, return its exit code."""
        self._process.kill()
        return self._process.wait(KILL_TIMEOUT_S)

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End it with SIGTERM, or with SIGKILL if that takes too long; return its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(self.tail())

    def _wait(self, condition: Callable[[], T], *, what: str, timeout_s: float) -> T:
        try:
            return wait_until(condition, what=what, timeout_s=timeout_s)
        except GaveUp as error:
            raise GaveUp(f"{what}\n{self.tail()}", timeout_s=timeout_s, last=error.last) from None


def running_rota(
    *arguments: str, log_path: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> RunningProcess:
    """Start ``rota`` with these arguments, by the interpreter that runs the tests."""
    return RunningProcess([sys.executable, "-m", "rota", *arguments], log_path=log_path, env=env, cwd=cwd)


def _dying_with_us() -> list[str]:
    """Words before a command that make the kernel kill it when this process dies, even by -9."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
