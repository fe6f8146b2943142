"""Simulates random walks, and sums up how far they came: on Rota."""

from __future__ import annotations

import random
from dataclasses import dataclass

from rota import Client


@dataclass
class Walk:
    """Where a walk has come to."""

    seed: int
    distance: int


def walk(seed: int, steps: int) -> Walk:
    """Go so many steps back or forth."""
    rng = random.Random(seed)
    return Walk(seed, sum(rng.choice((-1, 1)) for _ in range(steps)))


def summary(walks: list[Walk]) -> str:
    mean = sum(abs(one.distance) for one in walks) / len(walks)
    farthest = max(walks, key=lambda one: abs(one.distance))
    return f"{len(walks)} walks, {mean:.1f} steps away on average, {farthest.distance} at most (seed {farthest.seed})"


def main() -> None:
    with Client.local(workers=2) as client:
        walks = list(client.map(walk, range(100), [1000] * 100))
        print(client.submit(summary, walks).result())

        short = [client.submit(walk, seed, steps=10) for seed in range(5)]
        print([one.result().distance for one in short])


if __name__ == "__main__":
    main()
