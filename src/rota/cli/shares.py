"""Divides what a machine has among the workers on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CORE", "divided"]

CORE: Final = 1000
"""Millicores: what a task wants if it does not say."""


def divided(resources: Mapping[str, int], workers: int) -> list[dict[str, int]]:
    """Divide amounts among workers, in their order; what is left over goes to the first.

    Cores stay whole while there are enough of them: half a core would run nothing of the usual size.

    Args:
        resources: The amounts by name.
        workers: How many there are.

    >>> divided({"cpu": 3000, "memory": 1001}, 2)
    [{'cpu': 2000, 'memory': 501}, {'cpu': 1000, 'memory': 500}]
    """
    shares: list[dict[str, int]] = [{} for _ in range(workers)]
    for name, amount in resources.items():
        unit = CORE if name == "cpu" and amount >= CORE * workers else 1
        whole, rest = divmod(amount // unit, workers)
        for index, share in enumerate(shares):
            share[name] = (whole + (index < rest)) * unit + (amount % unit if index == 0 else 0)
    return shares
