"""Events: what changed, for whoever listens, from a ring of the latest changes.

Events are not stored. The last 64 MiB of changes stay in memory in a form that costs little to keep, and
are rendered only for a listener. A listener has a place in the ring and reads at its own
speed; one that falls out of the ring, or comes back with an id from before it, is told to ``resync``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Final

from msgspec import Struct

from rota.coordinator.service import Event
from rota.core.changes import Changes
from rota.core.model import TaskSeq, TaskState, generated_task_id

__all__ = ["EventHub"]

RING_BYTES_MAX: Final = 64 << 20
KEEP_ALIVE_S: Final = 15.0
"""Silence after which a listener is given ``None``: proxies cut idle lines after 30 s or more."""

ENTRY_BYTES: Final = 160
"""What one task change costs in the ring, about."""


class _TaskChange(Struct, frozen=True, gc=False, array_like=True):
    seq: TaskSeq
    chosen_id: str | None
    state: TaskState
    attempt: int
    cause: str | None
    is_new: bool


class _Batch(Struct, frozen=True):
    """The changes of one commit, or a notice between commits; ``first`` is the index of its first event."""

    number: int
    first: int
    at: float
    tasks: list[_TaskChange]
    nodes: list[tuple[str, str]]

    def events(self) -> Iterator[Event]:
        index = self.first
        for change in self.tasks:
            task = change.chosen_id if change.chosen_id is not None else generated_task_id(change.seq)
            states = [change.state]
            if change.is_new and change.state is not TaskState.PENDING:
                states.insert(0, TaskState.PENDING)  # accepted and placed in one turn: both are told
            for state in states:
                is_acceptance = change.is_new and state is TaskState.PENDING
                yield Event(
                    f"{self.number}.{index}",
                    f"task.{state.word}",
                    self.at,
                    task=task,
                    attempt=None if is_acceptance else change.attempt or None,
                    cause=None if is_acceptance else change.cause,
                )
                index += 1
        for node, word in self.nodes:
            yield Event(f"{self.number}.{index}", f"node.{word}", self.at, node=node)
            index += 1

    def size(self) -> int:
        return ENTRY_BYTES * (len(self.tasks) + len(self.nodes) + 1)


class EventHub:
    """The ring and its listeners.

    Args:
        number: That of the last commit: events before it are not known here.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._next_index = 0
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
        new = {facts.seq for facts in changes.accepted}
        chosen_ids = changes.chosen_ids
        tasks = [
            _TaskChange(
                seq,
                chosen_ids.get(seq),
                progress.state,
                progress.attempt,
                progress.cause.value if progress.cause is not None else None,
                seq in new,
            )
            for seq, progress in changes.progress
        ]
        if tasks:
            self._add(number, at, tasks, [])

    def publish_node(self, node: str, word: str, *, at: float) -> None:
        """Add that a node came, went, or changed its state."""
        self._add(self._number, at, [], [(node, word)])

    async def listen(self, last_id: str | None) -> AsyncIterator[Event | None]:
        """Yield events from now on, or after ``last_id``; ``None`` after each quarter of a minute of silence."""
        changed = asyncio.Event()
        self._changed.add(changed)
        try:
            place, after = self._place_of(last_id)
            if place is None:
                # Before the yield, which may take long: what happens from the resync on must be told.
                place = self._dropped + len(self._ring)
                yield self._resync()
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

    def _add(self, number: int, at: float, tasks: list[_TaskChange], nodes: list[tuple[str, str]]) -> None:
        if number != self._number:
            self._number, self._next_index = number, 0
        batch = _Batch(number, self._next_index, at, tasks, nodes)
        self._next_index += len(nodes) + sum(
            2 if change.is_new and change.state is not TaskState.PENDING else 1 for change in tasks
        )
        self._ring.append(batch)
        self._bytes += batch.size()
        while self._bytes > RING_BYTES_MAX and len(self._ring) > 1:
            self._bytes -= self._ring.popleft().size()
            self._dropped += 1
        for changed in self._changed:
            changed.set()

    def _place_of(self, last_id: str | None) -> tuple[int | None, tuple[int, int] | None]:
        """Where to go on after ``last_id``: a place in the ring and what to skip there, or no place."""
        end = self._dropped + len(self._ring)
        if last_id is None:
            return end, None
        after = _position(last_id)
        if not self._ring or after < (self._ring[0].number, self._ring[0].first):
            return None, None
        if after > (self._number, self._next_index):  # of a store that has gone back in time
            return None, None
        for offset in range(len(self._ring) - 1, -1, -1):
            batch = self._ring[offset]
            if (batch.number, batch.first) <= after:
                return self._dropped + offset, after
        return None, None

    def _resync(self) -> Event:
        return Event(
            f"{self._number}.{max(0, self._next_index - 1)}", "resync", self._ring[-1].at if self._ring else 0.0
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
