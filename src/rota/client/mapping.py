"""`map` over any number of items: submitted ahead of the consumer, by a bounded window, in blocks.

A list is submitted as far as `AHEAD_OF_LISTS` at once; what has no length, such as a generator that
may never end, only as far as `AHEAD_OF_STREAMS`. From then on a block follows whenever one was consumed. When the
consumer stops, for whatever reason, the rest is cancelled: what runs may end, since a half-done call helps nobody. Only
Ctrl-C while it waits stops what runs, too: who presses that in a notebook wants the cluster back, and has no future
to stop it by.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

__all__ = ["AHEAD_OF_LISTS", "AHEAD_OF_STREAMS", "BLOCK", "Enders", "Feed", "ordered", "unordered", "window_of"]

AHEAD_OF_LISTS: Final = 1 << 17
AHEAD_OF_STREAMS: Final = 10_240
"""Tasks that are submitted and whose results are not consumed: at 60,000 a second a sixth of a second's worth."""

BLOCK: Final = 256
"""Items submitted at once. To wake the thread that sends them costs as much as to make one task."""

F = TypeVar("F")

Canceller = Callable[[Collection[Any]], None]
"""Cancels futures."""


class Feed(Generic[F]):
    """Submits items as they are wanted.

    Args:
        items: The arguments of each call.
        submit: Submits a block of them.
        window: How many may be ahead of the consumer, at least 1.
    """

    def __init__(
        self, items: Iterator[tuple[Any, ...]], submit: Callable[[list[tuple[Any, ...]]], Sequence[F]], window: int
    ) -> None:
        self._items: Iterator[tuple[Any, ...]] | None = items
        self._submit = submit
        self._window = window
        self._block = min(BLOCK, max(1, window // 2))

    def next_block(self, ahead: int) -> Sequence[F]:
        """Submit a block, if there is room for it.

        Args:
            ahead: How many futures are not consumed.
        """
        if self._items is None or self._window - ahead < self._block:
            return ()
        block = list(islice(self._items, self._block))
        if len(block) < self._block:
            self._items = None
        return self._submit(block) if block else ()


def window_of(iterables: Sequence[Iterable[Any]], buffersize: int | None) -> int:
    """How far to submit ahead: as the user says, else by whether the items have an end that is known."""
    if buffersize is not None:
        if buffersize < 1:
            raise ValueError(f"buffersize must be at least 1, got {buffersize}")
        return buffersize
    return AHEAD_OF_LISTS if any(isinstance(items, Sized) for items in iterables) else AHEAD_OF_STREAMS


class Enders(NamedTuple):
    """What ends tasks that the consumer does not wait for any more."""

    cancel: Canceller
    """Those that do not run yet."""

    stop: Canceller
    """Those that run, too."""


def ordered(feed: Feed[Any], *, timeout: float | None, enders: Enders) -> Iterator[Any]:  # of the function's type
    """Submit the first items now, and yield results in the order of the items.

    Args:
        feed: What to submit.
        timeout: Seconds from now for all.
        enders: How to end what the consumer did not wait for.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    return _ordered(feed, _begun(feed, enders), deadline, enders)


def unordered(feed: Feed[Any], *, timeout: float | None, enders: Enders) -> Iterator[Any]:
    """As `ordered`, but yield each result when it is there."""
    deadline = None if timeout is None else time.monotonic() + timeout
    return _unordered(feed, _begun(feed, enders), deadline, enders)


def _begun(feed: Feed[Any], enders: Enders) -> deque[Any]:
    """Submit the first items. They are cancelled if one of them can't be submitted."""
    ahead: deque[Any] = deque()
    try:
        while block := feed.next_block(len(ahead)):
            ahead.extend(block)
    except BaseException:
        enders.cancel(ahead)
        raise
    return ahead


def _ordered(feed: Feed[Any], ahead: deque[Any], deadline: float | None, enders: Enders) -> Iterator[Any]:
    next_block, take = feed.next_block, ahead.popleft
    try:
        while ahead:
            # Waited for while it is among those that are ended if that is interrupted.
            if not ahead[0].done():
                ahead[0].exception(None if deadline is None else deadline - time.monotonic())
            # Taken out at once: a result that was consumed is not kept.
            yield take().result(None if deadline is None else deadline - time.monotonic())
            if block := next_block(len(ahead)):
                ahead.extend(block)
    except KeyboardInterrupt:
        enders.stop(ahead)
        raise
    finally:
        enders.cancel(ahead)


def _unordered(feed: Feed[Any], begun: Iterable[Any], deadline: float | None, enders: Enders) -> Iterator[Any]:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ahead = set(begun)
    try:
        for future in list(ahead):
            future.add_done_callback(done.put)
        while ahead:
            try:
                future = done.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{len(ahead)} results are missing and the time is over") from None
            ahead.discard(future)
            yield future.result()
            block = feed.next_block(len(ahead))
            ahead.update(block)
            for another in block:
                another.add_done_callback(done.put)
    except KeyboardInterrupt:
        enders.stop(ahead)
        raise
    finally:
        enders.cancel(ahead)
