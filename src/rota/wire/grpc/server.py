"""The coordinator's end: each stream of ``rota.v1.Channel`` becomes a channel.

Who may open one is the caller's to say: ``accept`` sees each wish and answers with a handler or with a `Refusal`, which
becomes the status of the stream, the same sentence as over HTTP.

A refusal is set and returned, not raised (``context.abort``): gRPC keeps what is raised on the call whose
frames it refers to, a cycle for each refusal, and the coordinator has no cyclic collector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote

import structlog
from grpc import aio

from rota.wire.channel import ChannelHandler, CloseCode
from rota.wire.grpc.connection import CHANNEL_OPTIONS, StreamConnection, StreamLost
from rota.wire.grpc.frames import ACCEPTED, METHOD, pack
from rota.wire.grpc.statuses import status_code
from rota.wire.handshake import Handshake, Refusal
from rota.wire.messages import Codec

__all__ = ["SERVER_OPTIONS", "ChannelService"]

SERVER_BACKLOG_BYTES_MAX: Final = 256 << 20
"""What one worker that does not read can cost. Sessions hold back long before, by ``backlog_bytes``."""

SERVER_OPTIONS: Final = (
    *CHANNEL_OPTIONS,
    # Those who watch over a quiet connection, as our workers do, are no attackers.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
"""What a server needs to be told at its start to serve channels, besides that a frame has up to `FRAME_BYTES_MAX`."""

log = structlog.get_logger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

Context = aio.ServicerContext[bytes, bytes]


class ChannelService(Generic[In, Out]):
    """The channels of one server: the implementation of the contract, for a server that hands it bytes as they are.

    Args:
        accept: Called once a stream, on the loop's thread; what it raises refuses with INTERNAL.
        codec: The coordinator's.
    """

    def __init__(self, accept: Callable[[Handshake], ChannelHandler[In, Out] | Refusal], codec: Codec[In, Out]) -> None:
        self._accept = accept
        self._codec = codec
        self._open: set[_ServerStream[In, Out]] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def Open(self, _: object, context: Context) -> None:  # noqa: N802 - the name of the RPC
        """Serve one stream from its beginning to its end."""
        peer = _address(context.peer())
        decision = self._decide(context, peer)
        if isinstance(decision, Refusal):
            context.set_code(status_code(decision.status))
            context.set_details(decision.message)
            context.set_trailing_metadata((("rota-code", decision.code),))
            return
        stream = _ServerStream(context, self._codec, peer=peer)
        self._open.add(stream)
        try:
            await context.send_initial_metadata((ACCEPTED,))
            await stream.serve(decision)
        finally:
            self._open.discard(stream)

    def close_all(self) -> None:
        """Close all channels because the server stops."""
        for stream in list(self._open):
            stream.close(code=CloseCode.RESTARTING, reason="the coordinator is stopping")

    def _decide(self, context: Context, peer: str) -> ChannelHandler[In, Out] | Refusal:
        headers = [(name.encode("latin-1"), _as_bytes(value)) for name, value in context.invocation_metadata() or ()]
        scheme = "grpcs" if context.auth_context().get("transport_security_type") == [b"ssl"] else "grpc"
        try:
            return self._accept(Handshake(scheme=scheme, path=METHOD, query="", headers=headers, peer=peer))
        except Exception:
            log.exception("channel_accept_failed", peer=peer)
            return Refusal(500, "error", "internal error: see the coordinator's log")


class _ServerStream(StreamConnection[In, Out], Generic[In, Out]):
    def __init__(self, context: Context, codec: Codec[In, Out], *, peer: str) -> None:
        super().__init__(codec, peer=peer, backlog_bytes_max=SERVER_BACKLOG_BYTES_MAX)
        self._context = context

    async def serve(self, handler: ChannelHandler[In, Out]) -> None:
        """Be a channel until the stream is over. With the return of this, gRPC ends it."""
        self._start_writing(pack([]))  # proxies (nginx) pass metadata on when something comes after it
        self._open(handler)
        await self._live()

    async def _read_frame(self) -> bytes | None:
        try:
            frame: Any = await self._context.read()
        except aio.BaseError as error:
            raise StreamLost(str(error)) from None
        return None if frame is aio.EOF else frame

    async def _write_frame(self, frame: bytes) -> None:
        try:
            await self._context.write(frame)
        except aio.BaseError as error:
            raise StreamLost(str(error)) from None

    async def _end_writing(self) -> None:
        """Nothing: a server ends its half by the status of the whole, when the other side has ended its own."""


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "surrogateescape")


def _address(peer: str) -> str:
    """The address of a peer as people write it, of what gRPC calls it.

    >>> _address("ipv4:127.0.0.1:8080"), _address("ipv6:%5B::1%5D:8080"), _address("unix:")
    ('127.0.0.1:8080', '[::1]:8080', 'local')
    """
    kind, _, address = peer.partition(":")
    return unquote(address) if kind in {"ipv4", "ipv6"} else "local"
