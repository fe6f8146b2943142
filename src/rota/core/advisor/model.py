"""The nouns of placement alone: workers that are known by their heartbeats, and what is asked for."""

from __future__ import annotations

from typing import Final, NewType

from msgspec import Struct

from rota.core.tags import parse_tag

__all__ = [
    "TASKS_MAX",
    "AdvisedWorker",
    "Beat",
    "Granted",
    "Ticket",
    "WorkerGroup",
    "check_wish",
    "is_plain_tag",
]

TASKS_MAX: Final = 1_000_000
"""Of one worker at once. Two different ratios of such numbers are different as floats, and equal ones are equal."""

_OPERATORS: Final = frozenset("!~<>")

Ticket = NewType("Ticket", int)
"""Who waits for room; tickets grow in the order of arrival."""


class Beat(Struct, frozen=True):
    """What a worker says of itself. ``resources`` is what it has free, by name, if it says so."""

    worker_id: str
    address: str
    tags: frozenset[str]
    max_tasks: int
    current_tasks: int
    resources: dict[str, int] | None = None


class WorkerGroup:
    """Workers with equal tags: what a request says of tags is decided once for all of them."""

    __slots__ = ("members", "tags")

    def __init__(self, tags: frozenset[str]) -> None:
        self.tags = tags
        self.members: dict[AdvisedWorker, None] = {}


class AdvisedWorker:
    """A worker of somebody's own, as its last heartbeat and what it was given since say.

    Attributes:
        number: Grows in the order in which workers became known.
        load: The ratio of current to max tasks, which ranks workers.
        turn: Grows with what it was given by turns; 0 at first.
        last_seen: Steady seconds, by which it is judged.
        heard_at: The same moment on the wall clock, for people.
    """

    __slots__ = (
        "address",
        "current_tasks",
        "first_heard_at",
        "free",
        "group",
        "heard_at",
        "id",
        "last_seen",
        "load",
        "max_tasks",
        "number",
        "turn",
    )

    def __init__(self, worker_id: str, *, number: int, group: WorkerGroup, wall: float) -> None:
        self.id = worker_id
        self.number = number
        self.group = group
        self.address = ""
        self.max_tasks = self.current_tasks = 0
        self.load = 1.0
        self.turn = 0
        self.free: dict[str, int] | None = None
        self.last_seen = 0.0
        self.heard_at = self.first_heard_at = wall

    def take_in(self, beat: Beat, *, now: float, wall: float) -> None:
        """Believe what it says: whatever we had counted is corrected by it."""
        self.address = beat.address
        self.max_tasks = beat.max_tasks
        self.current_tasks = beat.current_tasks
        self.free = dict(beat.resources) if beat.resources is not None else None
        self.last_seen, self.heard_at = now, wall
        self._weigh()

    def give(self, resources: tuple[tuple[str, int], ...]) -> None:
        """Count a task on it, at once: it will say so itself in its next heartbeat."""
        self.current_tasks += 1
        if resources:
            assert self.free is not None
            for name, amount in resources:
                self.free[name] -= amount
        self._weigh()

    def _weigh(self) -> None:
        self.load = self.current_tasks / self.max_tasks if self.max_tasks else 1.0


class Granted(Struct, frozen=True):
    """Who waited has a worker, on which the task is counted already."""

    ticket: Ticket
    worker: AdvisedWorker


def is_plain_tag(text: str) -> bool:
    """Whether a wish is a tag and nothing more, whatever characters it has: ``a100:80g`` always was one.

    >>> is_plain_tag("a100:80g"), is_plain_tag("cuda>=12"), is_plain_tag("!gpu"), is_plain_tag("zone==1")
    (True, False, False, False)
    """
    return not (_OPERATORS.intersection(text) or "==" in text)


def check_wish(text: str) -> str:
    """Return a wish for tags as it is written down.

    Raises:
        TagSyntaxError: It is meant as an expression and is none; says where and why.
    """
    return text if is_plain_tag(text) else str(parse_tag(text))
