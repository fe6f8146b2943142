"""Divides what a machine has among the workers on it, and finds out what it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["CORE", "divided", "machine_resources"]

CORE: Final = 1000
"""Millicores: what a task wants if it does not say."""

_MIB: Final = 1 << 20


def machine_resources() -> dict[str, int]:
    """Return the cores that we may use, in millicores, and the memory of the machine, in MiB."""
    import psutil  # noqa: PLC0415 - only `rota up` needs it

    return {"cpu": CORE * len(os.sched_getaffinity(0)), "memory": psutil.virtual_memory().total // _MIB}


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
