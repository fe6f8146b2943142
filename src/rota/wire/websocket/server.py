"""The coordinator's end: takes a connection over from uvicorn at the HTTP upgrade.

Given to uvicorn as ``ws=``, so that channel messages share the HTTP port but don't pass ASGI's queues.
Uvicorn knows such a connection by three things: it stands in ``server_state.connections`` as long as it
lives, has a ``shutdown`` method, and leaves when that is called.

Only `CHANNEL_PATH` is a channel. Who may open one is the caller's to say: ``accept`` sees each handshake and
answers with a handler or with a `Refusal`, which becomes an HTTP error like those of REST.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Generic, TypeVar, cast

import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from rota.wire.channel import CHANNEL_PATH, ChannelHandler, CloseCode
from rota.wire.handshake import Handshake, Refusal
from rota.wire.messages import LARGE_BYTES_MAX, Codec
from rota.wire.websocket.connection import LIBRARY_LOG, Connection

__all__ = ["channel_protocol"]

SERVER_BACKLOG_BYTES_MAX: Final = 256 << 20
"""What one worker that does not read can cost. Sessions hold back long before, by ``backlog_bytes``."""

log = structlog.get_logger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")


def channel_protocol(
    accept: Callable[[Handshake], ChannelHandler[In, Out] | Refusal], codec: Codec[In, Out]
) -> type[asyncio.Protocol]:
    """Make the class that uvicorn starts for each upgrade, for ``uvicorn.Config(ws=...)``.

    Args:
        accept: Called once a handshake, on the loop's thread; what it raises refuses with 500.
        codec: The coordinator's.
    """

    class ChannelProtocol(_ServerConnection[In, Out]):
        def __init__(self, *, server_state: ServerState, **_rest_of_uvicorn: object) -> None:
            super().__init__(accept, codec, server_state=server_state)

    return ChannelProtocol


class _ServerConnection(Connection[In, Out], Generic[In, Out]):
    def __init__(
        self,
        accept: Callable[[Handshake], ChannelHandler[In, Out] | Refusal],
        codec: Codec[In, Out],
        *,
        server_state: ServerState,
    ) -> None:
        self._rules = ServerProtocol(max_size=LARGE_BYTES_MAX, logger=LIBRARY_LOG)
        super().__init__(self._rules, codec, backlog_bytes_max=SERVER_BACKLOG_BYTES_MAX)
        self._accept = accept
        self._siblings = cast("set[object]", server_state.connections)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._siblings.add(self)
        _let_go_of_http(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._siblings.discard(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close because the server stops: uvicorn waits until the connection is gone."""
        self.close(code=CloseCode.RESTARTING, reason="the coordinator is stopping")

    def _greeted(self, greeting: Request | Response) -> None:
        assert isinstance(greeting, Request)
        response = self._rules.accept(greeting)
        decision = self._decide(greeting) if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS else None
        if isinstance(decision, Refusal):
            response = _refused(decision)
        self._rules.send_response(response)
        self._write()
        if decision is not None and not isinstance(decision, Refusal):
            self._open(decision)

    def _decide(self, request: Request) -> ChannelHandler[In, Out] | Refusal:
        path, _, query = request.path.partition("?")
        if path != CHANNEL_PATH:
            return Refusal(HTTPStatus.NOT_FOUND, "not_found", f"there is no channel here, only at {CHANNEL_PATH}")
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1", "surrogateescape"))
            for name, value in request.headers.raw_items()
        ]
        scheme = "ws" if self._transport.get_extra_info("sslcontext") is None else "wss"
        try:
            return self._accept(Handshake(scheme=scheme, path=path, query=query, headers=headers, peer=self.peer))
        except Exception:
            log.exception("channel_accept_failed", peer=self.peer)
            return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "error", "internal error: see the coordinator's log")


def _let_go_of_http(transport: asyncio.BaseTransport) -> None:
    """Part uvicorn's HTTP side of this connection from its parser, as uvicorn does when a connection is lost.

    It doesn't when it hands one over: each channel would leave a cycle, and the coordinator has no cyclic collector.
    """
    http = cast(asyncio.Transport, transport).get_protocol()
    if isinstance(http, HttpToolsProtocol):
        http.parser = None  # type: ignore[assignment]  # so does uvicorn


def _refused(refusal: Refusal) -> Response:
    """An HTTP error with the body that REST gives its errors."""
    body = msgspec.json.encode({"error": refusal.message, "code": refusal.code, "details": None})
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    status = HTTPStatus(refusal.status)
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(status.value, status.phrase, headers, body)
