"""Least-loaded: a worker whose dominant resource is used least, those within 0.05 of each other by lot.

Cost: O(1) a choice, amortised.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final

from rota.core.cluster import Room
from rota.core.placement.base import LOOKS, CommonOrder, HasRoom, PlacementPolicy, RoomIndex
from rota.core.workers import Worker

__all__ = ["TIE", "LeastLoaded"]

TIE: Final = 0.05
"""Loads in one step of this width are equal: a fraction less says nothing of which machine is the better one, and
all who start at once would go to it."""

STEPS: Final = 21
"""Of the load, from nothing to all of it, which is a step of its own. Who has more than all has no room."""

STALE_FACTOR: Final = 4
"""There may be so many times the entries that were there at first before the stale ones are thrown out."""


class LeastLoaded(PlacementPolicy):
    """Place on one of the workers with the lowest load ratio; see `Ledger.load`.

    References:
        dtask-scheduler places by the strictly lowest load ratio; the dominant resource is that of
        A. Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
    """

    name = "least-loaded"

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _Steps(self._rng, workers)

    def make_order(self) -> CommonOrder:
        return _Steps(self._rng, ())


_Entry = tuple[int, Worker]


class _Steps:
    """Workers by the step of their load, in no order within a step.

    A worker's latest entry counts. It may be in too low a step, because load rises without a word; then it is put
    right when it is drawn. Who was chosen last is put right before the next choice, while the processor has it in its
    cache.
    """

    __slots__ = ("_entries", "_last", "_lowest", "_rng", "_size", "_size_max", "_steps")

    def __init__(self, rng: random.Random, workers: Iterable[Worker]) -> None:
        self._rng = rng
        self._last: tuple[int, int] | None = None
        self._begin(workers)

    def offer(self, worker: Worker) -> None:
        before, step = self._entries.get(worker.number), _step_of(worker)
        if before is not None and before[0] == step:
            return
        self._note(worker, step)
        if self._size > self._size_max:  # whoever left with work is drawn no more: in a step that is never come to
            self._begin([worker for _, worker in self._entries.values() if worker.is_open])

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:  # noqa: ARG002 - all tasks are the same here
        return self._draw(has_room, None)

    def look(self, has_room: HasRoom) -> Worker | None:
        return self._draw(has_room, LOOKS)

    def __len__(self) -> int:
        return len(self._entries)

    def _draw(self, has_room: HasRoom, looks: int | None) -> Worker | None:
        """Draw until somebody has room. Those without are forgotten, or cost a look each where these are counted."""
        if self._last is not None:
            self._put_right(*self._last)
        entries, steps, draw = self._entries, self._steps, self._rng.random
        while self._lowest < STEPS and looks != 0:
            step = steps[self._lowest]
            if not step:
                self._lowest += 1
                continue
            place = int(draw() * len(step))
            entry = step[place]
            worker = entry[1]
            if entries.get(worker.number) is not entry:
                self._take_out(self._lowest, place)
            elif _step_of(worker) > self._lowest:
                self._put_right(self._lowest, place)
            elif has_room(worker):
                self._last = self._lowest, place
                return worker
            elif looks is None or not worker.is_open:
                self._take_out(self._lowest, place)
                del entries[worker.number]
            else:
                looks -= 1
        return None

    def _begin(self, workers: Iterable[Worker]) -> None:
        self._entries: dict[int, _Entry] = {}
        self._steps: list[list[_Entry]] = [[] for _ in range(STEPS)]
        self._size = 0
        self._lowest = STEPS
        self._last = None
        for worker in workers:
            self._note(worker, _step_of(worker))
        self._size_max = STALE_FACTOR * self._size + 64

    def _note(self, worker: Worker, step: int) -> None:
        entry = self._entries[worker.number] = (step, worker)
        self._steps[step].append(entry)
        self._size += 1
        self._lowest = min(self._lowest, step)

    def _put_right(self, step: int, place: int) -> None:
        """See to it that the worker of an entry stands where its load is now."""
        self._last = None
        entry = self._steps[step][place]
        worker = entry[1]
        now = _step_of(worker)
        if now != step:
            self._take_out(step, place)
            if self._entries.get(worker.number) is entry:
                self._note(worker, now)

    def _take_out(self, step: int, place: int) -> None:
        """Remove an entry, by putting the last one in its place."""
        entries = self._steps[step]
        entries[place] = entries[-1]
        entries.pop()
        self._size -= 1


def _step_of(worker: Worker) -> int:
    return min(int(worker.ledger.load / TIE), STEPS - 1)
