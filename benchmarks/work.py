"""The functions that benchmarks run, and the client that sends them.

They travel by value: workers need not be able to import this package.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from concurrent.futures import Executor
from typing import Final

import cloudpickle
import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "connect", "flip_array", "flip_bytes", "nap", "nap_pid", "noop", "wait_for_lanes"]

Array = NDArray[np.uint8]

LANES_S_MAX: Final = 60.0
"""For a worker to warm its lanes up, on a machine that is busy."""

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def connect(url: str) -> Executor:
    """Return a client of the cluster: an executor."""
    client: Executor = importlib.import_module("rota").Client(url)
    return client


def noop(number: int) -> int:
    """What the peers' scripts run, too."""
    return number


def nap(seconds: float) -> float:
    """Sleep, and cost no processor."""
    time.sleep(seconds)
    return seconds


def nap_pid(_number: int) -> int:
    """Tell which process ran this, and leave time for another one to take the next."""
    time.sleep(0.02)
    return os.getpid()


def flip_array(values: Array) -> Array:
    """Another array than the argument, so that a result can't pass for a value that is there already."""
    return np.bitwise_xor(values, np.uint8(1))


def flip_bytes(data: bytes) -> bytes:
    """Other bytes than the argument, as above: the first one changes."""
    return bytes((data[0] ^ 1,)) + data[1:]


def wait_for_lanes(client: Executor, lanes: int) -> None:
    """Return once so many processes have answered: from then on all are warm."""
    give_up_at = time.monotonic() + LANES_S_MAX
    seen: set[int] = set()
    while len(seen) < lanes:
        seen.update(client.map(nap_pid, range(4 * lanes)))
        if time.monotonic() > give_up_at:
            raise SystemExit(f"only {len(seen)} of {lanes} lanes answered in {LANES_S_MAX:g} s")
