"""Large values: 1 MiB as argument and another 1 MiB as result, through one worker on the same machine.

What is counted: the bytes of the argument and those of the result, so 2 MiB a task, by the time from the
first submit until the client has compared the last result with what it must be. No value occurs twice, so none
can be spared for having been there before. The yardsticks count each byte that they read once: a copy within
memory that the caches hold, and SHA-256, both by one core.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

import numpy as np

from benchmarks.functions import LANES, OFFER
from benchmarks.harness import Result, cluster, median_of, timed
from benchmarks.work import Array, connect, flip_array, flip_bytes, wait_for_lanes

__all__ = ["run"]

VALUE_BYTES: Final = 1 << 20
SEED: Final = 3
WARM_UP: Final = 8

Value = TypeVar("Value", Array, bytes)


def run(*, quick: bool) -> list[Result]:
    """Alternate arrays, bytes and the yardsticks; contents are made before the time counts."""
    count, rounds = (32, 3) if quick else (100, 5)
    chance = np.random.default_rng(SEED)
    arrays, strings, copies, digests = [], [], [], []
    with cluster(workers=1, arguments=OFFER) as running, connect(running.url) as client:
        wait_for_lanes(client, LANES)
        for one_round in range(rounds + 1):
            of_arrays = _make_arrays(chance, WARM_UP if one_round == 0 else count)
            of_bytes = [array.tobytes() for array in _make_arrays(chance, len(of_arrays))]
            array_rate = megabytes_per_second(client, flip_array, of_arrays, np.array_equal)
            bytes_rate = megabytes_per_second(client, flip_bytes, of_bytes, bytes.__eq__)
            if one_round > 0:
                arrays.append(array_rate)
                strings.append(bytes_rate)
                copies.append(_rate(len(of_arrays), timed(partial(_copy_all, of_arrays))))
                digests.append(_rate(len(of_bytes), timed(partial(_hash_all, of_bytes))))
    shares = [one / digest for one, digest in zip(arrays, digests, strict=True)]
    return [
        median_of("bare copy in memory, 1 MiB each, one core", copies, "MB/s"),
        median_of("bare SHA-256, 1 MiB each, one core", digests, "MB/s"),
        median_of("arrays of 1 MiB, argument and result counted", arrays, "MB/s", goal="500"),
        median_of("  of bare SHA-256", shares, "ratio"),
        median_of("bytes of 1 MiB, argument and result counted", strings, "MB/s", goal="500"),
    ]


def megabytes_per_second(
    client: Executor, flip: Callable[[Value], Value], values: list[Value], is_same: Callable[[Value, Value], bool]
) -> float:
    """Send every value, get its flipped one, compare; return how fast argument and result went by."""
    expected = [flip(value) for value in values]
    began = time.perf_counter()
    futures = [client.submit(flip, value) for value in values]
    are_right = all(is_same(future.result(), right) for future, right in zip(futures, expected, strict=True))
    seconds = time.perf_counter() - began
    if not are_right:
        raise SystemExit("a large value came back changed")
    return _rate(2 * len(values), seconds)


def _make_arrays(chance: np.random.Generator, count: int) -> list[Array]:
    return [chance.integers(0, 256, VALUE_BYTES, dtype=np.uint8) for _ in range(count)]


def _copy_all(values: list[Array]) -> None:
    room = np.empty_like(values[0])
    for value in values:
        np.copyto(room, value)


def _hash_all(values: list[bytes]) -> None:
    for value in values:
        hashlib.sha256(value)


def _rate(values: int, seconds: float) -> float:
    return values * VALUE_BYTES / seconds / 1e6
