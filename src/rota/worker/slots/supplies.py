"""Gets what attempts wait for: slots of their kind, and the blobs that functions refer to.

Each thing is got once, however many wait for it. When one is there, whoever waits is told to look again; when one
can't be had, those that need it are told why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from rota.core.model import Cause
from rota.worker.executors.function import FunctionExecutor
from rota.worker.slots.base import Blobs, Environments, SuppliesFailed
from rota.worker.slots.errands import Errand
from rota.worker.slots.frames import FunctionOrder, Order
from rota.worker.slots.source import SlotSettings, SlotSource, SourceEvents
from rota.worker.slots.sources import SourceKey, Sources

__all__ = ["Supplies"]

log = structlog.get_logger(__name__)


class Supplies:
    """What attempts need before they run.

    Args:
        settings: Of all slots.
        events: Who hears of slots.
        functions: Makes the orders of functions.
        blobs: Of functions, if this worker runs any.
        environments: Where requirements come from, if this worker has such.
        on_change: Told when something has come.
        on_failed: Told what can't be had: which errands need it, and why.
    """

    def __init__(
        self,
        *,
        settings: SlotSettings,
        events: SourceEvents,
        functions: FunctionExecutor,
        blobs: Blobs | None,
        environments: Environments | None,
        on_change: Callable[[], None],
        on_failed: Callable[[Callable[[Errand], bool], SuppliesFailed], None],
    ) -> None:
        self.sources = Sources(
            settings=settings,
            events=events,
            environments=environments,
            on_ready=self._on_source_ready,
            on_failed=self._on_source_failed,
        )
        self._functions = functions
        self._blobs = blobs
        self._on_change = on_change
        self._on_failed = on_failed
        self._fetching: dict[str, asyncio.Task[None]] = {}

    def find(self, errand: Errand) -> tuple[SlotSource, Order | FunctionOrder] | None:
        """Where an errand can go and with which order, if all it needs is here. Asked for each: it must be quick."""
        source = self.sources.find(errand.source)
        if source is None:
            return None
        order = errand.order if errand.call is None else self._function_order(errand)
        return (source, order) if order is not None else None

    def call_for(self, errand: Errand) -> None:
        """Get what it needs that is not here."""
        self.sources.prepare(errand.source)
        for digest in errand.needs:
            if digest not in self._fetching and self._blobs is not None and self._blobs.find(digest) is None:
                self._fetching[digest] = asyncio.create_task(self._fetch(self._blobs, digest))

    async def close(self) -> None:
        """Get nothing more, let all slots leave, and wait until they have."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
        await self.sources.close()

    def _function_order(self, errand: Errand) -> FunctionOrder | None:
        assert self._blobs is not None
        assert errand.call is not None
        find = self._blobs.find
        paths: list[str] = []
        for digest in errand.needs:
            path = find(digest)
            if path is None:
                return None
            paths.append(path)
        return self._functions.order(errand.call, errand.work, paths=paths, blob_dir=self._blobs.folder)

    async def _fetch(self, blobs: Blobs, digest: str) -> None:
        failed = None
        try:
            await blobs.fetch(digest)
        except SuppliesFailed as error:
            failed = error
        except Exception as error:
            log.exception("fetch_failed", digest=digest)
            failed = SuppliesFailed(f"blob {digest} could not be fetched: {error}", cause=Cause.AGENT_ERROR)
        del self._fetching[digest]
        if failed is None:
            self._on_change()
        else:
            self._on_failed(lambda errand: digest in errand.needs, failed)

    def _on_source_ready(self, _: SourceKey) -> None:
        self._on_change()

    def _on_source_failed(self, key: SourceKey, failed: SuppliesFailed) -> None:
        self._on_failed(lambda errand: errand.source == key, failed)
