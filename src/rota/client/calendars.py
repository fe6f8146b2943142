"""Calendars of one coordinator, for the command line: the part of `rota.client.http` that says what runs when."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import quote

import msgspec

__all__ = ["CalendarCalls"]

Json = dict[str, Any]

PATH = "/api/v1/calendars"


class _AskOne(Protocol):
    def __call__(self, method: str, path: str, *, body: bytes | None = None) -> Json: ...


class _AskMany(Protocol):
    def __call__(self, path: str) -> list[Json]: ...


class CalendarCalls:
    """Asks for calendars, and sets them.

    Args:
        ask_object: Sends a request that is answered by one object.
        ask_list: Sends a GET that is answered by an array of objects.
    """

    def __init__(self, ask_object: _AskOne, ask_list: _AskMany) -> None:
        self._ask_object = ask_object
        self._ask_list = ask_list

    def all(self) -> list[Json]:
        """Return all calendars."""
        return self._ask_list(PATH)

    def get(self, name: str) -> Json:
        """Return one."""
        return self._ask_object("GET", _path(name))

    def add(self, calendar: Json) -> Json:
        """Add one; return it."""
        return self._ask_object("POST", PATH, body=msgspec.json.encode(calendar))

    def put(self, name: str, calendar: Json) -> Json:
        """Add one, or have it say something else; return it."""
        return self._ask_object("PUT", _path(name), body=msgspec.json.encode(calendar))

    def remove(self, name: str) -> Json:
        """Remove one; return it as it was."""
        return self._ask_object("DELETE", _path(name))

    def pause(self, name: str) -> Json:
        """Let one make nothing; return it."""
        return self._ask_object("POST", f"{_path(name)}/pause")

    def resume(self, name: str) -> Json:
        """Let one go on; return it."""
        return self._ask_object("POST", f"{_path(name)}/resume")

    def run(self, name: str) -> Json:
        """Make a task of one now; return the task."""
        return self._ask_object("POST", f"{_path(name)}/run")

    def history(self, name: str) -> list[Json]:
        """Return what became of its latest fire times, the latest first."""
        return self._ask_list(f"{_path(name)}/history")


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"
