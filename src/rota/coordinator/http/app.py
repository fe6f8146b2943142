"""The HTTP edge as one ASGI application: guard, then the hot routes, then Starlette's router.

Submitting and showing a task, and asking for a worker, are what clients do ten thousand times a second; they are
found by a look-up instead of a walk through all routes. Handler, checks and errors are the same for all.
"""

from __future__ import annotations

from typing import Final

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from rota.coordinator.advice import AdviceDesk
from rota.coordinator.http.advice_routes import SCHEDULE_TASK, TAKE_HEARTBEAT
from rota.coordinator.http.answers import send_answer
from rota.coordinator.http.dispatch import NO_VALUES, Edge, MethodsOfPath, ServedEndpoint
from rota.coordinator.http.errors import error_answer, upgrade_required
from rota.coordinator.http.guard import Guard, GuardConfig
from rota.coordinator.http.query import check_path
from rota.coordinator.http.routes import ENDPOINTS, GET_TASK, SUBMIT_TASKS
from rota.coordinator.http.tasks import TASKS_PATH
from rota.coordinator.metrics import Counters
from rota.coordinator.service import Service
from rota.core.config import SchedulerConfig
from rota.core.errors import NotFound, RotaError
from rota.store.blobs import BlobStore
from rota.wire.channel import CHANNEL_PATH

__all__ = ["HttpApp", "build_app"]

_TASK_PREFIX: Final = TASKS_PATH + "/"


class HttpApp:
    """The application. `stop_streams` lets a server stop that waits for its connections to end."""

    __slots__ = ("_edge", "_get_task", "_guard", "_hot_posts", "_router")

    def __init__(self, edge: Edge, guard: Guard) -> None:
        self._edge = edge
        self._guard = guard
        served = {id(endpoint): ServedEndpoint(endpoint, edge) for endpoint in ENDPOINTS}
        self._hot_posts = {post.path: served[id(post)] for post in (SUBMIT_TASKS, SCHEDULE_TASK, TAKE_HEARTBEAT)}
        self._get_task = served[id(GET_TASK)]
        self._router = _router(list(served.values()), edge)

    @property
    def open_streams(self) -> int:
        """How many logs and event streams are being followed."""
        return self._edge.streams.open

    def stop_streams(self) -> None:
        """End all followed logs and event streams, properly; for when the server is about to stop."""
        self._edge.streams.stop()

    def end_streams(self) -> None:
        """End all followed logs and event streams that are open, properly; more may follow."""
        self._edge.streams.end_open()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        path: str = scope["path"]
        try:
            self._guard.check(scope["headers"], path=path, scheme=scope["scheme"])
        except RotaError as error:
            await self._refuse(error, scope, send)
            return
        method = scope["method"]
        if method == "POST" and (hot := self._hot_posts.get(path)) is not None:
            await hot.serve(scope, receive, send, path_values=NO_VALUES)
        elif method == "GET" and path.startswith(_TASK_PREFIX) and path.find("/", len(_TASK_PREFIX)) < 0:
            values = {"id": path[len(_TASK_PREFIX) :]}
            await self._get_task.serve(scope, receive, send, path_values=values)
        else:
            await self._router(scope, receive, send)

    async def _refuse(self, error: RotaError, scope: Scope, send: Send) -> None:
        answer = error_answer(error)
        self._edge.counters.count_request("refused", "any", answer.status)
        await send_answer(answer, scope, send)


def build_app(
    service: Service,
    *,
    guard: GuardConfig | Guard,
    counters: Counters,
    blobs: BlobStore,
    advice: AdviceDesk | None = None,
) -> HttpApp:
    """Make the HTTP edge of a coordinator.

    Args:
        service: What the handlers call.
        guard: Who may speak to it; or the guard itself, if others ask it, too.
        counters: Where requests are counted.
        blobs: What they are put into and read from.
        advice: Who places tasks on workers of others; one of its own if not given.
    """
    desk = advice if advice is not None else AdviceDesk(SchedulerConfig())
    return HttpApp(
        Edge(service, counters, blobs=blobs, advice=desk), guard if isinstance(guard, Guard) else Guard(guard)
    )


def _router(served: list[ServedEndpoint], edge: Edge) -> Router:
    by_path: dict[str, list[ServedEndpoint]] = {}
    for one in served:
        by_path.setdefault(one.endpoint.path, []).append(one)
    # One route a path, not one a method: so a wrong method is told of all the right ones.
    routes = [Route(path, MethodsOfPath(of_path, edge.counters)) for path, of_path in by_path.items()]
    return Router(routes, redirect_slashes=False, default=_not_found(edge))


def _not_found(edge: Edge) -> ASGIApp:
    async def answer_not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - it is ASGI
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        try:
            check_path(scope["raw_path"])
            error: RotaError = NotFound(f"there is nothing at {scope['path']}: see /docs")
        except RotaError as bad_path:
            error = bad_path
        answer = error_answer(error) if scope["path"] != CHANNEL_PATH else upgrade_required(CHANNEL_PATH)
        edge.counters.count_request("unmatched", "any", answer.status)
        await send_answer(answer, scope, send)

    return answer_not_found
