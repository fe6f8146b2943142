"""Room on the disk of the state directory: told while there is time to do something about it.

A full disk loses nothing, but nothing is accepted then and no end is recorded: it is late for a warning.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from rota.store.sqlite import DATABASE_NAME

__all__ = ["DiskWatch"]

LOOK_EVERY_S: Final = 30.0

LOW_BYTES: Final = 1 << 30
"""Some hours of a busy cluster."""

LOW_SHARE: Final = 0.1
"""Of a disk that is smaller than ten times that."""

ROOMY_FACTOR: Final = 1.5
"""So much more than what is low must be free before all is well again, so that the edge is not told of each time."""

log = structlog.get_logger(__name__)


class DiskWatch:
    """Looks at the disk of a state directory for as long as it runs, and tells when room gets low, once.

    ``used_bytes`` says how much of it the database and the output take, as of the last look.
    """

    def __init__(self, state_dir: Path) -> None:
        self.used_bytes: Mapping[str, int] = {}
        self._state_dir = state_dir
        self._is_low = False

    def free_bytes(self) -> int | None:
        """How much this user can still write there; ``None`` where nobody can tell."""
        room = self._room()
        return room[0] if room is not None else None

    def run_once(self) -> None:
        """Look, and tell if that has changed. Reads a directory: call it in a thread."""
        self.used_bytes = {
            "database": sum(map(_size_of, self._state_dir.glob(f"{DATABASE_NAME}*"))),
            "logs": sum(map(_size_of, self._state_dir.glob("logs/*"))),
        }
        room = self._room()
        if room is None:
            return
        free, total = room
        low = min(LOW_BYTES, int(total * LOW_SHARE))
        if not self._is_low and free < low:
            self._is_low = True
            hint = "free some space there, or keep less: --retention, --log-retention, --blob-retention"
            log.warning("disk_low", path=str(self._state_dir), free_mib=free >> 20, hint=hint)
        elif self._is_low and free >= low * ROOMY_FACTOR:
            self._is_low = False
            log.info("disk_roomy", path=str(self._state_dir), free_mib=free >> 20)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.to_thread(self.run_once)
            await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.8, 1.2))

    def _room(self) -> tuple[int, int] | None:
        try:
            status = os.statvfs(self._state_dir)
        except OSError:
            return None
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _size_of(path: Path) -> int:
    with suppress(OSError):  # it may be gone by now
        return path.stat().st_size
    return 0
