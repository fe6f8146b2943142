"""The service `rota.v1.Blobs`: what `rota.coordinator.blob_traffic` does with blobs, as calls.

One portion is on its way at a time: the next is read from the disk when gRPC's flow control has let the last one go,
and the next message is taken when the last one has been written. Calls that run when the process leaves may come to
their end within the server's grace: they have one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from rota.coordinator.blob_traffic import find_blob_size, open_portions, take_in
from rota.coordinator.grpc.errors import CallContext
from rota.core.errors import BadRequest, Overloaded
from rota.store.blob_files import check_blob_size, check_digest, no_blob
from rota.store.blobs import BlobStore
from rota.v1 import blobs_pb2

__all__ = ["BLOB_CALLS_MAX", "BlobsService"]

BLOB_CALLS_MAX: Final = 1000
"""Open at once, as over HTTP. Each holds a file, and a portion or two."""


class BlobsService:
    """Implements the contract ``proto/rota/v1/blobs.proto``."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._open = 0

    async def StatBlob(  # noqa: N802 - the name of the RPC
        self, request: blobs_pb2.StatBlobRequest, _context: CallContext
    ) -> blobs_pb2.StatBlobResponse:
        digest = check_digest(request.digest)
        size = await find_blob_size(self._blobs, digest)
        if size is None:
            raise no_blob(digest)
        return blobs_pb2.StatBlobResponse(size=size)

    async def GetBlob(  # noqa: N802 - the name of the RPC
        self, request: blobs_pb2.GetBlobRequest, context: CallContext
    ) -> None:
        digest = check_digest(request.digest)
        with self._one_more():
            opened = await open_portions(self._blobs, digest)
            if opened is None:
                raise no_blob(digest)
            portions, size = opened
            try:
                async for portion in portions:
                    await context.write(blobs_pb2.GetBlobResponse(size=size, data=portion))
            finally:
                await portions.aclose()

    async def PutBlob(  # noqa: N802 - the name of the RPC
        self, requests: AsyncIterator[blobs_pb2.PutBlobRequest], _context: CallContext
    ) -> blobs_pb2.PutBlobResponse:
        with self._one_more():
            first = await anext(requests, None)
            if first is None:
                raise BadRequest("there is no message: the first one names the blob")
            digest = check_digest(first.digest)
            check_blob_size(first.size)
            taken = await take_in(self._blobs, digest, _chunks(first, requests))
            return blobs_pb2.PutBlobResponse(size=taken.size, is_new=taken.is_new)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._open >= BLOB_CALLS_MAX:
            raise Overloaded(f"{BLOB_CALLS_MAX:,} blobs are on their way already: again in a moment")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


async def _chunks(
    first: blobs_pb2.PutBlobRequest, others: AsyncIterator[blobs_pb2.PutBlobRequest]
) -> AsyncIterator[bytes]:
    yield first.data
    async for request in others:
        if request.digest not in ("", first.digest):
            raise BadRequest(f"a call puts one blob, {first.digest}: put {request.digest[:80]!r} with another")
        yield request.data
