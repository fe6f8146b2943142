"""Where slots of one kind come from: a keeper, the slots that it has made, and those of them that are idle.

A slot that is lost is told of in two steps: first that it takes nothing more, then what became of it, once its last
word is read and its keeper has said whether anything of what it ran is left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from rota.worker.slots.control import KeeperControl, Program
from rota.worker.slots.link import SlotLink

__all__ = ["SlotFate", "SlotSettings", "SlotSource", "SourceEvents"]

IDLE_S_MAX: Final = 60.0
"""How long an idle slot (10 MiB of a program's, most of it shared) is kept for the next lane."""


class SlotFate(NamedTuple):
    """What became of a slot: nothing of its tree is left if ``is_empty``; ``may_have_run`` if it ever was."""

    message: str
    is_empty: bool
    may_have_run: bool


class SlotSettings:
    """What all slots of a worker are told. ``grace_s`` is of time-outs; the others never change."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        output_limit_bytes: int,
        grace_s: float,
        file_limit: int,
        scratch_limit_mib: int | None = None,
    ) -> None:
        self.environment = dict(environment)
        self.output_limit_bytes = output_limit_bytes
        self.grace_s = float(grace_s)
        self.file_limit = file_limit
        self.scratch_limit_mib = scratch_limit_mib


class SourceEvents(Protocol):
    """Who is told what slots say, and what becomes of them."""

    def on_message(self, source: SlotSource, link: SlotLink, message: tuple[object, ...]) -> None:
        """Take what a slot reports."""
        ...

    def on_slot_closed(self, link: SlotLink) -> None:
        """Hear that the slot takes nothing more."""
        ...

    def on_slot_lost(self, link: SlotLink, fate: SlotFate) -> None:
        """Hear what became of it: for all that it had and that did not end, somebody must answer."""
        ...


class SlotSource:
    """Makes slots, and keeps them while they are idle.

    Args:
        kind: What runs in the slots.
        settings: What they are told.
        events: Who hears of them.
        environment: More variables for them, beyond the base.
        interpreter: Python to run them with, if not the one that runs this.
    """

    def __init__(
        self,
        kind: Program,
        *,
        settings: SlotSettings,
        events: SourceEvents,
        environment: Mapping[str, str] | None = None,
        interpreter: str | None = None,
    ) -> None:
        self.kind = kind
        self._settings = settings
        self._environment = {**settings.environment, **(environment or {})}
        self._events = events
        self._control = KeeperControl(
            self,
            environment=self._environment,
            file_limit=settings.file_limit,
            program=kind,
            interpreter=interpreter,
        )
        self._last_number = 0
        self._links: dict[int, SlotLink] = {}
        self._idle: list[SlotLink] = []
        self._fates: dict[int, SlotFate] = {}
        self._unused_since = math.inf

    @property
    def unused_since(self) -> float:
        """When, by the monotonic clock, `trim` first found no slot here; later than any time while there are some."""
        return self._unused_since

    async def start(self) -> None:
        """Start the keeper.

        Raises:
            KeeperFailed: It can't be started: nothing could run here.
        """
        await self._control.start()

    async def close(self) -> None:
        """Let go of all slots, which kill what runs and leave, and of the keeper; wait until it has left."""
        for link in list(self._links.values()):
            link.close()
        await self._control.close()

    def take(self, devices: tuple[int, ...] = (), memory_mib: int | None = None) -> SlotLink:
        """An idle slot that served these devices and this limit before, or else a new one.

        What a warm process has on a device stays there, so it is never given another's; and what it keeps in memory
        may be more than others may have at all.

        Raises:
            OSError: None can be made now.
        """
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index].devices == devices and self._idle[index].memory_mib == memory_mib:
                return self._idle.pop(index)
        return self._make(devices, memory_mib)

    def give_back(self, link: SlotLink) -> None:
        """The slot has nothing to run: keep it for another lane, or let it leave if its keeper is gone."""
        if link.reign == self._control.reign:
            link.idle_since = time.monotonic()
            self._idle.append(link)
        else:
            link.send(("exit",))

    def trim(self) -> None:
        """Let slots go that were idle for long: those used least are at the front."""
        long_ago = time.monotonic() - IDLE_S_MAX
        while self._idle and self._idle[0].idle_since < long_ago:
            self._idle.pop(0).send(("exit",))
        self._unused_since = min(self._unused_since, time.monotonic()) if not self._links else math.inf

    def use_grace(self, grace_s: float) -> None:
        """Tell the slots that there are; the settings tell those to come."""
        for link in self._links.values():
            link.send(("grace", float(grace_s)))

    def _make(self, devices: tuple[int, ...], memory_mib: int | None) -> SlotLink:
        self._last_number += 1
        link = SlotLink(self._last_number, self._control.reign, on_message=self._on_message, on_end=self._on_end)
        link.devices, link.memory_mib = devices, memory_mib
        self._links[link.number] = link
        settings = self._settings
        link.send(("setup", settings.output_limit_bytes, settings.grace_s, self._environment))
        if self.kind == "process" and settings.scratch_limit_mib is not None:
            link.send(("scratch-limit", settings.scratch_limit_mib))
        self._control.fork(link.number, link.take_far_end())
        return link

    # What slots and keeper say -----------------------------------------------------------

    def _on_message(self, link: SlotLink, message: tuple[object, ...]) -> None:
        self._events.on_message(self, link, message)

    def _on_end(self, link: SlotLink) -> None:
        """A slot said its last word."""
        if link in self._idle:
            self._idle.remove(link)
        self._events.on_slot_closed(link)
        self._resolve(link)

    def on_slot_forked(self, number: int) -> None:
        if (link := self._links.get(number)) is not None:
            link.is_forked = True

    def on_slot_gone(self, number: int, message: str, *, is_empty: bool) -> None:
        if (link := self._links.get(number)) is not None:
            self._fates[number] = SlotFate(message, is_empty, may_have_run=True)
            self._resolve(link)

    def on_keeper_lost(self) -> None:
        """The slots finish what they have; nobody can clean up after them, so they get nothing more."""
        while self._idle:
            self._idle.pop().send(("exit",))
        for link in list(self._links.values()):
            if link.number not in self._fates:
                message = "the slot process ended after its keeper, so what it ran may still be there"
                self._fates[link.number] = SlotFate(message, not link.is_forked, may_have_run=link.is_forked)
                self._resolve(link)

    def _resolve(self, link: SlotLink) -> None:
        """Say what became of a slot, once its last word is read and its fate known."""
        if link.is_closed and link.number in self._fates:
            del self._links[link.number]
            self._events.on_slot_lost(link, self._fates.pop(link.number))
