"""Handlers of blobs: their bytes come and go in portions, and none waits for a disk in the event loop.

A blob is named by its digest, so it can be kept for ever by whoever has read it, and one that is there already
need not be sent: then the body is not even read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from msgspec import Struct

from rota.coordinator.http.answers import BINARY_TYPE, Answer, Header, Stream, json_answer
from rota.coordinator.http.body import read_portions
from rota.coordinator.http.endpoint import Call
from rota.core.errors import BadRequest, NotFound, TooLarge
from rota.store.blob_files import BLOB_BYTES_MAX, check_digest

__all__ = ["BLOBS_PATH", "BlobJson", "find_blob", "get_blob", "put_blob"]

BLOBS_PATH: Final = "/api/v1/blobs"

PORTION_BYTES: Final = 512 << 10
"""Read or written at once: a hop to another thread costs as much as to write 64 KiB."""

_KEEP: Final[Header] = (b"cache-control", b"private, max-age=31536000, immutable")


class BlobJson(Struct, frozen=True):
    """A blob that is there: the SHA-256 of its bytes, and how many."""

    digest: str
    bytes: int


async def get_blob(call: Call) -> Answer | Stream:
    """Send a blob."""
    digest = check_digest(call.path_values["digest"])
    found = await find_blob(call, digest, (BINARY_TYPE, (b"etag", f'"{digest}"'.encode()), _KEEP))
    if found is None:
        raise NotFound(f"there is no blob {digest}: it was never put here, or retention has removed it")
    return found


async def put_blob(call: Call) -> Answer:
    """Take in a blob, or say that it is there."""
    digest = check_digest(call.path_values["digest"])
    _check_announced(call.find_header(b"content-length"))
    size = await asyncio.to_thread(call.blobs.size, digest)
    if size is not None and not call.blobs.missing([digest]):
        return _stands(200, digest, size)
    incoming = await asyncio.to_thread(call.blobs.begin, digest)
    try:
        async for portion in read_portions(call.receive, PORTION_BYTES):
            await asyncio.to_thread(incoming.write, portion)
        is_new = await asyncio.to_thread(call.blobs.finish, incoming)
    finally:
        await asyncio.shield(asyncio.to_thread(incoming.drop))
    return _stands(201 if is_new else 200, digest, incoming.size)


async def find_blob(call: Call, digest: str, headers: tuple[Header, ...]) -> Answer | Stream | None:
    """What sends a blob, a small one whole, to a request for it or for its size; ``None`` if it is not there."""
    if call.scope["method"] == "HEAD":
        size = await asyncio.to_thread(call.blobs.size, digest)
        # Who asks whether it is there is about to name it: it stays as if it had just been sent.
        is_there = size is not None and not call.blobs.missing([digest])
        return Stream(_Portions(None), headers, length=size) if is_there else None
    call.streams.check_room()
    opened = await asyncio.to_thread(call.blobs.open_blob, digest)
    if opened is None:
        return None
    file, size = opened
    portions = _Portions(file)
    if size > PORTION_BYTES:
        return Stream(portions, headers, length=size)
    try:
        return Answer(200, b"".join([portion async for portion in portions]), headers)
    finally:
        await portions.aclose()


def _check_announced(length: str | None) -> None:
    if length is None:
        return
    if not (length.isascii() and length.isdigit()):
        raise BadRequest("Content-Length is not a number")
    if len(length) > 18 or int(length) > BLOB_BYTES_MAX:
        raise TooLarge(
            f"a blob has at most {BLOB_BYTES_MAX:,} bytes: put more into a file that the tasks read themselves"
        )


def _stands(status: int, digest: str, size: int) -> Answer:
    return json_answer(status, BlobJson(digest, size), headers=((b"location", f"{BLOBS_PATH}/{digest}".encode()),))


class _Portions(AsyncIterator[bytes]):
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
