"""A directory that goes with its process: removed by it, or by the next one if it was killed.

Whose process lives is told by a lock on the directory, which ends with the process however that dies.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path
from shutil import rmtree
from typing import Final

__all__ = ["TemporaryHome"]

UNLOCKED_S: Final = 60.0
"""A directory is not taken for a dead process's so soon after it was made: it may not be locked yet."""


class TemporaryHome:
    """A new directory for this user alone, locked until `remove`."""

    def __init__(self, prefix: str) -> None:
        """Make it, and remove those of processes that were killed. Raises `OSError`."""
        _remove_abandoned(prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove it with all that is in it. Safe to call twice."""
        if self._fd >= 0:
            rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1


def _remove_abandoned(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # another user's, or just gone
            continue
        try:
            found = os.fstat(fd)
            if found.st_uid == os.geteuid() and time.time() - found.st_mtime > UNLOCKED_S:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rmtree(path, ignore_errors=True)
        except BlockingIOError:  # its process lives
            pass
        finally:
            os.close(fd)
