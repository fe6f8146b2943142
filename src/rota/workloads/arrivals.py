"""When tasks come: patterns of arrivals, each with the same mean rate, spread over its time in another way.

A pattern is a rate that varies with time, and exactly as many tasks come as its mean says. They come where the integral
of the rate passes whole numbers, so as evenly as the pattern lets them; only `Poisson` draws by lot.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Protocol

from rota.workloads.named import check_amount, pick

__all__ = [
    "ARRIVALS",
    "ArrivalPattern",
    "Bursty",
    "Poisson",
    "RampDown",
    "RampUp",
    "Sinusoidal",
    "Steady",
    "make_arrivals",
]

RATE_MAX: Final = 1e7
DURATION_S_MAX: Final = 10 * 366 * 86_400.0


class ArrivalPattern(Protocol):
    """A pattern: ``rate`` tasks a second on average, over ``duration_s``."""

    name: ClassVar[str]

    def times(self, rng: random.Random) -> Iterator[float]:
        """Yield when tasks come, in seconds from the start, in order."""
        ...


class _Pattern:
    """What all patterns are made of: how many have come by when, and when so many have."""

    def __init__(self, *, rate: float, duration_s: float) -> None:
        self.rate = rate
        self.duration_s = duration_s

    def times(self, rng: random.Random) -> Iterator[float]:
        del rng
        total = self.rate * self.duration_s
        for number in range(round(total)):
            yield self.duration_s * self.part_of_time((number + 0.5) / total)

    def part_of_time(self, part: float) -> float:
        """The part of the time after which such a part of all tasks has come."""
        raise NotImplementedError


class Steady(_Pattern):
    """One task after another, evenly."""

    name: ClassVar[str] = "steady"

    def part_of_time(self, part: float) -> float:
        return part


class Poisson(_Pattern):
    """Independent of each other, as from many people: a Poisson process of which it is known how many come."""

    name: ClassVar[str] = "poisson"

    def times(self, rng: random.Random) -> Iterator[float]:
        # So many independent uniform times in order, one after another: the next is the least of those that are left.
        # Bentley and Saxe, "Generating sorted lists of random numbers", 1980.
        left, passed = round(self.rate * self.duration_s), 0.0
        while left:
            passed += (1.0 - passed) * (1.0 - (1.0 - rng.random()) ** (1.0 / left))
            left -= 1
            yield self.duration_s * passed


class Bursty(_Pattern):
    """Quiet, and then many at once: a fifth of the time has four fifths of the tasks, in five bursts."""

    name: ClassVar[str] = "bursty"

    BURSTS: ClassVar[int] = 5
    PART_OF_TIME: ClassVar[float] = 0.2
    PART_OF_TASKS: ClassVar[float] = 0.8

    def part_of_time(self, part: float) -> float:
        cycle, within = divmod(part * self.BURSTS, 1.0)
        quiet = 1.0 - self.PART_OF_TASKS
        if within < quiet:
            passed = within / quiet * (1.0 - self.PART_OF_TIME)
        else:
            passed = 1.0 - self.PART_OF_TIME + (within - quiet) / self.PART_OF_TASKS * self.PART_OF_TIME
        return (cycle + passed) / self.BURSTS


class RampUp(_Pattern):
    """From nothing to twice the mean rate."""

    name: ClassVar[str] = "ramp-up"

    def part_of_time(self, part: float) -> float:
        return math.sqrt(part)


class RampDown(_Pattern):
    """From twice the mean rate to nothing."""

    name: ClassVar[str] = "ramp-down"

    def part_of_time(self, part: float) -> float:
        return 1.0 - math.sqrt(1.0 - part)


class Sinusoidal(_Pattern):
    """Days and nights: four waves between nothing and twice the mean rate."""

    name: ClassVar[str] = "sinusoidal"

    WAVES: ClassVar[int] = 4
    STEPS: ClassVar[int] = 40
    """Of the bisection: to the last bit of a double."""

    def part_of_time(self, part: float) -> float:
        wave, within = divmod(part * self.WAVES, 1.0)
        low, high = 0.0, 1.0
        for _ in range(self.STEPS):
            middle = (low + high) / 2
            if middle - math.sin(math.tau * middle) / math.tau < within:
                low = middle
            else:
                high = middle
        return (wave + low) / self.WAVES


_Make = Callable[..., ArrivalPattern]

ARRIVALS: Final[Mapping[str, _Make]] = MappingProxyType(
    {pattern.name: pattern for pattern in (Steady, Bursty, RampUp, RampDown, Sinusoidal, Poisson)}
)
"""All patterns by name."""


def make_arrivals(name: str, *, rate: float, duration_s: float) -> ArrivalPattern:
    """Make a pattern.

    Args:
        name: One of `ARRIVALS`.
        rate: Tasks a second, on average.
        duration_s: For how long they come.

    Raises:
        BadRequest: There is no such pattern, or a number that can't be.
    """
    make = pick("arrivals", name, ARRIVALS)
    check_amount("rate", rate, least=1e-6, most=RATE_MAX)
    check_amount("duration", duration_s, least=0.001, most=DURATION_S_MAX)
    return make(rate=rate, duration_s=duration_s)
