"""Amounts of resources as people say them: a core is 1, not 1,000, and memory has a unit.

The core reckons in millicores and MiB. Whoever asked for ``--cpu 64`` and reads "needs cpu 64,000" wonders
what went wrong on the way. Nothing is rounded here: what a sentence advises must work when it is typed, and two
amounts that differ must look different.
"""

from __future__ import annotations

__all__ = ["amount", "quantity"]


def amount(name: str, count: int) -> str:
    """Return an amount of a resource with what it is of.

    >>> amount("cpu", 1500), amount("cpu", 1000), amount("memory", 2048), amount("gpu", 2), amount("disk", 5000)
    ('1.5 cores', '1 core', '2 GiB memory', '2 GPUs', '5,000 disk')
    >>> amount("gpu_memory", 16_000)
    '16,000 MiB GPU memory'
    """
    match name:
        case "cpu":
            unit = "core" if count == 1000 else "cores"
        case "gpu":
            unit = "GPU" if count == 1 else "GPUs"
        case "gpu_memory":
            unit = "GPU memory"
        case _:
            unit = name
    return f"{quantity(name, count)} {unit}"


def quantity(name: str, count: int) -> str:
    """Return the number alone, exactly.

    >>> quantity("cpu", 1500), quantity("cpu", 64_000), quantity("disk", 5000)
    ('1.5', '64', '5,000')
    >>> quantity("memory", 8192), quantity("memory", 1536), quantity("memory", 12_083), quantity("memory", 0)
    ('8 GiB', '1.5 GiB', '12,083 MiB', '0 MiB')
    """
    if name == "cpu":
        return f"{count / 1000:,.3f}".rstrip("0").removesuffix(".")
    if name not in {"memory", "gpu_memory"}:
        return f"{count:,}"
    if count < 1024 or count % 512:
        return f"{count:,} MiB"
    return f"{count / 1024:,.1f}".removesuffix(".0") + " GiB"
