"""A process that can't be removed.

Traced from outside it stays a zombie for its parent, as one in state D stays alive.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

__all__ = ["traced"]

PTRACE_SEIZE: Final = 0x4206

PROGRAM: Final = f"""
import ctypes, sys, time
print(ctypes.CDLL(None).ptrace({PTRACE_SEIZE}, int(sys.argv[1]), None, None), flush=True)
time.sleep(60)
"""


@contextmanager
def traced(pid: int) -> Iterator[None]:
    """Have a process that traces ``pid`` and never looks at it, while the block runs."""
    tracer = subprocess.Popen([sys.executable, "-c", PROGRAM, str(pid)], stdout=subprocess.PIPE)
    assert tracer.stdout is not None
    try:
        with tracer.stdout as answer:
            if answer.readline() != b"0\n":
                pytest.skip("this system lets nobody trace a process that is not its child")
        yield
    finally:
        tracer.kill()
        tracer.wait()
