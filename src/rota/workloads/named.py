"""Finding one of several things by a name that somebody typed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, TypeVar

from rota.core.errors import BadRequest

__all__ = ["check_amount", "pick", "shown_amount"]

T = TypeVar("T")

SMALL: Final = 1e-9
LARGE: Final = 1e16
"""Beyond these, digits say less than an exponent does."""


def pick(what: str, name: str, known: Mapping[str, T]) -> T:
    """Return what has a name.

    Raises:
        BadRequest: There is no such thing; names the near one, or all.
    """
    found = known.get(name)
    if found is None:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise BadRequest(f"{what}: there is no {name!r}; {hint}")
    return found


def check_amount(what: str, value: float, *, least: float, most: float) -> None:
    """Raise `BadRequest` unless a number is within its bounds."""
    if not (math.isfinite(value) and least <= value <= most):
        bounds = f"{shown_amount(least)} to {shown_amount(most)}"
        raise BadRequest(f"{what} is {shown_amount(value)}: it must be {bounds}")


def shown_amount(value: float) -> str:
    """Write a number as people do.

    >>> shown_amount(100_000_000.0), shown_amount(0.000_001), shown_amount(float("nan"))
    ('100,000,000', '0.000001', 'nan')
    """
    if not SMALL < abs(value) < LARGE:
        return f"{value:g}"
    return f"{int(value):,}" if value == int(value) else f"{value:,.9f}".rstrip("0")
