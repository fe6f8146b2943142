"""Finding one of several things by a name that somebody typed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from rota.core.errors import BadRequest

__all__ = ["check_amount", "pick"]

T = TypeVar("T")


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
        raise BadRequest(f"{what} is {value:g}: it must be {least:,g} to {most:,g}")
