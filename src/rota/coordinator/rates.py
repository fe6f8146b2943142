"""How much happens a second, over the last ten."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["WINDOW_S", "Rates"]

WINDOW_S: Final = 10.0


class Rates:
    """Differences of counters, sampled about once a second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque()

    def sample(self, now: float, **counts: int) -> None:
        """Note what the counters say now, in steady seconds."""
        if self._samples and any(counts[name] < last for name, last in self._samples[-1][1].items()):
            self._samples.clear()  # the state was loaded anew and counts from zero
        self._samples.append((now, counts))
        while self._samples[0][0] < now - WINDOW_S:
            self._samples.popleft()

    def per_second(self) -> dict[str, float]:
        """Return the rate of each counter, 0.0 where there is nothing to compare with."""
        if not self._samples:
            return {}
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        seconds = last_at - first_at
        return {name: round((last[name] - first[name]) / seconds, 1) if seconds else 0.0 for name in last}
