"""How much an attempt has in its scratch directory: looked at from time to time, and held under a limit.

A quota would need rights that a worker has not. So the directory is walked, a slice at a time: between two slices the
slot reads output and hears the agent, and on a directory of a million files the walk takes a minute or two instead of
all that the slot does. What counts are the blocks on the disk, a file with several names once. A file that was removed
and is still open is not seen, nor what is written elsewhere: this ends programs that write too much by mistake, and no
others.
"""

import os
import stat
import time
from _collections_abc import Iterator

from rota.worker.slots.scratch import OPEN_DIRECTORY

__all__ = ["FillingWatch"]

PERIOD_S = 1.0
"""From the end of a walk to the next, and from the start of an attempt to the first: what ends before is not looked at.

A disk takes some 500 MiB in that time.
"""

SLICE_S = 0.01
PAUSE_S = 0.2
"""A twentieth of a slot's time at most."""

ENTRIES_A_STEP = 64
"""Between looks at the clock: some 0.2 ms."""

BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system has."""


class FillingWatch:
    """What lies in a directory. ``next_look`` is on the steady clock."""

    __slots__ = ("_bytes", "_limit_mib", "_path", "_walk", "next_look")

    def __init__(self, path: str, limit_mib: int, *, started: float) -> None:
        self._path = path
        self._limit_mib = limit_mib
        self._bytes = 0
        self._walk: Iterator[int] | None = None
        self.next_look = started + PERIOD_S

    def look(self, now: float) -> str | None:
        """Walk a little further if that is due; return a sentence if a whole walk has found too much."""
        if now < self.next_look:
            return None
        if self._walk is None:
            self._walk, self._bytes = _sizes(self._path), 0
        slice_ends_at = time.monotonic() + SLICE_S
        for size in self._walk:
            self._bytes += size
            if time.monotonic() >= slice_ends_at:
                self.next_look = time.monotonic() + PAUSE_S
                return None
        self._walk = None
        self.next_look = time.monotonic() + PERIOD_S
        if self._bytes <= self._limit_mib << 20:
            return None
        return (
            f"its scratch directory held {-(-self._bytes >> 20)} MiB, and this worker's limit is {self._limit_mib} MiB "
            "(--scratch-limit): write less, or elsewhere"
        )

    def close(self) -> None:
        """Let go of the directory that the walk has come to."""
        self._walk = None


def _sizes(path: str) -> Iterator[int]:
    """The bytes below a directory, some entries at a time. Follows no links, and stays on one file system."""
    folders = [path]
    device: int | None = None
    several_names: set[int] = set()
    while folders:
        folder = folders.pop()
        try:
            fd = os.open(folder, OPEN_DIRECTORY)
        except OSError:
            continue  # it has gone, or may not be read: what is in it can't be counted
        try:
            found = os.fstat(fd)
            device = found.st_dev if device is None else device
            if found.st_dev != device:
                continue
            total, count = found.st_blocks * BLOCK_BYTES, 0
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        one = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISDIR(one.st_mode):
                        folders.append(f"{folder}/{entry.name}")
                    elif one.st_nlink < 2 or one.st_ino not in several_names:
                        total += one.st_blocks * BLOCK_BYTES
                        if one.st_nlink > 1:
                            several_names.add(one.st_ino)
                    count += 1
                    if count % ENTRIES_A_STEP == 0:
                        yield total
                        total = 0
            yield total
        finally:
            os.close(fd)
