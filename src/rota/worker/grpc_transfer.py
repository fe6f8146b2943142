"""Carries blobs between this machine and the coordinator over gRPC: files to streams, and streams to files.

The network is waited for in the event loop, the disk in threads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

from rota.wire.grpc.blobs import PIECE_BYTES, BlobCallFailed, BlobClient
from rota.worker.transfer import ArrivingBlob, TransferFailed, TransferRefused

__all__ = ["GrpcTransfer"]


class GrpcTransfer:
    """The blobs of one coordinator, whose ``client`` is for this alone."""

    def __init__(self, client: BlobClient) -> None:
        self._client = client

    async def download(self, digest: str, path: Path) -> int:
        with _translated(), await asyncio.to_thread(ArrivingBlob, digest, path) as blob:
            async with aclosing(self._client.get(digest)) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(blob.write, piece)
            return await asyncio.to_thread(blob.finish)

    async def upload(self, digest: str, path: Path) -> None:
        with _translated():
            if await self._client.has(digest):
                return
            with await asyncio.to_thread(path.open, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                await self._client.put(digest, size, pieces=_pieces(file))

    async def close(self) -> None:
        """Close the connection. What is under way is broken off."""
        await self._client.close()


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BlobCallFailed as failed:
        if failed.retryable:
            raise TransferFailed(str(failed)) from failed
        raise TransferRefused(str(failed), is_gone=failed.is_missing) from failed
