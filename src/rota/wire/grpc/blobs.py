"""The blobs of a coordinator over gRPC, for workers: the client's side of ``proto/rota/v1/blobs.proto``.

All calls share a line of their own, beside that of the channel: a large blob delays no heartbeat, and waits for none.
Each step of a call has a time limit, not the whole: who stands still is noticed, and who is slow may take long. Every
error of gRPC is translated here into a `BlobCallFailed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from rota.v1 import blobs_pb2
from rota.wire.channel import ChannelError
from rota.wire.grpc.lines import LINE_OPTIONS, bearer, find_trouble, one_line, open_line, parse_target
from rota.wire.grpc.statuses import is_passing

__all__ = ["PIECE_BYTES", "BlobCallFailed", "BlobClient"]

PIECE_BYTES: Final = 256 << 10
"""Sent at once: large enough that its costs don't count, small enough that some of them are nothing to either side."""

CONNECT_TIMEOUT_S: Final = 5.0
SILENCE_S: Final = 30.0
"""Without a step forward, as over HTTP."""

BLOB_LINE_OPTIONS: Final = (
    *LINE_OPTIONS,
    # The line is kept over failures. Who tries again after a while of its own must not be told of a former failure.
    ("grpc.min_reconnect_backoff_ms", round(CONNECT_TIMEOUT_S * 1000)),  # the library's name for a time-out
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # One that lies idle may be forgotten by what is on the way, and takes a place at the coordinator for nothing.
    ("grpc.client_idle_timeout_ms", 60_000),
)

_SERVICE: Final = f"/{blobs_pb2.DESCRIPTOR.services_by_name['Blobs'].full_name}/"

_AFTER_THE_END: Final = (aio.AioRpcError, asyncio.InvalidStateError)
"""What writing to a call raises that has ended: by an answer that came before all was sent, or by a cut."""

M = TypeVar("M", bound=Message)
T = TypeVar("T")


class BlobCallFailed(Exception):
    """A call has not done what it should; ``retryable`` if another try can, ``is_missing`` if there is no such blob."""

    def __init__(self, message: str, *, retryable: bool, is_missing: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.is_missing = is_missing


class BlobClient:
    """The blobs of one coordinator. To be used in one event loop.

    Args:
        url: ``grpc://host[:port]``, or ``grpcs://…`` with TLS.
        token: What the coordinator asks for, or ``None``.
        ca_file: With TLS, trusted instead of this system's authorities.
        silence_s: After which without a step forward a call is given up.
    """

    def __init__(self, url: str, *, token: str | None, ca_file: Path | None, silence_s: float = SILENCE_S) -> None:
        self._url = url
        self._metadata = bearer(token)
        self._ca_file = ca_file
        self._silence_s = silence_s
        self._line: aio.Channel | None = None
        self._is_closed = False

    async def has(self, digest: str) -> bool:
        """Say whether the coordinator has a blob. Raises `BlobCallFailed`."""
        make: Any = self._open_line().unary_unary(f"{_SERVICE}StatBlob")
        request = blobs_pb2.StatBlobRequest(digest=digest).SerializeToString()
        try:
            await self._step(make(request, metadata=self._metadata))
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise self._failed("StatBlob", digest, error) from error
        return True

    async def get(self, digest: str) -> AsyncGenerator[bytes, None]:
        """Yield a blob, in pieces that nobody has checked. Raises `BlobCallFailed`; close it where it is left early."""
        make: Any = self._open_line().unary_stream(f"{_SERVICE}GetBlob")
        call = make(blobs_pb2.GetBlobRequest(digest=digest).SerializeToString(), metadata=self._metadata)
        try:
            while (piece := await self._step(call.read())) is not aio.EOF:
                yield _decoded(blobs_pb2.GetBlobResponse, piece).data
        except aio.AioRpcError as error:
            raise self._failed("GetBlob", digest, error) from error
        finally:
            call.cancel()

    async def put(self, digest: str, size: int, *, pieces: AsyncIterator[bytes]) -> None:
        """Bring a blob of so many bytes; return when the coordinator has checked it. Raises `BlobCallFailed`.

        What the coordinator says before it has all of it is heard at the end: by then writing has failed, in words
        that don't tell why.
        """
        make: Any = self._open_line().stream_unary(f"{_SERVICE}PutBlob")
        call = make(metadata=self._metadata)
        try:
            with suppress(*_AFTER_THE_END):
                await self._write(call, blobs_pb2.PutBlobRequest(digest=digest, size=size))
                async for piece in pieces:
                    await self._write(call, blobs_pb2.PutBlobRequest(data=piece))
                await self._step(call.done_writing())
            await self._step(call)
        except aio.AioRpcError as error:
            raise self._failed("PutBlob", digest, error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Let go of the line, for good. Calls that are under way fail."""
        self._is_closed = True
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    def _open_line(self) -> aio.Channel:
        if self._is_closed:
            raise self._left()
        if self._line is None:
            try:
                self._line = open_line(parse_target(self._url), self._ca_file, options=BLOB_LINE_OPTIONS)
            except ChannelError as error:
                raise BlobCallFailed(str(error), retryable=error.retryable) from error
        return self._line

    async def _write(self, call: Any, request: blobs_pb2.PutBlobRequest) -> None:
        await self._step(call.write(request.SerializeToString()))

    async def _step(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._silence_s):
                return await step
        except TimeoutError as error:
            raise BlobCallFailed(f"{self._url} stands still for {self._silence_s:g} s", retryable=True) from error
        except asyncio.CancelledError:
            here = asyncio.current_task()
            if here is None or here.cancelling():
                raise
            # Not who waits is cancelled but the call, by `close`: taken for the former, it would never be tried again.
            raise self._left() from None

    def _left(self) -> BlobCallFailed:
        return BlobCallFailed(f"the line to {self._url} was closed from this side", retryable=True)

    def _failed(self, name: str, digest: str, error: aio.AioRpcError) -> BlobCallFailed:
        code, details = error.code(), error.details() or ""
        if (trouble := find_trouble(code, details, parse_target(self._url))) is not None:
            return BlobCallFailed(trouble.sentence, retryable=trouble.retryable)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return BlobCallFailed(
                f"{self._url} has no {_SERVICE.strip('/')}, which brings functions, files and large values: update the "
                "coordinator if it is older than this worker, or let the proxy before it pass the service on",
                retryable=False,
            )
        return BlobCallFailed(
            f"{name} of blob {digest} was answered with {code.name}: {one_line(details)}",
            retryable=is_passing(code),
            is_missing=code is grpc.StatusCode.NOT_FOUND,
        )


def _decoded(message: type[M], data: bytes) -> M:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise BlobCallFailed(f"{len(data):,} bytes came that are no {message.__name__}", retryable=True) from error
