"""The scratch directories of a worker: where they are, and the removal of those that no slot removes any more.

```
<cache>/scratch-1/t5-1        of task 5, attempt 1
<cache>/scratch-1/t5-1.3      a part of it that is being removed
```

A slot makes the directory of an attempt, and removes it. But a slot may be killed, with all the worker: so this looks
from time to time for directories of attempts that are not there, those of workers that are gone included.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from rota.core.model import AttemptKey, TaskSeq
from rota.process.threads import in_thread
from rota.worker.cache import LOCK_NAME, CacheDir
from rota.worker.slots.scratch import remove_tree

__all__ = ["ScratchFolder"]

SWEEP_PERIOD_S: Final = 10.0

_NAME: Final = re.compile(r"t(\d+)-(\d+)(?:\.\d+)*\Z", re.ASCII)

log = structlog.get_logger(__name__)


class ScratchFolder:
    """The folder that the scratch directories of one worker are in, made when the first is needed.

    Args:
        cache: Has the folder.
    """

    def __init__(self, cache: CacheDir) -> None:
        self._cache = cache
        self._folder: Path | None = None
        self._lives: Callable[[AttemptKey], bool] = lambda _: False
        self._told: set[str] = set()

    def protect(self, lives: Callable[[AttemptKey], bool]) -> None:
        """Ask this whether an attempt may still have its directory, before that is removed."""
        self._lives = lives

    def path_of(self, key: AttemptKey) -> str:
        """Where an attempt has its directory; the slot makes it.

        Raises:
            OSError: The folder for it can't be made.
        """
        if self._folder is None or not self._folder.is_dir():  # somebody may have removed it
            self._folder = self._cache.take_own_folder("scratch")
        return f"{self._folder}/t{key[0]}-{key[1]}"

    async def keep_clean(self) -> None:
        """Remove what dead workers left, then again and again what dead slots of this one leave."""
        while True:
            try:
                await in_thread(self._sweep_others, name="scratch-removal")
                await self.sweep()
            except OSError as error:
                log.warning("scratch_not_looked_at", error=str(error))
            await asyncio.sleep(SWEEP_PERIOD_S)

    async def sweep(self) -> None:
        """Remove the directories here whose attempts are not there any more."""
        folder = self._folder
        if folder is None:
            return
        # Listed first, then asked: what has been made since is not among them.
        names = await in_thread(lambda: _listed(folder), name="scratch-listing")
        dead = [name for name in names if not self._is_alive(name)]
        if dead:
            await in_thread(lambda: self._remove(folder, dead), name="scratch-removal")

    def _is_alive(self, name: str) -> bool:
        found = _NAME.match(name)
        return found is not None and self._lives((TaskSeq(int(found[1])), int(found[2])))

    def _sweep_others(self) -> None:
        for folder in self._cache.free_folders("scratch"):
            self._remove(folder, _listed(folder))

    def _remove(self, folder: Path, names: list[str]) -> None:
        for name in names:
            path = f"{folder}/{name}"
            problem = remove_tree(path)
            if problem is None:
                log.info("scratch_removed", path=path)
            elif path not in self._told:
                self._told.add(path)
                log.warning("scratch_left", path=path, problem=problem)


def _listed(folder: Path) -> list[str]:
    """What is in a folder, parts of a directory before what is left of itself: their names are made from its."""
    try:
        return sorted((path.name for path in folder.iterdir() if path.name != LOCK_NAME), reverse=True)
    except FileNotFoundError:
        return []
