"""How long tasks of a class take: learned from what ended, used to size lines."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["CLASSES_MAX", "UNKNOWN_S", "RunTimes"]

UNKNOWN_S: Final = 1e6
"""Stands for a run time nobody has seen: longer than any line may be, finite so that sums stay sums."""

CLASSES_MAX: Final = 1_000
"""Classes remembered a shape, the latest used: names can be as many as tasks."""

WEIGHT: Final = 0.1
"""Of the newest run time in the moving average: about the last twenty count."""


OUTLIER: Final = 4.0
"""A run longer than so many means counts as so many."""

LEAST_S: Final = 0.001
"""A mean below this counts as this there: four times nothing would stay nothing for ever."""


class RunTimes:
    """Moving averages of run time by class, for one shape."""

    __slots__ = ("_mean_s",)

    def __init__(self) -> None:
        self._mean_s: OrderedDict[str, float] = OrderedDict()

    def estimate_s(self, class_key: str) -> float:
        """Seconds an attempt of this class is thought to take, `UNKNOWN_S` if none was seen."""
        return self._mean_s.get(class_key, UNKNOWN_S)

    def learn(self, class_key: str, run_s: float) -> None:
        """Take in how long an attempt took, in seconds."""
        mean_s = self._mean_s.get(class_key)
        if mean_s is None:
            if len(self._mean_s) >= CLASSES_MAX:
                self._mean_s.popitem(last=False)
            self._mean_s[class_key] = run_s
        else:
            # An outlier is bounded: one slow run in a hundred must not empty the lines of the others. If tasks
            # do get slower, a dozen runs tell, and what stands behind one of them meanwhile is recalled.
            self._mean_s[class_key] = mean_s + WEIGHT * (min(run_s, OUTLIER * max(mean_s, LEAST_S)) - mean_s)
            self._mean_s.move_to_end(class_key)
