"""A program on a terminal of its own, typed to key by key: what only happens there, such as completion on TAB."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["Terminal"]

SEEN_S_MAX: Final = 60.0
"""For what must appear: far more than any shell takes, so that a hang fails the test and not the whole run."""

_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Za-z0-9]|\x1b[=>]|\x1b\][^\x07]*\x07|[\x07\x08\r]")


class Terminal:
    """One program on a pseudo-terminal; it is killed at the end of the block."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._fd, other = pty.openpty()
        self._process = subprocess.Popen(
            command,
            stdin=other,
            stdout=other,
            stderr=other,
            env={**env, "TERM": "dumb", "COLUMNS": "200", "LINES": "50"},
            cwd=cwd,
            start_new_session=True,
        )
        os.close(other)
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def type(self, keys: str) -> None:
        """Type something; what was shown before is forgotten."""
        self._shown = ""
        os.write(self._fd, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Return all that was shown since the last keys, once it has ``pattern`` (without control sequences)."""
        give_up_at = time.monotonic() + SEEN_S_MAX
        while re.search(pattern, text := _CONTROL.sub("", self._shown)) is None:
            assert time.monotonic() < give_up_at, f"{pattern!r} is not in what the terminal shows:\n{text}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self._shown += os.read(self._fd, 65536).decode(errors="replace")
        return text

    def exit_code(self) -> int:
        """Return what the program leaves with, once it has."""
        try:
            while True:  # what it still writes must go somewhere, or it never ends
                assert select.select([self._fd], [], [], SEEN_S_MAX)[0], "the program does not end"
                os.read(self._fd, 65536)
        except OSError:  # nobody has the other end any more
            return self._process.wait(SEEN_S_MAX)
