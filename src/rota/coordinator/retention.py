"""Removes what is kept no longer, in small steps beside the work: ended tasks with their output, and unused blobs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from collections.abc import Set as AbstractSet
from typing import Final

import structlog

from rota.core.errors import StoreError, StoreUnavailable
from rota.process.clock import wall_s
from rota.store.base import Retention, Store
from rota.store.blobs import BlobStore
from rota.store.logs import LogStore

__all__ = ["EVERY_S", "STEP_TASKS", "BlobRetention", "RetentionService"]

EVERY_S: Final = 30.0
"""Between looks; jittered, so that several coordinators on one machine don't look together."""

STEP_TASKS: Final = 500
"""Removed in one transaction: a commit of ours waits no longer than for one of these."""

BLOBS_EVERY_S: Final = 60.0
"""Between looks at blobs, the first after as long: by then workers have come back with what they hold."""

log = structlog.get_logger(__name__)


class RetentionService:
    """Keeps to the retention for as long as it runs."""

    def __init__(self, store: Store, logs: LogStore, retention: Retention) -> None:
        self._store = store
        self._logs = logs
        self._retention = retention

    async def run_once(self, *, wall: float) -> int:
        """Remove one step of what is over the retention; return how many tasks went."""
        gone = await self._store.prune(self._retention, wall=wall, at_most=STEP_TASKS)
        if gone:
            await asyncio.to_thread(self._logs.forget, gone)
        return len(gone)

    async def run(self) -> None:
        """Look again and again. A store that takes no writes is left alone until the next look.

        Raises:
            StoreError: The store is broken, or another leader has it: the process must leave.
        """
        while True:
            removed = 0
            try:
                while (step := await self.run_once(wall=wall_s())) > 0:
                    removed += step
                    await asyncio.sleep(0)
            except StoreUnavailable as error:
                log.warning("retention_failed", error=str(error))
            if removed:
                log.info("retention", removed=removed)
            await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))


class BlobRetention:
    """Removes blobs that were not used for long, or for which there is no room, for as long as it runs."""

    def __init__(
        self,
        blobs: BlobStore,
        *,
        pinned: Callable[[], AbstractSet[str] | None],
        bytes_max: int,
        max_age_s: float,
    ) -> None:
        """Keep to bounds.

        Args:
            blobs: The store.
            pinned: Which blobs must stay; ``None`` while that is not known, and all do.
            bytes_max: Of all blobs.
            max_age_s: Since the last use.
        """
        self._blobs = blobs
        self._pinned = pinned
        self._bytes_max = bytes_max
        self._max_age_s = max_age_s

    async def run_once(self, *, wall: float) -> int:
        """Remove one step of what is kept no longer; return how many blobs went."""
        pinned = self._pinned()
        if pinned is None:
            return 0
        return await asyncio.to_thread(
            self._blobs.sweep, pinned, wall=wall, bytes_max=self._bytes_max, max_age_s=self._max_age_s
        )

    async def run(self) -> None:
        """Look again and again. No trouble with blobs ends the process: what could not be removed stays."""
        await self._attempt(asyncio.to_thread(self._blobs.discover))
        while True:
            await asyncio.sleep(BLOBS_EVERY_S * random.uniform(0.8, 1.2))
            await self._attempt(self._remove_all())

    async def _remove_all(self) -> None:
        removed = 0
        while (step := await self.run_once(wall=wall_s())) > 0:
            removed += step
        if removed:
            log.info("blob_retention", removed=removed)

    async def _attempt(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except StoreError as error:
            log.warning("blob_retention_failed", error=str(error))
