"""Accounts of what live attempts use, kept from the rows of commits and from nothing that the core reckons.

So a sum of the core's that drifts is seen at the step that lets it drift, at a cost that does not grow with the
cluster.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Struct

from rota.core.changes import Changes
from rota.core.limits import LIMIT_KIND
from rota.core.model import ACTIVE_STATES, LaneId, Progress, TaskSeq, TaskState, Terms, WorkerId
from rota.core.queues import QUEUE_KIND, QueueSettings
from rota.core.resources import split_need
from rota.core.spec import TaskSpec, decode_spec, terms_of
from rota.simulator.record import Record

__all__ = ["BookedSeat", "Books", "settings_on", "spec_of", "terms_of_spec"]

LaneKey = tuple[WorkerId, LaneId]

DEFAULTS: Final = QueueSettings()


class BookedSeat(Struct, frozen=True):
    """Which lane an attempt has, and what it uses."""

    lane: LaneKey
    attempt: int
    terms: Terms


class Books:
    """What is in use, as of the last turn whose changes were followed. ``record`` is what is on disk.

    Attributes:
        seats: Of all live attempts.
        reserved: Plain amounts by worker and name.
        running: Attempts by queue.
        of_queue: What lanes reserve, by queue and name.
        limits: What attempts hold, by limit.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.begin_anew()

    def begin_anew(self) -> None:
        """Read everything from the record."""
        self.seats: dict[TaskSeq, BookedSeat] = {}
        self.reserved: dict[WorkerId, Counter[str]] = {}
        self.running: Counter[str] = Counter()
        self.of_queue: dict[str, Counter[str]] = {}
        self.limits: Counter[str] = Counter()
        self._lanes: Counter[LaneKey] = Counter()
        self.drained = {worker.id for worker in self._record.workers.values() if worker.drained}
        self._settings = {key: setting.data for key, setting in self._record.settings.items()}
        for task in self._record.unfinished():
            self._enter(task.facts.seq, task.facts.spec, task.progress)

    def follow(self, changes: Changes) -> tuple[dict[WorkerId, None], list[tuple[TaskSeq, Progress]]]:
        """Enter the changes of a turn; return the workers that they touch, and the rows of new attempts."""
        workers = dict.fromkeys(row.id for row in changes.workers)
        self.drained.difference_update(workers, changes.workers_gone)
        self.drained.update(row.id for row in changes.workers if row.drained)
        for key in changes.settings_gone:
            self._settings.pop(key, None)
        self._settings.update({(setting.kind, setting.name): setting.data for setting in changes.settings})
        specs = {facts.seq: facts.spec for facts in changes.accepted}
        # All leave before anybody comes: a worker that was forgotten and came anew counts its lanes from one again.
        left = {seq: before for seq, _ in changes.progress if (before := self._leave(seq)) is not None}
        new = []
        for seq, progress in changes.progress:
            before = left.get(seq)
            if before is not None:
                workers[before.lane[0]] = None
            if progress.worker is not None:
                workers[progress.worker] = None
            if progress.state is TaskState.ASSIGNED and (before is None or before.attempt < progress.attempt):
                new.append((seq, progress))
            self._enter(seq, specs.get(seq) or self._record.facts[seq].spec, progress)
        return workers, new

    def settings_of(self, queue: str) -> QueueSettings:
        """What is set of a queue."""
        data = self._settings.get((QUEUE_KIND, queue))
        return DEFAULTS if data is None else _decode_settings(data)

    def size_of(self, limit: str) -> int:
        """How much there is of a limit: nothing if nobody has set it."""
        return int(self._settings.get((LIMIT_KIND, limit), 0))

    # Helpers

    def _leave(self, seq: TaskSeq) -> BookedSeat | None:
        before = self.seats.pop(seq, None)
        if before is not None:
            self._count(before, -1)
        return before

    def _enter(self, seq: TaskSeq, spec: bytes, progress: Progress) -> None:
        if progress.state in ACTIVE_STATES:
            assert progress.worker is not None
            assert progress.lane is not None
            lane = progress.worker, progress.lane
            seat = self.seats[seq] = BookedSeat(lane, progress.attempt, terms_of_spec(spec))
            self._count(seat, 1)

    def _count(self, seat: BookedSeat, sign: int) -> None:
        had, terms = self._lanes[seat.lane], seat.terms
        self._lanes[seat.lane] = had + sign
        self.running[terms.queue] += sign
        for name, amount in terms.limits:
            self.limits[name] += sign * amount
        if min(had, had + sign) == 0:  # the lane is opened or closed
            reserved = self.reserved.setdefault(seat.lane[0], Counter())
            of_queue = self.of_queue.setdefault(terms.queue, Counter())
            for name, amount in terms.shape.resources:
                of_queue[name] += sign * amount
            for name, amount in split_need(terms.shape.resources)[0]:
                reserved[name] += sign * amount


def settings_on(record: Record, queue: str) -> QueueSettings:
    """What is set of a queue on a record."""
    setting = record.settings.get((QUEUE_KIND, queue))
    return DEFAULTS if setting is None else _decode_settings(setting.data)


@lru_cache(maxsize=2048)
def spec_of(encoded: bytes) -> TaskSpec:
    """A spec, decoded once. Nobody may change it."""
    return decode_spec(encoded)


@lru_cache(maxsize=2048)
def terms_of_spec(encoded: bytes) -> Terms:
    """The terms of a spec, found once."""
    return terms_of(spec_of(encoded))


@lru_cache(maxsize=256)
def _decode_settings(data: str) -> QueueSettings:
    return msgspec.json.decode(data, type=QueueSettings)
