"""The line of a slot of functions: chunks of orders, those that the runner has and those that wait.

Orders come in messages of many and are handed on as they came. They are decoded only when a single one
matters: when it is stopped, taken back, runs long, or its runner dies. So an ordinary one costs the slot
next to nothing (decoding it and encoding it again would be 0.6 µs of the 8 µs that a call may cost).

Every order that is fed has an *ordinal*, which no other order of the same runner ever has. What is fed ends in
the order of its ordinals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from rota.worker.slots.frames import FunctionOrder, count_of, decode_orders, encode_orders

__all__ = ["Chunk", "Line"]

Key = tuple[int, int]


class Chunk:
    """Some orders. ``first`` is the ordinal of the first one while they are fed."""

    __slots__ = ("_encoded", "_orders", "count", "first")

    def __init__(self, encoded: bytes | bytearray | None, orders: list[FunctionOrder] | None = None) -> None:
        assert (encoded is None) != (orders is None)
        self._encoded = encoded
        self._orders = orders
        self.count = count_of(encoded) if encoded is not None else len(orders or ())
        self.first = 0

    @property
    def encoded(self) -> bytes | bytearray:
        """As they travel."""
        if self._encoded is None:
            self._encoded = encode_orders(self.orders)
        return self._encoded

    @property
    def orders(self) -> list[FunctionOrder]:
        """Decoded, when that is first asked for."""
        if self._orders is None:
            assert self._encoded is not None
            self._orders = decode_orders(self._encoded)
        return self._orders


class Line:
    """The orders of one slot that have not ended.

    ``taken`` is the ordinal of the last one that has; ``runs`` how many have under this runner.
    """

    __slots__ = ("_fed", "_next_ordinal", "_waiting", "runs", "taken")

    def __init__(self) -> None:
        self._waiting: deque[Chunk] = deque()
        self._fed: deque[Chunk] = deque()
        self.restart()

    def restart(self) -> None:
        """Begin with a new runner, which has nothing."""
        assert not self._fed
        self._next_ordinal = 1
        self.taken = 0
        self.runs = 0

    @property
    def has_waiting(self) -> bool:
        """Whether some are not fed."""
        return bool(self._waiting)

    @property
    def has_fed(self) -> bool:
        """Whether the runner has some that have not ended."""
        return bool(self._fed)

    @property
    def next_ordinal(self) -> int:
        """The first ordinal that was never used."""
        return self._next_ordinal

    def add(self, encoded: bytes | bytearray) -> None:
        """Append orders."""
        if count_of(encoded):
            self._waiting.append(Chunk(encoded))

    def waiting_count(self) -> int:
        """How many orders the next chunk has; 0 if there is none."""
        return self._waiting[0].count if self._waiting else 0

    def fed_count(self) -> int:
        """How many orders the runner has that have not ended."""
        return sum(chunk.count for chunk in self._fed) - self._ended_of_first()

    def feed(self) -> Chunk:
        """Hand the next chunk to the runner: it has ordinals from now on."""
        chunk = self._waiting.popleft()
        chunk.first = self._next_ordinal
        self._next_ordinal += chunk.count
        self._fed.append(chunk)
        return chunk

    def end_up_to(self, ordinal: int) -> int:
        """Forget what is fed up to and with this ordinal; return how many orders that are."""
        count = 0
        while self._fed and self._fed[0].first <= ordinal:
            chunk = self._fed[0]
            last = chunk.first + chunk.count - 1
            count += min(last, ordinal) - max(chunk.first, self.taken + 1) + 1
            if last > ordinal:
                break
            self._fed.popleft()
        self.taken = ordinal
        self.runs += count
        return count

    def find_fed(self, ordinal: int) -> FunctionOrder | None:
        """The order that has this ordinal and has not ended."""
        if ordinal > self.taken:
            for chunk in self._fed:
                if chunk.first <= ordinal < chunk.first + chunk.count:
                    return chunk.orders[ordinal - chunk.first]
        return None

    def is_fed(self, ordinal: int) -> bool:
        """Whether there is such an order, without decoding it."""
        return ordinal > self.taken and any(chunk.first <= ordinal < chunk.first + chunk.count for chunk in self._fed)

    def has_behind(self, ordinal: int) -> bool:
        """Whether anything is fed behind this ordinal."""
        return bool(self._fed) and self._fed[-1].first + self._fed[-1].count - 1 > ordinal

    def recall(self, ordinal: int) -> None:
        """What is fed behind this ordinal waits again, before all others. All before it must have ended."""
        assert ordinal >= self.taken
        while self.has_behind(ordinal):
            chunk = self._fed.pop()
            started = max(ordinal + 1 - chunk.first, 0)
            self._waiting.appendleft(Chunk(None, chunk.orders[started:]) if started else chunk)
            if started and ordinal > self.taken:
                kept = Chunk(None, chunk.orders[:started])
                kept.first = chunk.first
                self._fed.append(kept)

    def put_back(self, ordinal: int) -> None:
        """The last order that is fed did not start after all: it is the first that waits."""
        order = self.find_fed(ordinal)
        assert order is not None
        self._fed.clear()
        self.taken = ordinal
        self._waiting.appendleft(Chunk(None, [order]))

    def has_fed_key(self, key: Key) -> bool:
        """Whether this attempt is fed and has not ended."""
        return any(
            (order[0], order[1]) == key and chunk.first + index > self.taken
            for chunk in self._fed
            for index, order in enumerate(chunk.orders)
        )

    def remove(self, keys: Collection[Key]) -> list[Key]:
        """Take attempts that are not fed out of the line; return those that were there, in the order of the line."""
        found: list[Key] = []
        for _ in range(len(self._waiting)):
            chunk = self._waiting.popleft()
            removed = [key for order in chunk.orders if (key := (order[0], order[1])) in keys]
            found += removed
            if removed:
                chunk = Chunk(None, [order for order in chunk.orders if (order[0], order[1]) not in keys])
            if chunk.count:
                self._waiting.append(chunk)
        return found

    def remove_first(self) -> FunctionOrder | None:
        """Take the first one that waits out of the line."""
        if not self._waiting:
            return None
        first, *rest = self._waiting.popleft().orders
        if rest:
            self._waiting.appendleft(Chunk(None, rest))
        return first

    def waiting_keys(self) -> list[Key]:
        """All attempts that are not fed."""
        return [(order[0], order[1]) for chunk in self._waiting for order in chunk.orders]

    def _ended_of_first(self) -> int:
        return max(self.taken - self._fed[0].first + 1, 0) if self._fed else 0
