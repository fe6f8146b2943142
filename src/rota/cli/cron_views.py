"""Calendars as the command line reads them from answers, and in words."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from rota.cli.text import ago, command_line, from_now, shortened

__all__ = ["ShownCalendar", "ShownCalendarTask", "ShownFire"]

SNIPPET_CHARS = 60


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
    code: str | None = None
    data: str | None = None
    image: str | None = None
    kind: str | None = None
    callable: str | None = None
    queue: str = "default"

    @property
    def words(self) -> str:
        """What runs, as one would type it."""
        parts = [self.image] if self.image else []
        if self.command:
            parts.append(command_line(self.command))
        snippet = self.shell or self.code or self.data or self.callable
        if snippet:
            parts.append(shortened(" ".join(snippet.split()), SNIPPET_CHARS))
        return " ".join(parts) or self.kind or ""


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
