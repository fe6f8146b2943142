"""The end of those who connect over gRPC.

`connect` opens one channel or says in one line why it can't, like its twin of WebSocket. It tries once: how long to
wait before the next try is the caller's to decide (``rota.wire.backoff``), not gRPC's. Every error of the network,
of TLS and of gRPC is translated here into a `ChannelError`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import SplitResult

import grpc
from grpc import aio

from rota.wire.channel import Channel, ChannelError, ChannelHandler
from rota.wire.grpc.connection import CLOSE_GRACE_S, StreamConnection, StreamLost
from rota.wire.grpc.frames import ACCEPTED, FRAME_BYTES_MAX, METHOD
from rota.wire.grpc.lines import LINE_OPTIONS, bearer, find_trouble, one_line, open_line, parse_target
from rota.wire.grpc.statuses import http_status, is_passing
from rota.wire.messages import Codec

__all__ = ["connect"]

CLIENT_BACKLOG_BYTES_MAX: Final = 1 << 30
"""A backstop: an agent keeps all that is unacknowledged anyway, and bounds that by itself."""

CLIENT_OPTIONS: Final = (*LINE_OPTIONS, ("grpc.max_receive_message_length", FRAME_BYTES_MAX))

_WRITE_FAILED: Final = "Internal error from Core"
"""What gRPC says of a stream that was lost while something was written, instead of why."""

In = TypeVar("In")
Out = TypeVar("Out")

Call = aio.StreamStreamCall[bytes, bytes]


async def connect(
    url: str,
    handler: ChannelHandler[In, Out],
    *,
    codec: Codec[In, Out],
    token: str | None,
    timeout_s: float,
    ca_file: Path | None = None,
) -> Channel[Out]:
    """Open a channel to the coordinator at ``url``.

    ``handler.opened`` has been called when this returns. When it raises, the handler was not opened. To trust
    anybody, as the WebSocket can be told to, is more than gRPC knows how to.

    Args:
        url: ``grpc://host[:port]``, or ``grpcs://…`` with TLS.
        handler: What becomes of the messages.
        codec: The worker's.
        token: Sent as a bearer token.
        timeout_s: For everything together: name, connection, TLS and the coordinator's answer.
        ca_file: With TLS, trusted instead of this system's authorities.

    Raises:
        ChannelError: It could not be opened; says whether another try can help.
    """
    target = parse_target(url)
    line = open_line(target, ca_file, options=CLIENT_OPTIONS)
    try:
        async with asyncio.timeout(timeout_s):
            call = await _call(line, target, token)
    except BaseException as error:
        await line.close()
        if isinstance(error, TimeoutError):
            raise ChannelError(f"no answer from {url} within {timeout_s:g} s", retryable=True) from error
        raise
    stream = _ClientStream(line, call, codec=codec, peer=target.netloc)
    stream.begin(handler)
    return stream


class _ClientStream(StreamConnection[In, Out], Generic[In, Out]):
    def __init__(self, line: aio.Channel, call: Call, *, codec: Codec[In, Out], peer: str) -> None:
        super().__init__(codec, peer=peer, backlog_bytes_max=CLIENT_BACKLOG_BYTES_MAX)
        self._line = line
        self._call = call
        self._living: asyncio.Task[None] | None = None  # asyncio itself holds a task only weakly

    def begin(self, handler: ChannelHandler[In, Out]) -> None:
        """Be a channel from now on."""
        self._open(handler)
        self._living = self._loop.create_task(self._live_and_leave())

    async def _live_and_leave(self) -> None:
        try:
            await self._live()
            await self._leave()
        finally:
            await self._line.close()
            self._living = None

    async def _leave(self) -> None:
        """Let the coordinator see a proper end, if it still listens."""
        try:
            async with asyncio.timeout(CLOSE_GRACE_S):
                await self._end_writing()
                await self._call.code()
        except (TimeoutError, StreamLost):
            self._call.cancel()

    async def _read_frame(self) -> bytes | None:
        try:
            frame: Any = await self._call.read()
        except aio.AioRpcError as error:
            said = error.details() or error.code().name
            raise StreamLost("it broke off" if said == _WRITE_FAILED else one_line(said)) from None
        return None if frame is aio.EOF else frame

    async def _write_frame(self, frame: bytes) -> None:
        try:
            await self._call.write(frame)
        except (aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise StreamLost(str(error)) from None

    async def _end_writing(self) -> None:
        try:
            await self._call.done_writing()
        except (aio.AioRpcError, aio.BaseError) as error:
            raise StreamLost(str(error)) from None


async def _call(line: aio.Channel, target: SplitResult, token: str | None) -> Call:
    """Open the stream; return it when the coordinator has accepted it."""
    call: Call = line.stream_stream(METHOD)(metadata=bearer(token))
    sign, wanted = ACCEPTED
    if (await call.initial_metadata()).get(sign) != wanted:  # then its status is there, or about to be
        code, details = await call.code(), await call.details()
        raise _explain(code, details or "", target)
    return call


def _explain(code: grpc.StatusCode, details: str, target: SplitResult) -> ChannelError:
    """Translate what gRPC, or the coordinator through it, has said instead of opening a channel."""
    if (trouble := find_trouble(code, details, target)) is not None:
        return ChannelError(trouble.sentence, retryable=trouble.retryable)
    url, said = target.geturl(), one_line(details)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ChannelError(f"{url} has no channel for workers: {said} ({code.name})", retryable=False, status=501)
    words = f"{url} refused the channel: {said} ({code.name})"
    return ChannelError(words, retryable=is_passing(code), status=http_status(code))
