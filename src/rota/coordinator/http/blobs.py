"""Handlers of blobs: what `rota.coordinator.blob_traffic` does with them, as requests and answers.

A blob never changes, so it can be kept for ever by whoever has read it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from rota.coordinator.blob_traffic import PORTION_BYTES, BlobPortions, find_blob_size, open_portions, take_in
from rota.coordinator.http.answers import BINARY_TYPE, Answer, Header, Stream, json_answer
from rota.coordinator.http.body import read_chunks
from rota.coordinator.http.endpoint import Call
from rota.core.errors import BadRequest
from rota.store.blob_files import check_blob_size, check_digest, no_blob

__all__ = ["BLOBS_PATH", "BlobJson", "find_blob", "get_blob", "put_blob"]

BLOBS_PATH: Final = "/api/v1/blobs"

LENGTH_DIGITS_MAX: Final = 18
"""Of a Content-Length: more is too large, whatever it says."""

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
        raise no_blob(digest)
    return found


async def put_blob(call: Call) -> Answer:
    """Take in a blob, or say that it is there."""
    digest = check_digest(call.path_values["digest"])
    _check_announced(call.find_header(b"content-length"))
    taken = await take_in(call.blobs, digest, read_chunks(call.receive))
    where = (b"location", f"{BLOBS_PATH}/{digest}".encode())
    return json_answer(201 if taken.is_new else 200, BlobJson(digest, taken.size), headers=(where,))


async def find_blob(call: Call, digest: str, headers: tuple[Header, ...]) -> Answer | Stream | None:
    """What sends a blob, a small one whole, to a request for it or for its size; ``None`` if it is not there."""
    if call.scope["method"] == "HEAD":
        found = await find_blob_size(call.blobs, digest)
        return Stream(BlobPortions(None), headers, length=found) if found is not None else None
    call.streams.check_room()
    opened = await open_portions(call.blobs, digest)
    if opened is None:
        return None
    portions, size = opened
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
    check_blob_size(int(length[: LENGTH_DIGITS_MAX + 1]))
