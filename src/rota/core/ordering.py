"""Ordering: which pending task goes first."""

from __future__ import annotations

from typing import Protocol

from rota.core.model import TaskSeq, Terms

__all__ = ["OrderKey", "Ordering", "PriorityOrdering", "Rank"]

OrderKey = int
"""Tasks of one shape and one key wait in one line, first come first served."""

Rank = tuple[float, TaskSeq]
"""Lines are served from the lowest rank; the second part is their first task's number."""


class Ordering(Protocol):
    """A policy says which tasks stand in one line, and which line is served first."""

    @property
    def name(self) -> str: ...

    def key(self, terms: Terms) -> OrderKey:
        """Return what tasks with these terms stand in line under."""
        ...

    def rank(self, key: OrderKey, head: TaskSeq) -> Rank:
        """Return the place of a line among all lines, given the number of its first task."""
        ...


class PriorityOrdering:
    """Higher priority first, then first come. Cost: O(1)."""

    name = "priority"

    def key(self, terms: Terms) -> OrderKey:
        return terms.priority

    def rank(self, key: OrderKey, head: TaskSeq) -> Rank:
        return (-key, head)
