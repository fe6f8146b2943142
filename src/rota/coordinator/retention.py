"""Removes what is kept no longer: ended tasks, with their output, in small steps beside the work."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from rota.core.errors import StoreUnavailable
from rota.process.clock import wall_s
from rota.store.base import Retention, Store
from rota.store.logs import LogStore

__all__ = ["EVERY_S", "STEP_TASKS", "RetentionService"]

EVERY_S: Final = 30.0
"""Between looks; jittered, so that several coordinators on one machine don't look together."""

STEP_TASKS: Final = 500
"""Removed in one transaction: a commit of ours waits no longer than for one of these."""

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
