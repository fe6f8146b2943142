"""Arithmetic on resources: what a worker has, what is reserved of it, and which cards.

A need is a `Resources` tuple; ``gpu`` and ``gpu_memory`` in it are matched on devices and are
left out of the sums. ``gpu`` whole cards are the lane's alone; ``gpu_memory`` without ``gpu`` is a share of
one card, next to other shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rota.core.model import Gpu, Resources

__all__ = ["GPU", "GPU_MEMORY", "Devices", "Ledger", "split_need"]

GPU: Final = "gpu"
GPU_MEMORY: Final = "gpu_memory"


def split_need(need: Resources) -> tuple[Resources, int, int]:
    """Part a need into plain amounts, whole cards, and memory on each card (or share of one).

    >>> split_need((("cpu", 1000), ("gpu", 1), ("gpu_memory", 8000)))
    ((('cpu', 1000),), 1, 8000)
    """
    plain = tuple((name, amount) for name, amount in need if name not in (GPU, GPU_MEMORY))
    amounts = dict(need)
    return plain, amounts.get(GPU, 0), amounts.get(GPU_MEMORY, 0)


class Devices:
    """The cards of one worker and who has them."""

    __slots__ = ("_cards", "_free_mib", "_shares", "_taken")

    def __init__(self, cards: tuple[Gpu, ...]) -> None:
        self._cards = cards
        self._free_mib = [card.memory_mib for card in cards]
        self._shares = [0] * len(cards)
        self._taken = [False] * len(cards)

    def copy(self) -> Devices:
        """The same cards, had by the same."""
        copy = Devices(self._cards)
        copy._free_mib, copy._shares, copy._taken = list(self._free_mib), list(self._shares), list(self._taken)
        return copy

    def could_ever(self, cards: int, memory_mib: int) -> bool:
        """Say whether the empty worker could give this."""
        fitting = sum(card.memory_mib >= memory_mib for card in self._cards)
        return fitting >= max(cards, 1 if memory_mib else 0)

    def find(self, cards: int, memory_mib: int) -> tuple[int, ...] | None:
        """Choose devices: whole ones in order of index, a share where least is left that fits.

        A share goes to the tightest card so that whole cards stay free for those who need them.
        """
        if cards:
            whole = [
                index
                for index, card in enumerate(self._cards)
                if not self._taken[index] and not self._shares[index] and card.memory_mib >= memory_mib
            ]
            return tuple(whole[:cards]) if len(whole) >= cards else None
        if not memory_mib:
            return ()
        shares = [
            (free, index) for index, free in enumerate(self._free_mib) if not self._taken[index] and free >= memory_mib
        ]
        return (min(shares)[1],) if shares else None

    def take(self, devices: tuple[int, ...], cards: int, memory_mib: int) -> None:
        """Reserve what `find` chose (or what a worker says its lane has)."""
        for index in devices:
            if cards:
                self._taken[index] = True
            else:
                self._free_mib[index] -= memory_mib
                self._shares[index] += 1

    def give_back(self, devices: tuple[int, ...], cards: int, memory_mib: int) -> None:
        """Undo `take`."""
        for index in devices:
            if cards:
                self._taken[index] = False
            else:
                self._free_mib[index] += memory_mib
                self._shares[index] -= 1

    def largest_share_mib(self) -> int:
        """The memory that a share of a card could have now."""
        return max((free for free, taken in zip(self._free_mib, self._taken, strict=True) if not taken), default=0)

    def taken_count(self) -> int:
        """Cards that are taken whole or in part."""
        return sum(taken or shares > 0 for taken, shares in zip(self._taken, self._shares, strict=True))

    def untouched_count(self) -> int:
        """Cards that nobody has, not even in part."""
        return len(self._cards) - self.taken_count()

    def untouched_needed(self, cards: int, memory_mib: int) -> int:
        """How many of those `find` would choose now: a share may be the first on its card."""
        found = () if cards else self.find(0, memory_mib) or ()
        return cards + sum(not self._shares[index] for index in found)


class Ledger:
    """What one worker has and what is reserved of it. Used plus free is capacity, always."""

    __slots__ = ("capacity", "devices", "free", "load")

    def __init__(self, capacity: Resources, gpus: tuple[Gpu, ...]) -> None:
        self.capacity: Mapping[str, int] = dict(capacity)
        self.free = dict(capacity)
        self.devices = Devices(gpus)
        self.load = 0.0

    def could_ever(self, plain: Resources, cards: int, memory_mib: int) -> bool:
        """Say whether the empty worker could hold this need."""
        capacity = self.capacity
        for name, amount in plain:
            if capacity.get(name, 0) < amount:
                return False
        return not (cards or memory_mib) or self.devices.could_ever(cards, memory_mib)

    def share_used(self, name: str) -> float:
        """Which part of a resource is reserved, 0.0 to 1.0; 0.0 of what the worker does not have."""
        total = self.capacity.get(name, 0)
        return 1.0 - self.free[name] / total if total else 0.0

    def fits(self, plain: Resources) -> bool:
        """Say whether the plain amounts fit into what is free."""
        free = self.free
        for name, amount in plain:  # noqa: SIM110 - all() with a generator costs twice as much, once a placement
            if free.get(name, 0) < amount:
                return False
        return True

    def reserve(self, plain: Resources) -> None:
        """Take plain amounts. May go below zero only when a returning worker says so."""
        free, capacity, load = self.free, self.capacity, self.load
        for name, amount in plain:
            left = free[name] = free.get(name, 0) - amount
            total = capacity.get(name)
            if total and (ratio := 1.0 - left / total) > load:  # what is reserved can only raise it
                load = ratio
        self.load = load

    def release(self, plain: Resources) -> None:
        """Give back what `reserve` took."""
        free = self.free
        for name, amount in plain:
            free[name] += amount
        self._reckon_load()

    def used(self) -> dict[str, int]:
        """What is reserved, by name, cards included."""
        used = {name: total - self.free[name] for name, total in self.capacity.items()}
        cards = self.devices.taken_count()
        return {**used, GPU: cards} if cards else used

    def _reckon_load(self) -> None:
        """The load ratio over the dominant resource, 0.0 to 1.0."""
        load = 0.0
        free = self.free
        for name, total in self.capacity.items():
            if total:
                ratio = 1.0 - free[name] / total
                if ratio > load:  # noqa: PLR1730 - max() costs a call, once a resource and lane
                    load = ratio
        self.load = load
