"""Events: what changed, for whoever listens, from a ring of the latest changes.

Events are not stored. The last 64 MiB of changes stay in memory in a form that costs little to keep, and
are rendered only for a listener. A listener has a place in the ring and reads at its own
speed; one that falls out of the ring, or comes back with an id from before it, is told to ``resync``.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from rota.coordinator.marks import MarkEvent
from rota.coordinator.service import Event
from rota.core.changes import Changes
from rota.core.model import Progress, TaskSeq, TaskState, generated_task_id

__all__ = ["EventHub", "is_event_id"]

RING_BYTES_MAX: Final = 64 << 20
KEEP_ALIVE_S: Final = 15.0
"""Silence after which a listener is given ``None``: proxies cut idle lines after 30 s or more."""

ENTRY_BYTES: Final = 480
"""What one task change keeps in memory besides the bytes of values and output, about."""

_EVENT_ID: Final = re.compile(r"\d{1,18}\.\d{1,9}\Z", re.ASCII)


def is_event_id(text: str) -> bool:
    """Say whether this can be the id of an event.

    >>> is_event_id("17.0"), is_event_id("17"), is_event_id("")
    (True, False, False)
    """
    return _EVENT_ID.match(text) is not None


class _Batch:
    """The changes of one commit, or a notice between commits; ``first`` is the index of its first event.

    The changes are kept as the turn made them: at full speed nothing is made for listeners that aren't there.
    New tasks have the highest numbers of a turn, from ``first_new`` on.
    """

    __slots__ = ("_count", "_first_new", "at", "chosen_ids", "first", "marks", "nodes", "number", "progress")

    def __init__(
        self,
        number: int,
        first: int,
        at: float,
        *,
        changes: Changes,
        nodes: Sequence[tuple[str, str]],
        marks: Sequence[MarkEvent],
    ) -> None:
        self.number = number
        self.first = first
        self.at = at
        self.progress = changes.progress
        self.chosen_ids = changes.chosen_ids
        self.nodes = nodes
        self.marks = marks
        # Not the facts themselves: specs are not told of, and must not be kept for it.
        self._first_new = changes.accepted[0].seq if changes.accepted else None
        self._count: int | None = None

    def events(self) -> Iterator[Event]:
        index = self.first
        for seq, progress, is_new in self._tasks():
            state = progress.state
            # Accepted and placed in one turn: both are told.
            states = (TaskState.PENDING, state) if is_new and state is not TaskState.PENDING else (state,)
            task = self.chosen_ids.get(seq) or generated_task_id(seq)
            for told in states:
                is_acceptance = is_new and told is TaskState.PENDING
                cause = None if is_acceptance or progress.cause is None else progress.cause.value
                attempt = None if is_acceptance else progress.attempt or None
                yield Event(
                    f"{self.number}.{index}", f"task.{told.word}", self.at, task=task, attempt=attempt, cause=cause
                )
                index += 1
        for node, word in self.nodes:
            yield Event(f"{self.number}.{index}", f"node.{word}", self.at, node=node)
            index += 1
        for mark in self.marks:
            yield Event(
                f"{self.number}.{index}",
                "task.progress",
                self.at,
                task=mark.task,
                attempt=mark.attempt,
                fraction=mark.fraction,
                text=mark.text,
            )
            index += 1

    @property
    def count(self) -> int:
        """How many events it is. Found out when somebody asks, and kept."""
        if self._count is None:
            self._count = (
                len(self.nodes)
                + len(self.marks)
                + sum(
                    2 if is_new and progress.state is not TaskState.PENDING else 1
                    for _, progress, is_new in self._tasks()
                )
            )
        return self._count

    def size(self) -> int:
        kept = [len(made.value) + len(made.stdout) + len(made.stderr) for _, made in self.progress]
        return ENTRY_BYTES * (len(kept) + len(self.nodes) + len(self.marks) + 1) + sum(kept)

    def _tasks(self) -> Iterator[tuple[TaskSeq, Progress, bool]]:
        first_new = self._first_new
        for seq, progress in self.progress:
            yield seq, progress, first_new is not None and seq >= first_new


class EventHub:
    """The ring and its listeners.

    Args:
        number: That of the last commit: events before it are not known here.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._latest: _Batch | None = None
        self._ring: deque[_Batch] = deque()
        self._dropped = 0
        self._bytes = 0
        self._changed: set[asyncio.Event] = set()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._changed)

    def publish(self, number: int, changes: Changes, *, at: float) -> None:
        """Add what a commit changed."""
        if changes.progress:
            self._add(number, at, changes)

    def publish_node(self, node: str, word: str, *, at: float) -> None:
        """Add that a node came, went, or changed its state."""
        self._add(self._number, at, Changes(), nodes=((node, word),))

    def publish_mark(self, mark: MarkEvent) -> None:
        """Add how far an attempt says it is, if anybody listens: nobody comes back for it."""
        if self._changed:
            self._add(self._number, mark.at, Changes(), marks=(mark,))

    def listen(self, last_id: str | None) -> AsyncIterator[Event | None]:
        """Yield events from this call on, or after ``last_id``; ``None`` after each quarter of a minute of silence."""
        place, after = self._place_of(last_id)
        resync = None
        if place is None:
            # The place is taken before that is told: what happens from the resync on must be told, too.
            place, resync = self._dropped + len(self._ring), self._resync()
        return self._listen_from(place, after, resync=resync)

    async def _listen_from(
        self, place: int, after: tuple[int, int] | None, *, resync: Event | None
    ) -> AsyncIterator[Event | None]:
        changed = asyncio.Event()
        self._changed.add(changed)
        try:
            if resync is not None:
                yield resync
            while True:
                changed.clear()
                if place < self._dropped:  # the listener was slower than 64 MiB of changes
                    place, after = self._dropped + len(self._ring), None
                    yield self._resync()
                while place < self._dropped + len(self._ring):
                    batch = self._ring[place - self._dropped]
                    place += 1
                    for event in batch.events():
                        if after is None or _position(event.id) > after:
                            yield event
                    if place < self._dropped:
                        break
                else:
                    try:
                        await asyncio.wait_for(changed.wait(), KEEP_ALIVE_S)
                    except TimeoutError:
                        yield None
        finally:
            self._changed.discard(changed)

    def _add(
        self,
        number: int,
        at: float,
        changes: Changes,
        *,
        nodes: Sequence[tuple[str, str]] = (),
        marks: Sequence[MarkEvent] = (),
    ) -> None:
        first = self._next_index() if number == self._number else 0
        batch = _Batch(number, first, at, changes=changes, nodes=nodes, marks=marks)
        self._number = number
        self._latest = batch
        self._ring.append(batch)
        self._bytes += batch.size()
        while self._bytes > RING_BYTES_MAX and len(self._ring) > 1:
            self._bytes -= self._ring.popleft().size()
            self._dropped += 1
        for changed in self._changed:
            changed.set()

    def _next_index(self) -> int:
        """The index of the next event of the latest commit."""
        return 0 if self._latest is None else self._latest.first + self._latest.count

    def _place_of(self, last_id: str | None) -> tuple[int | None, tuple[int, int] | None]:
        """Where to go on after ``last_id``: a place in the ring and what to skip there, or no place."""
        end = self._dropped + len(self._ring)
        if last_id is None:
            return end, None
        after = _position(last_id)
        if not self._ring or after < (self._ring[0].number, self._ring[0].first):
            return None, None
        if after > (self._number, self._next_index()):  # of a store that has gone back in time
            return None, None
        for offset in range(len(self._ring) - 1, -1, -1):
            batch = self._ring[offset]
            if (batch.number, batch.first) <= after:
                return self._dropped + offset, after
        return None, None

    def _resync(self) -> Event:
        return Event(
            f"{self._number}.{max(0, self._next_index() - 1)}", "resync", self._ring[-1].at if self._ring else 0.0
        )


def _position(event_id: str) -> tuple[int, int]:
    """Parse an id; one that is none sorts before all others.

    >>> _position("12.3"), _position("x")
    ((12, 3), (-1, -1))
    """
    number, _, index = event_id.partition(".")
    try:
        return int(number), int(index)
    except ValueError:
        return -1, -1
