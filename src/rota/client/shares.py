"""Queues and limits of one coordinator, for the command line: the part of `rota.client.http` that sets things."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import quote

import msgspec

__all__ = ["ShareCalls"]

Json = dict[str, Any]


class _AskObject(Protocol):
    def __call__(self, method: str, path: str, *, body: bytes | None = None) -> Json: ...


class _AskList(Protocol):
    def __call__(self, path: str) -> list[Json]: ...


class ShareCalls:
    """Asks for queues and limits, and sets them.

    Args:
        ask_object: Sends a request that is answered by one object.
        ask_list: Sends a GET that is answered by an array of objects.
    """

    def __init__(self, ask_object: _AskObject, ask_list: _AskList) -> None:
        self._ask_object = ask_object
        self._ask_list = ask_list

    def queues(self) -> list[Json]:
        """Return all queues."""
        return self._ask_list("/api/v1/queues")

    def set_queue(self, name: str, settings: Json) -> Json:
        """Set a queue; return it."""
        return self._ask_object("PUT", _named("queues", name), body=msgspec.json.encode(settings))

    def pause_queue(self, name: str) -> Json:
        """Start nothing more of a queue that there is; return it."""
        return self._ask_object("POST", _named("queues", name) + "/pause")

    def resume_queue(self, name: str) -> Json:
        """Undo a pause; return the queue."""
        return self._ask_object("POST", _named("queues", name) + "/resume")

    def forget_queue(self, name: str) -> Json:
        """Give a queue the defaults again; return it."""
        return self._ask_object("DELETE", _named("queues", name))

    def limits(self) -> list[Json]:
        """Return all limits."""
        return self._ask_list("/api/v1/limits")

    def set_limit(self, name: str, size: int) -> Json:
        """Say how much there is of a limit; return it."""
        return self._ask_object("PUT", _named("limits", name), body=msgspec.json.encode({"size": size}))

    def remove_limit(self, name: str) -> Json:
        """Remove a limit; return it as it was."""
        return self._ask_object("DELETE", _named("limits", name))

    def reservations(self) -> list[Json]:
        """Return the reservations that are not over."""
        return self._ask_list("/api/v1/reservations")

    def reserve(self, reservation: Json) -> Json:
        """Reserve; return the reservation."""
        return self._ask_object("POST", "/api/v1/reservations", body=msgspec.json.encode(reservation))

    def end_reservation(self, name: str) -> Json:
        """End a reservation; return it as it was."""
        return self._ask_object("DELETE", _named("reservations", name))


def _named(kind: str, name: str) -> str:
    return f"/api/v1/{kind}/{quote(name, safe='')}"
