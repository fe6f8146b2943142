"""A small blocking client of the REST API, for the command line.

One `HttpClient` is one coordinator; it is safe to use from several threads. Answers are
the coordinator's JSON as it came, so that fields this version does not know pass through.
Every failure is an error of `rota.core.errors`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import msgspec

from rota.client.calendars import CalendarCalls
from rota.client.files import FileCalls
from rota.client.shares import ShareCalls
from rota.client.sse import parse_events
from rota.client.transport import READ_TIMEOUT_S, Transport, next_path, retry_after_s
from rota.core.errors import NoCoordinator, Overloaded, RotaError, Unavailable

__all__ = ["HttpClient", "Json", "Query"]

Json = dict[str, Any]
"""An object of the API as it came."""

Query = Mapping[str, str | int | Sequence[str] | None]
"""Parameters of a request: ``None`` leaves one out, a sequence repeats it."""

EVENT_SILENCE_S_MAX: Final = 60.0
"""The coordinator sends a sign of life every 15 s on a stream of events: after four missed ones it is gone."""


class HttpClient:
    """One coordinator, as the command line sees it.

    Args:
        url: Base URL, such as ``http://127.0.0.1:8080``.
        token: Sent with every request, if there is one.
        ca_file: The authority to trust for ``https``, instead of the system's.
        answer_s_max: How long any answer may take, connecting included; otherwise each call has a limit of its own.

    Raises:
        BadRequest: The URL or the token can't be used.
    """

    def __init__(
        self, url: str, *, token: str | None = None, ca_file: str | None = None, answer_s_max: float | None = None
    ) -> None:
        self._transport = Transport(url, token=token, ca_file=ca_file, answer_s_max=answer_s_max)
        self.url = self._transport.url
        self.shares = ShareCalls(self._object, self._list)
        self.files = FileCalls(self._transport)
        self.calendars = CalendarCalls(self._object, self._list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._transport.close()

    # Tasks --------------------------------------------------------------------------------

    def submit(self, spec: Json) -> Json:
        """Submit one task and return it as accepted."""
        return self._object("POST", "/api/v1/tasks", body=msgspec.json.encode(spec))

    def submit_many(
        self,
        body: bytes,
        *,
        patience_s: float = 0.0,
        on_held_back: Callable[[RotaError], None] | None = None,
    ) -> list[Json]:
        """Submit an array of tasks, all or none, and return them as accepted.

        Args:
            body: The JSON array.
            patience_s: How long to try again while the coordinator is overloaded or unavailable; nothing
                of such a request was recorded, so it is sent again as it is.
            on_held_back: Told before each such wait.
        """
        give_up_at = time.monotonic() + patience_s
        while True:
            response = self._transport.send("POST", "/api/v1/tasks", body=body)
            try:
                return self._list_of(self._transport.decode(response))
            except (Overloaded, Unavailable) as error:
                remaining_s = give_up_at - time.monotonic()
                if not error.retryable or remaining_s <= 0:
                    raise
                if on_held_back is not None:
                    on_held_back(error)
                time.sleep(min(retry_after_s(response), remaining_s))

    def task(self, task_id: str) -> Json:
        """Return a task."""
        return self._object("GET", _task_path(task_id))

    def explain(self, task_id: str) -> Json:
        """Return why a task waits, or where it stands."""
        return self._object("GET", f"{_task_path(task_id)}/explain")

    def wait(self, task_id: str, *, timeout_s: float) -> Json:
        """Return the task when it has ended or the time is over."""
        path = f"{_task_path(task_id)}?wait={timeout_s:g}"
        return self._object("GET", path, read_timeout_s=timeout_s + READ_TIMEOUT_S)

    def tasks(self, query: Query) -> Iterator[list[Json]]:
        """Yield pages of tasks, newest first, until there are no more."""
        path: str | None = "/api/v1/tasks" + _query_text(query)
        while path is not None:
            response = self._transport.send("GET", path)
            yield self._list_of(self._transport.decode(response))
            path = next_path(response, path)

    def attempts(self, task_id: str) -> list[Json]:
        """Return the superseded attempts of a task, oldest first."""
        return self._list(f"{_task_path(task_id)}/attempts")

    def cancel(self, task_id: str) -> Json:
        """Cancel a task; return it as it is then."""
        return self._object("DELETE", _task_path(task_id))

    def retry(self, task_id: str) -> Json:
        """Bring a failed or cancelled task back; return it."""
        return self._object("POST", f"{_task_path(task_id)}/retry")

    def logs(self, task_id: str, query: Query, *, follow: bool = False) -> Iterator[bytes]:
        """Return the output as it comes; with ``follow`` until the task has ended.

        Raises:
            NoCoordinator: The connection broke before the end (raised while iterating, too).
        """
        path = f"{_task_path(task_id)}/logs" + _query_text({**query, "follow": 1 if follow else None})
        response = self._transport.send(
            "GET",
            path,
            read_timeout_s=None if follow else READ_TIMEOUT_S,
            headers={"Accept": "text/plain"},
            stream=True,
        )
        self._transport.raise_for_status(response)
        return self._transport.chunks(response)

    # The cluster --------------------------------------------------------------------------

    def nodes(self) -> list[Json]:
        """Return all known workers."""
        return self._list("/api/v1/nodes")

    def node(self, node_id: str) -> Json:
        """Return a worker."""
        return self._object("GET", _node_path(node_id))

    def drain(self, node_id: str) -> Json:
        """Give a worker nothing new; return it."""
        return self._object("POST", f"{_node_path(node_id)}/drain")

    def resume(self, node_id: str) -> Json:
        """Undo a drain; return the worker."""
        return self._object("POST", f"{_node_path(node_id)}/resume")

    def forget(self, node_id: str) -> Json:
        """Strike off a worker that is gone; return it as it was."""
        return self._object("DELETE", _node_path(node_id))

    def stats(self) -> Json:
        """Return the coordinator's counts."""
        return self._object("GET", "/api/v1/stats")

    def metrics(self) -> str:
        """Return what the coordinator counts about itself, as Prometheus reads it."""
        response = self._transport.send("GET", "/metrics", headers={"Accept": "text/plain"})
        self._transport.raise_for_status(response)
        return response.data.decode()

    def is_ready(self) -> bool:
        """Say whether the coordinator accepts tasks now. Raises `NoCoordinator` if nothing answers."""
        return self._transport.send("GET", "/readyz").status == 200

    def events(self, last_id: str | None = None) -> Iterator[Json]:
        """Return events from now, or from after ``last_id``, until the coordinator closes the stream.

        Raises:
            NoCoordinator: The connection broke, or there was no sign of life for a minute (raised while
                iterating, too).
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        response = self._transport.send(
            "GET", "/api/v1/events", headers=headers, read_timeout_s=EVENT_SILENCE_S_MAX, stream=True
        )
        self._transport.raise_for_status(response)
        return map(self._event, parse_events(self._transport.chunks(response)))

    # How ----------------------------------------------------------------------------------

    def _object(
        self, method: str, path: str, *, body: bytes | None = None, read_timeout_s: float = READ_TIMEOUT_S
    ) -> Json:
        response = self._transport.send(method, path, body=body, read_timeout_s=read_timeout_s)
        answer = self._transport.decode(response)
        if not isinstance(answer, dict):
            raise self._transport.foreign(response)
        return answer

    def _list(self, path: str) -> list[Json]:
        return self._list_of(self._transport.decode(self._transport.send("GET", path)))

    def _list_of(self, answer: object) -> list[Json]:
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise NoCoordinator(f"{self.url} answered, but not as a Rota coordinator does: check ROTA_URL")
        return answer

    def _event(self, data: str) -> Json:
        try:
            return msgspec.json.decode(data, type=Json)
        except msgspec.MsgspecError:
            raise NoCoordinator(f"{self.url} sent an event that is not one of Rota's") from None


def _task_path(task_id: str) -> str:
    return f"/api/v1/tasks/{quote(task_id, safe='')}"


def _node_path(node_id: str) -> str:
    return f"/api/v1/nodes/{quote(node_id, safe='')}"


def _query_text(query: Query) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return "?" + urlencode(given, doseq=True) if given else ""
