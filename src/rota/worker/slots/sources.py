"""All keepers of a worker, by what their slots run: programs, functions, functions of one virtual environment.

Programs' slots are there from the start. The others are made when the first task asks for them, because each
keeper of functions takes 25 MiB, and leave when nothing has asked for a while.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from rota.core.model import Cause
from rota.worker.slots.base import Environments, SuppliesFailed
from rota.worker.slots.source import SlotSettings, SlotSource, SourceEvents

__all__ = ["FUNCTIONS", "PROGRAMS", "SourceKey", "Sources", "function_environment"]

SourceKey = tuple[str, ...]
"""The kind, and the requirements of the environment, sorted."""

PROGRAMS: Final[SourceKey] = ("process",)
FUNCTIONS: Final[SourceKey] = ("function",)

RETRY_PAUSE_S: Final = 10.0
"""After a keeper that did not start or an environment that could not be made. What comes meanwhile waits."""

UNUSED_S_MAX: Final = 600.0
"""How long a keeper without slots stays."""

FUNCTION_NAMES: Final = ("PYTHONPATH", "LD_LIBRARY_PATH")
"""Of the worker's environment, more than programs get: without them its own modules can't be imported."""

log = structlog.get_logger(__name__)


class Sources:
    """Makes sources of slots on demand.

    Args:
        settings: Of all slots.
        events: Who hears of slots.
        environments: Where interpreters with requirements come from, if this worker has any.
        on_ready: Told of each source that was asked for and can be had now.
        on_failed: Told of each that can't, and why.
    """

    def __init__(
        self,
        *,
        settings: SlotSettings,
        events: SourceEvents,
        environments: Environments | None,
        on_ready: Callable[[SourceKey], None],
        on_failed: Callable[[SourceKey, SuppliesFailed], None],
    ) -> None:
        self._settings = settings
        self._events = events
        self._environments = environments
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._sources: dict[SourceKey, SlotSource] = {}
        self._making: dict[SourceKey, asyncio.Task[None]] = {}
        self._retry_at: dict[SourceKey, float] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start what programs need.

        Raises:
            KeeperFailed: It can't be started: nothing could run here.
        """
        source = SlotSource("process", settings=self._settings, events=self._events)
        self._sources[PROGRAMS] = source
        await source.start()

    def find(self, key: SourceKey) -> SlotSource | None:
        """A source that can give slots now."""
        return self._sources.get(key)

    def prepare(self, key: SourceKey) -> None:
        """Make a source, unless that goes on already; ``on_ready`` or ``on_failed`` says how it ends."""
        if key not in self._making and key not in self._sources:
            self._making[key] = asyncio.create_task(self._prepare(key))

    def use_grace(self, grace_s: float) -> None:
        """From now on give what is over its time-out so long from SIGTERM to SIGKILL."""
        self._settings.grace_s = float(grace_s)
        for source in self._sources.values():
            source.use_grace(grace_s)

    def trim(self) -> None:
        """Let go what has long been idle."""
        now = time.monotonic()
        long_ago = now - UNUSED_S_MAX
        self._retry_at = {key: at for key, at in self._retry_at.items() if at > now}
        for key, source in list(self._sources.items()):
            source.trim()
            if key != PROGRAMS and source.unused_since < long_ago:
                del self._sources[key]
                leaving = asyncio.create_task(source.close())
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Let everything leave, and wait until it has."""
        for making in self._making.values():
            making.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await asyncio.gather(*(source.close() for source in self._sources.values()), *self._leaving)

    async def _prepare(self, key: SourceKey) -> None:
        try:
            await asyncio.sleep(self._retry_at.pop(key, 0.0) - time.monotonic())
            self._sources[key] = await self._make(key)
        except Exception as error:
            facts = {"kind": key[0], "requirements": list(key[1:])}
            if isinstance(error, SuppliesFailed):  # it has said itself what was wrong
                log.warning("no_slots", error=str(error), **facts)
                failed = error
            else:
                log.exception("no_slots", **facts)
                failed = _not_started(error)
            self._retry_at[key] = time.monotonic() + RETRY_PAUSE_S
            del self._making[key]
            self._on_failed(key, failed)
        else:
            del self._making[key]
            self._on_ready(key)

    async def _make(self, key: SourceKey) -> SlotSource:
        interpreter = None
        if requirements := key[1:]:
            if self._environments is None:
                raise SuppliesFailed("this worker makes no virtual environments", cause=Cause.LAUNCH_ERROR)
            interpreter = await self._environments.interpreter(requirements)
        source = SlotSource(
            "function",
            settings=self._settings,
            events=self._events,
            environment=function_environment(os.environ),
            interpreter=interpreter,
        )
        try:
            await source.start()
        except BaseException:  # cancelled ones, too: nothing may be left behind
            await source.close()
            raise
        return source


def function_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What functions inherit of the worker's environment, beyond the base of all tasks.

    >>> function_environment({"PYTHONPATH": "/srv/lib", "AWS_SECRET": "x"})
    {'PYTHONPATH': '/srv/lib'}
    """
    return {name: own[name] for name in FUNCTION_NAMES if name in own}


def _not_started(error: Exception) -> SuppliesFailed:
    return SuppliesFailed(f"no process for functions could be started: {error}", cause=Cause.AGENT_ERROR)
