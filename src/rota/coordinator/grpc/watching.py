"""Calls that stay open for what is still to come: how many there may be, and how they end when the process does.

One message is on its way at a time: the next event is taken from the ring, the next piece from the log, when gRPC's
flow control has let the last one go. So a client that does not read costs a place in them and nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rota.core.errors import Overloaded, Unavailable

__all__ = ["WATCHES_MAX", "OpenWatches"]

WATCHES_MAX: Final = 1000
"""Open at once, as over HTTP."""


class OpenWatches:
    """The calls of one server that go on until they are told to stop."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        """End all of them, those that are open and those to come."""
        self._is_stopping = True
        self.end_open()

    def end_open(self) -> None:
        """End all that are open. Their clients call again, and are asked for their tokens again."""
        now = asyncio.get_running_loop().time()
        for until_ended in self._open:
            until_ended.reschedule(now)

    @asynccontextmanager
    async def one_more(self) -> AsyncIterator[None]:
        """Count what is done inside as one, and break it off when all are to stop.

        Raises:
            Overloaded: There are too many already.
            Unavailable: They are to end, before it began or while it went on.
        """
        if len(self._open) >= WATCHES_MAX:
            raise Overloaded(f"{WATCHES_MAX} calls are open already: end some, or poll")
        if self._is_stopping:
            raise self._ended()
        until_ended = asyncio.timeout(None)
        try:
            async with until_ended:
                self._open.add(until_ended)
                try:
                    yield
                finally:
                    self._open.discard(until_ended)
        except TimeoutError:
            if not until_ended.expired():
                raise
            raise self._ended() from None

    def _ended(self) -> Unavailable:
        why = "the coordinator is leaving" if self._is_stopping else "a token was withdrawn"
        return Unavailable(f"{why}: call again in a moment, a watch with the id of its last event")
