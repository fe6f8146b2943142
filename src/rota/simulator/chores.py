"""What attempts do in a simulated slot: how long they take and how they end."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from rota.core.model import Cause
from rota.core.protocol import Assignment
from rota.core.spec import TaskSpec

__all__ = ["Chore", "Chores", "chore_of_spec"]


class Chore(Struct, frozen=True, gc=False):
    """One attempt: it runs for ``run_s`` seconds at full speed, and ends with ``cause``; ``None`` is success."""

    run_s: float
    cause: Cause | None = None


class Chores(Protocol):
    """Knows of every assignment what it does."""

    def chore_of(self, given: Assignment) -> Chore:
        """Say what an attempt does. Asked once for each that is put into a lane."""
        ...


def chore_of_spec(spec: TaskSpec) -> Chore:
    """What a task of kind ``workload`` does: its time, unless its time-out is over before."""
    assert spec.workload is not None, "this is no synthetic work"
    run_s = spec.workload.seconds
    if spec.timeout is not None and run_s > spec.timeout:
        return Chore(spec.timeout, Cause.TIMEOUT)
    return Chore(run_s)
