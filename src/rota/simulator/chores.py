"""What attempts do in a simulated slot: how long they take and how they end."""

from __future__ import annotations

import math
from typing import Protocol

from msgspec import Struct

from rota.core.model import Cause
from rota.core.protocol import Assignment
from rota.core.spec import TaskSpec

__all__ = ["Chore", "Chores", "chore_of_spec"]


class Chore(Struct, frozen=True, gc=False):
    """One attempt: it runs for ``run_s`` seconds at full speed, and ends with ``cause``; ``None`` is success.

    After ``timeout_s``, at whatever speed, it is stopped.
    """

    run_s: float
    cause: Cause | None = None
    timeout_s: float = math.inf

    def at_speed(self, speed: float) -> tuple[float, Cause | None]:
        """How long it runs there, and how it ends."""
        run_s = self.run_s / speed
        return (run_s, self.cause) if run_s <= self.timeout_s else (self.timeout_s, Cause.TIMEOUT)


class Chores(Protocol):
    """Knows of every assignment what it does."""

    def chore_of(self, given: Assignment) -> Chore:
        """Say what an attempt does. Asked once for each that is put into a lane."""
        ...


def chore_of_spec(spec: TaskSpec) -> Chore:
    """What a task of kind ``workload`` does: its time, within its time-out."""
    assert spec.workload is not None, "this is no synthetic work"
    return Chore(spec.workload.seconds, timeout_s=math.inf if spec.timeout is None else spec.timeout)
