"""How long tasks take: distributions with a mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Protocol

from rota.workloads.named import check_amount, pick

__all__ = ["DURATIONS", "Durations", "Exponential", "Fixed", "LogNormal", "Pareto", "Uniform", "make_durations"]

MEAN_S_MAX: Final = 366 * 86_400.0


class Durations(Protocol):
    """A distribution of seconds."""

    name: ClassVar[str]

    def draw(self, rng: random.Random) -> float:
        """Draw one."""
        ...


class _WithMean:
    def __init__(self, *, mean_s: float) -> None:
        self.mean_s = mean_s


class Fixed(_WithMean):
    """Each the same."""

    name: ClassVar[str] = "fixed"

    def draw(self, rng: random.Random) -> float:
        del rng
        return self.mean_s


class Uniform(_WithMean):
    """Anything from nothing to twice the mean."""

    name: ClassVar[str] = "uniform"

    def draw(self, rng: random.Random) -> float:
        return 2.0 * self.mean_s * rng.random()


class Exponential(_WithMean):
    """Mostly short, a few several times the mean."""

    name: ClassVar[str] = "exponential"

    def draw(self, rng: random.Random) -> float:
        return rng.expovariate(1.0 / self.mean_s) if self.mean_s else 0.0


class LogNormal(_WithMean):
    """As jobs of real clusters are: most far below the mean, some ten times it."""

    name: ClassVar[str] = "lognormal"

    SIGMA: ClassVar[float] = 1.2

    def draw(self, rng: random.Random) -> float:
        # exp(N(mu, sigma)) has the mean exp(mu + sigma² / 2).
        return self.mean_s * rng.lognormvariate(-(self.SIGMA**2) / 2, self.SIGMA)


class Pareto(_WithMean):
    """A heavy tail: a few tasks are most of the work. Bounded at a thousand times the shortest."""

    name: ClassVar[str] = "pareto"

    ALPHA: ClassVar[float] = 1.5
    RANGE: ClassVar[float] = 1000.0

    def __init__(self, *, mean_s: float) -> None:
        super().__init__(mean_s=mean_s)
        alpha, span = self.ALPHA, self.RANGE
        self._tail = 1.0 - span**-alpha
        mean_of_shortest = alpha / (alpha - 1.0) * (1.0 - span ** (1.0 - alpha)) / self._tail
        self._shortest_s = mean_s / mean_of_shortest

    def draw(self, rng: random.Random) -> float:
        return float(self._shortest_s * (1.0 - rng.random() * self._tail) ** (-1.0 / self.ALPHA))


_Make = Callable[..., Durations]

DURATIONS: Final[Mapping[str, _Make]] = MappingProxyType(
    {each.name: each for each in (Fixed, Uniform, Exponential, LogNormal, Pareto)}
)
"""All distributions by name."""


def make_durations(name: str, *, mean_s: float) -> Durations:
    """Make a distribution.

    Raises:
        BadRequest: There is none of this name, or the mean can't be.
    """
    make = pick("durations", name, DURATIONS)
    check_amount("the mean duration", mean_s, least=0.0, most=MEAN_S_MAX)
    return make(mean_s=mean_s)
