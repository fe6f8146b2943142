"""From an ASGI request to its endpoint and back: the same few steps for every route.

Refuse what is not well-formed, read parameters and body, call the handler, send what it gave,
count. Handlers raise; here, and nowhere else, errors become responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
from starlette.types import Receive, Scope, Send

from rota.coordinator.advice import AdviceDesk
from rota.coordinator.http.answers import Answer, Stream, send_answer
from rota.coordinator.http.body import ClientGone, read_body
from rota.coordinator.http.endpoint import Call, Endpoint
from rota.coordinator.http.errors import allowed_only, error_answer, internal_error
from rota.coordinator.http.query import QueryReader, check_path
from rota.coordinator.http.streams import Streams
from rota.coordinator.metrics import Counters
from rota.coordinator.service import Service
from rota.core.errors import RotaError
from rota.store.blobs import BlobStore

__all__ = ["NO_VALUES", "Edge", "MethodsOfPath", "ServedEndpoint"]

NO_VALUES: Final[Mapping[str, str]] = {}
"""The values in a path that has none."""

log = structlog.get_logger(__name__)


class Edge:
    """What all routes of one server share."""

    __slots__ = ("advice", "blobs", "counters", "service", "streams")

    def __init__(self, service: Service, counters: Counters, *, blobs: BlobStore, advice: AdviceDesk) -> None:
        self.service = service
        self.advice = advice
        self.blobs = blobs
        self.counters = counters
        self.streams = Streams()


class ServedEndpoint:
    """One endpoint of one server."""

    __slots__ = ("_body_bytes_max", "_edge", "_has_body", "_reader", "endpoint")

    def __init__(self, endpoint: Endpoint, edge: Edge) -> None:
        self.endpoint = endpoint
        self._edge = edge
        self._has_body = endpoint.body is not None and endpoint.body.content is not None
        self._body_bytes_max = endpoint.body.bytes_max if endpoint.body is not None else 0
        self._reader = QueryReader(endpoint.query)

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, path_values: Mapping[str, str]) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive, path_values)
        except ClientGone:
            return
        except RotaError as error:
            answer = error_answer(error)
        except Exception:  # the border: whatever it is, the client gets an answer, the log the rest
            log.exception("request_failed", method=scope["method"], route=self.endpoint.path)
            answer = internal_error()
        endpoint = self.endpoint
        if isinstance(answer, Answer):
            self._edge.counters.count_request(endpoint.path, endpoint.method, answer.status)
            await send_answer(answer, scope, send)
        else:
            self._edge.counters.count_request(endpoint.path, endpoint.method, 200)
            await self._edge.streams.send(answer, scope, receive=receive, send=send)

    async def _answer(self, scope: Scope, receive: Receive, path_values: Mapping[str, str]) -> Answer | Stream:
        check_path(scope["raw_path"])
        call = Call(
            service=self._edge.service,
            advice=self._edge.advice,
            blobs=self._edge.blobs,
            streams=self._edge.streams,
            path_values=path_values,
            query=self._reader.read(scope["query_string"]),
            body=await read_body(scope, receive, bytes_max=self._body_bytes_max) if self._has_body else b"",
            scope=scope,
            receive=receive,
        )
        return await self.endpoint.handler(call)


class MethodsOfPath:
    """The endpoints of one path, as the ASGI application that Starlette's router finds."""

    def __init__(self, endpoints: list[ServedEndpoint], counters: Counters) -> None:
        self._counters = counters
        self._by_method = {served.endpoint.method: served for served in endpoints}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self._path = endpoints[0].endpoint.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the endpoint of the method, or say which methods there are."""
        served = self._by_method.get(scope["method"])
        if served is not None:
            await served.serve(scope, receive, send, path_values=scope["path_params"])
            return
        answer = allowed_only(self._by_method, path=scope["path"], method=scope["method"])
        self._counters.count_request(self._path, "other", answer.status)
        await send_answer(answer, scope, send)
