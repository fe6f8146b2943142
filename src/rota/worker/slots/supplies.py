"""Gets what attempts wait for: slots of their kind, the blobs that functions and files are, programs built of code.

Each thing is got once, however many wait for it. When one is there, whoever waits is told to look again; when one
can't be had, those that need it are told why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from rota.core.model import Cause
from rota.worker.executors.function import FunctionExecutor
from rota.worker.slots.base import Blobs, Build, Programs, Stock, SuppliesFailed
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
        stock: What this worker has of what they need.
        on_change: Told when something has come.
        on_failed: Told what can't be had: which errands need it, and why.
        is_wanted: Says whether there still are such errands.
    """

    def __init__(
        self,
        *,
        settings: SlotSettings,
        events: SourceEvents,
        functions: FunctionExecutor,
        stock: Stock,
        on_change: Callable[[], None],
        on_failed: Callable[[Callable[[Errand], bool], SuppliesFailed], None],
        is_wanted: Callable[[Callable[[Errand], bool]], bool],
    ) -> None:
        self.sources = Sources(
            settings=settings,
            events=events,
            environments=stock.environments,
            on_ready=self._on_source_ready,
            on_failed=self._on_source_failed,
        )
        self._functions = functions
        self._blobs = stock.blobs
        self._on_change = on_change
        self._on_failed = on_failed
        self._is_wanted = is_wanted
        self._programs = stock.programs
        self._fetching: dict[str, asyncio.Task[None]] = {}
        """What is got, by digests of blobs and names of programs."""

    def orders(
        self, errands: Sequence[Errand], source: SlotSource | None
    ) -> tuple[SlotSource | None, list[Order | FunctionOrder]]:
        """The orders of the first of these, as far as they have all they need and one slot can take them.

        Args:
            errands: Of one lane.
            source: Where the lane has its slot from, if it has one.

        Returns:
            The orders, and where the slot for them is from, if there are any.
        """
        orders: list[Order | FunctionOrder] = []
        make = self._functions.order
        call, path, extras = None, "", None
        for errand in errands:
            if errand.call is None or errand.call is not call:  # most are like the one before
                own = self.sources.find(errand.source)
                if own is None or own is not (source or own):
                    break
                if errand.call is not None:
                    paths = self._paths(errand.call.needs)
                    if paths is None:
                        break
                    call, path, extras = errand.call, paths[0], self._extras(errand, paths)
                source = own
            if errand.order is not None:
                is_whole = errand.build is None and errand.freight is None
                order = errand.order if is_whole else self._completed(errand.order, errand)
                if order is None:
                    break
                orders.append(order)
            elif call is not None and extras is not None:
                orders.append(make(call, errand.work, errand.args, path=path, extras=extras))
        return source if orders else None, orders

    def call_for(self, errand: Errand) -> None:
        """Get what it needs that is not here."""
        self.sources.prepare(errand.source)
        for digest in errand.needs:
            if digest not in self._fetching and self._blobs is not None and self._blobs.find(digest) is None:
                self._fetching[digest] = asyncio.create_task(self._fetch(self._blobs, digest))
        build, programs = errand.build, self._programs
        if build is None or programs is None or build.name in self._fetching:
            return
        if programs.find(build.name) is None:
            self._fetching[build.name] = asyncio.create_task(self._build(programs, build))

    async def close(self) -> None:
        """Get nothing more, let all slots leave, and wait until they have."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
        await self.sources.close()

    def _completed(self, order: Order, errand: Errand) -> Order | None:
        """The order of a program with what it must have, if all of that is here: the program, the files."""
        if errand.build is not None:
            assert self._programs is not None
            path = self._programs.find(errand.build.name)
            if path is None:
                return None
            order = (order[0], order[1], [path, *order[2]], *order[3:])
        if errand.freight is not None:
            assert self._blobs is not None
            paths = self._paths(errand.freight.needs)
            if paths is None:
                return None
            order = (*order[:-1], errand.freight.order(paths, blob_dir=self._blobs.folder))
        return order

    def _paths(self, digests: Sequence[str]) -> list[str] | None:
        """Where blobs are, if all of them are here."""
        assert self._blobs is not None
        paths: list[str] = []
        for digest in digests:
            path = self._blobs.find(digest)
            if path is None:
                return None
            paths.append(path)
        return paths

    def _extras(self, errand: Errand, paths: Sequence[str]) -> dict[str, object]:
        assert self._blobs is not None
        assert errand.call is not None
        return self._functions.extras(errand.call, errand.work, paths=paths, blob_dir=self._blobs.folder)

    async def _fetch(self, blobs: Blobs, digest: str) -> None:
        await self._get(digest, blobs.fetch(digest), needs_it=lambda errand: digest in errand.needs)

    async def _build(self, programs: Programs, build: Build) -> None:
        def needs_it(errand: Errand) -> bool:
            return errand.build is not None and errand.build.name == build.name

        building = programs.build(build, is_wanted=lambda: self._is_wanted(needs_it))
        await self._get(build.name, building, needs_it=needs_it)

    async def _get(self, name: str, getting: Awaitable[None], *, needs_it: Callable[[Errand], bool]) -> None:
        """Wait until something is here or can't be had, and tell those who need it."""
        failed = None
        try:
            await getting
        except SuppliesFailed as error:
            failed = error
        except Exception as error:
            log.exception("supply_failed", name=name)
            failed = SuppliesFailed(f"{name} could not be had: {error}", cause=Cause.AGENT_ERROR)
        del self._fetching[name]
        if failed is None:
            self._on_change()
        else:
            self._on_failed(needs_it, failed)

    def _on_source_ready(self, _: SourceKey) -> None:
        self._on_change()

    def _on_source_failed(self, key: SourceKey, failed: SuppliesFailed) -> None:
        self._on_failed(lambda errand: errand.source == key, failed)
