"""Holds the ends of attempts back until the coordinator has the blobs that they name.

An end on the record whose value nobody can read would be a lie. So a large result, or a file that was left, is handed
over first, for as long as that takes: the coordinator may be away. Meanwhile its attempt counts as running, and can be
stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from rota.core.model import AttemptKey, Cause
from rota.core.protocol import Ended
from rota.worker.slots.base import Blobs, SuppliesFailed

__all__ = ["Handover"]

log = structlog.get_logger(__name__)


class _Held(NamedTuple):
    end: Ended
    sending: asyncio.Task[None]


class Handover:
    """The ends that are held back.

    Args:
        blobs: Takes the blobs to the coordinator.
        on_end: Told each end once nothing holds it back any more.
    """

    def __init__(self, blobs: Blobs, on_end: Callable[[Ended], None]) -> None:
        self._blobs = blobs
        self._on_end = on_end
        self._held: dict[AttemptKey, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: AttemptKey) -> bool:
        return key in self._held

    def takes(self, end: Ended) -> bool:
        """Hold an end back if that is needed; say whether it is."""
        if not self._blobs.must_upload(end.digests):
            return False
        key = end.task, end.attempt
        self._held[key] = _Held(end, asyncio.create_task(self._send(key, end)))
        return True

    def stop(self, key: AttemptKey, cause: Cause) -> None:
        """Give a result up: whoever stops the attempt has no use for it."""
        held = self._held.pop(key)
        held.sending.cancel()
        self._on_end(replace(held.end, cause=cause, value=b"", blobs=(), outputs=()))

    def blobs_in_use(self) -> Iterable[str]:
        """The digests of what is on its way."""
        return (digest for held in self._held.values() for digest in held.end.digests)

    async def close(self) -> None:
        """Send nothing more; nothing is told of what is given up."""
        for held in self._held.values():
            held.sending.cancel()
        await asyncio.gather(*(held.sending for held in self._held.values()), return_exceptions=True)
        self._held.clear()

    async def _send(self, key: AttemptKey, end: Ended) -> None:
        try:
            for digest in end.digests:
                await self._blobs.upload(digest)
        except Exception as error:
            if not isinstance(error, SuppliesFailed):
                log.exception("upload_failed")
            what = "outputs" if end.outputs else "result"
            message = f"its {what} could not be handed over: {error}"
            # One that has failed anyway has failed for that reason: its outputs were what could be had of it.
            cause = end.cause or Cause.AGENT_ERROR
            end = replace(end, cause=cause, message=_joined(end.message, message), value=b"", blobs=(), outputs=())
        del self._held[key]
        self._on_end(end)


def _joined(message: str | None, more: str) -> str:
    return f"{message}; {more}" if message else more
