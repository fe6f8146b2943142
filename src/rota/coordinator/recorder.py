"""Writes a turn down: output first, then the rows, so that no row speaks of output that is not there."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from rota.core.changes import Changes, Fence
from rota.store.base import Leadership, Store
from rota.store.logs import LogStore

__all__ = ["Recorder"]


class Recorder:
    """The store and the log store of one reign."""

    def __init__(self, store: Store, logs: LogStore, leadership: Leadership) -> None:
        self.store = store
        self.logs = logs
        self._leadership = leadership
        # Its own thread: a turn must not stand in line behind people who read.
        self._appending = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-logs")

    async def save(self, changes: Changes, *, number: int) -> None:
        """Make changes durable under the next number.

        Raises:
            StoreError: They are not.
        """
        if changes.output:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._appending, self.logs.append, changes.output)
        await self.store.commit(changes, Fence(self._leadership.epoch, self._leadership.holder, number))

    async def close(self) -> None:
        """Let go of both."""
        self._appending.shutdown(wait=False)
        await asyncio.to_thread(self.logs.close)
        await self.store.close()
