"""Bearing with a coordinator that is away for a moment: it restarts in seconds, and tasks go on meanwhile."""

from __future__ import annotations

import time
from typing import Final

import click

from rota.core.errors import RotaError

__all__ = ["Patience"]

OUTAGE_S_MAX: Final = 60.0
"""The coordinator's own grace after a start: who is away for longer will not be back soon."""

PAUSE_S: Final = 0.5


class Patience:
    """How long one wait has been borne. Said once an outage, on stderr, unless it is quiet."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._gives_up_at: float | None = None

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
        time.sleep(PAUSE_S)

    def relax(self) -> None:
        """The coordinator has answered."""
        self._gives_up_at = None
