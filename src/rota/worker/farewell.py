"""How long a worker that wants to leave waits for a coordinator that it can't reach, to hand over last results."""

from __future__ import annotations

__all__ = ["Farewell"]


class Farewell:
    """Counts from when nothing runs any more and no coordinator is there, whichever comes later.

    Not from when the worker was told to leave: that may be hours before its last task ends.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it was asked since the last coordinator."""
        return self._since is not None

    def begin_anew(self) -> None:
        """A coordinator was there: the next time counts from its beginning."""
        self._since = None

    def is_over(self, now: float, *, at_most_s: float) -> bool:
        """Say whether to wait no longer. To be asked only while nothing runs and nobody is there.

        >>> farewell = Farewell()
        >>> [farewell.is_over(now, at_most_s=60.0) for now in (1000.0, 1060.0, 1060.5)]
        [False, False, True]
        >>> farewell.begin_anew()
        >>> farewell.is_over(2000.0, at_most_s=60.0)
        False
        """
        if self._since is None:
            self._since = now
        return now - self._since > at_most_s
