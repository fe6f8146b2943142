"""Calendars as the command line reads them from answers, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from rota.cli.text import ago, amount, command_line, duration, from_now, shortened

__all__ = ["ShownCalendar", "ShownCalendarTask", "ShownFire", "terms_of"]

LINE_CHARS: Final = 60
"""Of a shell line or a callable, in a list."""

TOLD_AS_RUNS: Final = frozenset({"command", "shell", "code", "data", "image", "kind", "callable", "name", "queue"})
"""Fields of a task that say what it runs: the rest are its terms."""

IN_SECONDS: Final = frozenset({"timeout", "backoff", "delay", "deadline"})


class ShownFire(Struct, kw_only=True):
    """What became of a fire time, or of some in a row. Times are RFC 3339."""

    outcome: str
    at: str
    last: str
    count: int = 1
    more: bool = False
    task: str | None = None
    state: str | None = None

    @property
    def time(self) -> str:
        """The fire time, or the first and the last of several."""
        return self.at if self.count == 1 else f"{self.at} … {self.last}"

    @property
    def words(self) -> str:
        """What became of it."""
        count = f" ({self.count:,}{' or more' if self.more else ''})" if self.count > 1 else ""
        if self.outcome == "skipped":
            return f"skipped{count}: {self.task} had not ended"
        return f"{self.outcome}{count}"

    def latest(self, now: float) -> str:
        """How it stands, and since when, for a list."""
        made = {"fired", "manual"}
        return f"{(self.state or 'removed') if self.outcome in made else self.outcome} {ago(self.last, now)}".strip()


class ShownCalendarTask(Struct, kw_only=True):
    """What a calendar runs, as far as a line tells it."""

    command: list[str] = []
    shell: str | None = None
    data: str | None = None
    image: str | None = None
    kind: str | None = None
    callable: str | None = None
    name: str | None = None
    queue: str = "default"

    @property
    def words(self) -> str:
        """What runs, as one would type it; code by the name of its file, never the code."""
        parts = [self.image] if self.image else []
        kind = self.kind or (self.data or "").partition(":")[0]
        if kind in {"python", "go"}:
            parts.append(f"{kind} {self.name or 'snippet'}")
        if self.command:
            parts.append(command_line(self.command))
        if line := self.shell or self.callable:
            parts.append(shortened(" ".join(line.split()), LINE_CHARS))
        return " ".join(parts) or self.kind or ""


def terms_of(task: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a calendar's task says beside what it runs, a field each, as REST has them.

    >>> list(terms_of({"command": ["true"], "resources": {"cpu": 500}, "timeout": 60, "exclusive": True}))
    ['0.5 cores', 'timeout 1m00s', 'exclusive']
    """
    for field, value in task.items():
        if field == "resources":
            yield from (amount(name, count) for name, count in value.items())
        elif field not in TOLD_AS_RUNS:
            yield field if value is True else f"{field} {_term(field, value)}"


def _term(field: str, value: Any) -> str:
    if field in IN_SECONDS and isinstance(value, int | float):
        return duration(value)
    if field == "files":
        return command_line(list(value))
    if isinstance(value, dict):
        return command_line([f"{key}={item}" for key, item in value.items()])
    return command_line(value) if isinstance(value, list) else str(value)


class ShownCalendar(Struct, kw_only=True):
    """A calendar: what it says, when it fires next, and what it did last. Times are RFC 3339."""

    name: str
    expression: str
    zone: str
    misfire: str = "once"
    overlap: str = "allow"
    paused: bool = False
    next: list[str] = []
    last: ShownFire | None = None
    unfinished: list[str] = []
    problem: str | None = None
    created_at: str = ""
    task: ShownCalendarTask

    @property
    def state(self) -> str:
        """Whether it fires."""
        if self.problem:
            return "stopped"
        return "paused" if self.paused else "active"

    def next_words(self, now: float) -> str:
        """When it fires next."""
        if self.state != "active":
            return self.state
        if not self.next:
            return "never again"
        moment = datetime.fromisoformat(self.next[0])
        return f"{moment:%Y-%m-%d %H:%M} ({from_now(self.next[0], now)})"
