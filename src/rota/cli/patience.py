"""Bearing with a coordinator that is away for a moment: it restarts in seconds, and tasks go on meanwhile."""

from __future__ import annotations

import math
import time
from typing import Final

import click

from rota.core.errors import RotaError

__all__ = ["Patience"]

OUTAGE_S_MAX: Final = 60.0
"""The coordinator's own grace after a start: who is away for longer will not be back soon."""

PAUSE_S: Final = 0.5


class Patience:
    """How long one wait has been borne. Said once an outage, on stderr, unless it is quiet.

    Args:
        is_quiet: Say nothing.
        until: When the waiting is over anyway, on the monotonic clock: no pause lasts longer.
    """

    def __init__(self, *, is_quiet: bool = False, until: float = math.inf) -> None:
        self._is_quiet = is_quiet
        self._until = until
        self._gives_up_at: float | None = None

    @property
    def is_tried(self) -> bool:
        """Whether the last try was in vain."""
        return self._gives_up_at is not None

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._until

    def bear(self, error: RotaError) -> None:
        """Pause before the next try.

        Raises:
            RotaError: The error itself: it can't be mended by waiting, or has been borne for too long.
        """
        if not error.retryable:
            raise error
        if self._gives_up_at is None:
            self._gives_up_at = time.monotonic() + OUTAGE_S_MAX
            if not self._is_quiet:
                click.echo(f"rota: {error}; trying for {OUTAGE_S_MAX:g} s", err=True)
        if time.monotonic() >= self._gives_up_at:
            raise error
        time.sleep(max(0.0, min(PAUSE_S, self._until - time.monotonic())))

    def relax(self) -> None:
        """The coordinator has answered."""
        self._gives_up_at = None
