"""Blobs on their way into a coordinator and out of it, whichever door they take: the steps that are the same for all.

Bytes come and go in portions, and no disk is waited for in the event loop. A blob is named by its digest, so one
that is there already need not be sent: then what comes is not even read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO, Final, NamedTuple

from rota.store.blob_files import IncomingBlob
from rota.store.blobs import BlobStore

__all__ = ["PORTION_BYTES", "BlobPortions", "TakenBlob", "find_blob_size", "open_portions", "take_in"]

PORTION_BYTES: Final = 512 << 10
"""Read or written at once: a hop to another thread costs as much as to write 64 KiB."""


class TakenBlob(NamedTuple):
    """A blob that is there now. ``is_new`` if it has just come."""

    size: int
    is_new: bool


async def find_blob_size(blobs: BlobStore, digest: str) -> int | None:
    """Return how many bytes a blob has; ``None`` if it is not there.

    Who asks whether it is there is about to name it: it stays as if it had just been sent.
    """
    size = await asyncio.to_thread(blobs.size, digest)
    return size if size is not None and not blobs.missing([digest]) else None


async def take_in(blobs: BlobStore, digest: str, chunks: AsyncIterator[bytes]) -> TakenBlob:
    """Take in a blob, or say that it is there. What breaks off on the way leaves nothing behind.

    Raises:
        BadRequest: These are not the bytes that the digest names.
        TooLarge: There are more than one blob may have.
        StoreError: They can't be kept.
    """
    if (size := await find_blob_size(blobs, digest)) is not None:
        return TakenBlob(size, is_new=False)
    incoming = await asyncio.to_thread(blobs.begin, digest)
    try:
        await _write(incoming, chunks)
        is_new = await asyncio.to_thread(blobs.finish, incoming)
    finally:
        await asyncio.shield(asyncio.to_thread(incoming.drop))
    return TakenBlob(incoming.size, is_new)


async def _write(incoming: IncomingBlob, chunks: AsyncIterator[bytes]) -> None:
    gathered: list[bytes] = []
    size = 0
    async for chunk in chunks:
        if chunk:  # of empty ones there can be any number
            gathered.append(chunk)
            size += len(chunk)
        if size >= PORTION_BYTES:
            await asyncio.to_thread(incoming.write, gathered)
            gathered, size = [], 0
    await asyncio.to_thread(incoming.write, gathered)


async def open_portions(blobs: BlobStore, digest: str) -> tuple[BlobPortions, int] | None:
    """Open a blob: its portions, which their reader closes, and its size. ``None`` if it is not there."""
    opened = await asyncio.to_thread(blobs.open_blob, digest)
    return None if opened is None else (BlobPortions(opened[0]), opened[1])


class BlobPortions(AsyncIterator[bytes]):
    """The bytes of a file, read in another thread. No generator: one that was never begun would not close the file."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    async def __anext__(self) -> bytes:
        if self._file is None or not (portion := await asyncio.to_thread(self._file.read, PORTION_BYTES)):
            raise StopAsyncIteration
        return portion

    async def aclose(self) -> None:
        """Close the file, after a read that is under way."""
        if self._file is not None:
            await asyncio.shield(asyncio.to_thread(self._file.close))
            self._file = None
