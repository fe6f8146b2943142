"""Waiting for tasks to end: for one by asking, for many by listening.

For one task the coordinator holds the answer back until the end (``?wait=``). For many we listen
to its events, which costs one connection however many they are, and look every few seconds at
the oldest that are left: events are not stored, so a cut can lose some, and tasks may have ended
before we listened. Either alone would do; together they are quick and sure.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from rota.cli.events import followed_events
from rota.cli.patience import Patience
from rota.cli.views import ENDED_STATES, ShownTask, view_of
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["wait_for_all", "wait_for_one"]

ASK_S: Final = 30.0
"""How long the coordinator may hold back an answer: short of what proxies cut."""

LOOK_EVERY_S: Final = 2.0
LOOK_TASKS: Final = 100
"""How many are looked at, at most, each time: tens of milliseconds."""


def wait_for_one(client: HttpClient, task_id: str) -> ShownTask:
    """Return a task when it has ended, through restarts of the coordinator."""
    patience = Patience()
    while True:
        try:
            task = view_of(client.wait(task_id, timeout_s=ASK_S), ShownTask)
        except RotaError as error:
            patience.bear(error)
            continue
        if task.has_ended:
            return task
        patience.relax()


def wait_for_all(
    client: HttpClient,
    ids: Sequence[str],
    *,
    on_end: Callable[[ShownTask], None],
    timeout_s: float | None = None,
) -> int:
    """Return when all tasks have ended, or the time is over; return how many are left.

    Args:
        client: The coordinator.
        ids: The tasks, in the order of their arrival; not empty.
        on_end: Told each one that has ended, once, as it ends.
        timeout_s: How long to wait at most; ``None`` for as long as it takes.
    """
    if len(ids) == 1 and timeout_s is None:
        on_end(wait_for_one(client, ids[0]))
        return 0
    return _Crowd(client, ids, on_end).wait(math.inf if timeout_s is None else timeout_s)


class _Crowd:
    """Many tasks that are waited for."""

    def __init__(self, client: HttpClient, ids: Sequence[str], on_end: Callable[[ShownTask], None]) -> None:
        self._client = client
        self._left = dict.fromkeys(ids)
        self._wanted = frozenset(ids)
        self._on_end = on_end
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._enough = threading.Event()

    def wait(self, timeout_s: float) -> int:
        ends_at = time.monotonic() + timeout_s
        self._patience = Patience(until=ends_at)
        threading.Thread(target=self._listen, name="events", daemon=True).start()
        try:
            return self._wait(ends_at)
        finally:
            self._enough.set()

    def _wait(self, ends_at: float) -> int:
        looks_at = time.monotonic()
        while self._left and (now := time.monotonic()) < ends_at:
            if now >= looks_at:
                are_all_ended = self._look()
                # Where a whole look found only ended ones, there are more of them behind.
                looks_at = time.monotonic() + (0.0 if are_all_ended else LOOK_EVERY_S)
                continue
            try:
                self._check(self._heard.get(timeout=max(0.0, min(looks_at, ends_at) - now)))
            except queue.Empty:
                continue
        return len(self._left)

    def _listen(self) -> None:
        """Put the ids of tasks that end into the queue. Runs in a thread of its own, until its stream next ends."""
        try:
            for event in followed_events(self._client, is_quiet=True, enough=self._enough):
                task_id = event.get("task")
                if task_id in self._wanted and str(event.get("type")).removeprefix("task.") in ENDED_STATES:
                    self._heard.put(str(task_id))
        except RotaError:
            return  # Looking goes on, slower; if the coordinator is gone, that says so.

    def _look(self) -> bool:
        """Look at the oldest tasks that are left; return whether all of them had ended."""
        oldest = list(itertools.islice(self._left, LOOK_TASKS))
        are_all_ended = True
        for task_id in oldest:
            are_all_ended &= self._check(task_id)
            if self._patience.is_tried:  # to ask for the others would only try it further
                return False
        return are_all_ended

    def _check(self, task_id: str) -> bool:
        if task_id not in self._left:
            return True
        try:
            task = view_of(self._client.task(task_id), ShownTask)
        except RotaError as error:
            self._patience.bear(error)
            return False
        self._patience.relax()
        if task.has_ended:
            del self._left[task_id]
            self._on_end(task)
        return task.has_ended
