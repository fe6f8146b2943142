"""Writes a turn down: output and blobs first, then the rows, so that no row speaks of what is not there."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from rota.core.changes import Changes, Fence
from rota.core.errors import StoreUnavailable
from rota.store.base import Leadership, Store
from rota.store.blobs import BlobStore
from rota.store.logs import LogStore

__all__ = ["Recorder"]


class Recorder:
    """The store, the log store and the blob store of one reign."""

    def __init__(self, store: Store, logs: LogStore, leadership: Leadership, *, blobs: BlobStore) -> None:
        self.store = store
        self.logs = logs
        self.blobs = blobs
        self._leadership = leadership
        # Threads of their own: a turn must not stand in line behind people who read.
        self._appending = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-logs")
        self._syncing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-blobs")

    async def save(self, changes: Changes, *, number: int) -> None:
        """Make changes durable under the next number.

        Raises:
            StoreError: They are not.
        """
        if changes.output or changes.blobs:
            await self._save_files(changes)
        await self.store.commit(changes, Fence(self._leadership.epoch, self._leadership.holder, number))

    async def _save_files(self, changes: Changes) -> None:
        """Bring output and blobs to the disk, side by side; blobs that are there already cost nothing.

        They count as used from now on: what a nightly task leaves may be equal to what it left a month ago, and is kept
        as long as the youngest task that names it.
        """
        loop = asyncio.get_running_loop()
        work: list[asyncio.Future[None]] = []
        if changes.output:
            work.append(loop.run_in_executor(self._appending, self.logs.append, changes.output))
        self.blobs.missing(changes.blobs)
        if blobs := self.blobs.undurable(changes.blobs):
            work.append(loop.run_in_executor(self._syncing, self.blobs.make_durable, blobs))
        if not work:
            return
        # Both to their end: what has failed is tried again, and must not meet itself.
        await asyncio.wait(work)
        failures = [failure for one in work if (failure := one.exception()) is not None]
        try:
            if failures:  # one that ends the process before one that may pass
                raise min(failures, key=lambda failure: isinstance(failure, StoreUnavailable))
        finally:
            del failures, work  # they hold the exception, which holds this frame

    async def close(self) -> None:
        """Let go of all."""
        self._appending.shutdown(wait=False)
        self._syncing.shutdown(wait=False)
        await asyncio.to_thread(self.logs.close)
        await asyncio.to_thread(self.blobs.close)
        await self.store.close()
