"""Who looks on: told of everything that happens in a simulated world, whether anybody in it is told or not."""

from __future__ import annotations

from rota.core.changes import Changes
from rota.core.commands import Command
from rota.core.effects import Answer
from rota.core.errors import RotaError
from rota.core.model import AttemptKey, Cause
from rota.core.protocol import Assignment, FromCoordinator, Report
from rota.core.scheduler import Scheduler
from rota.core.state import State
from rota.simulator.record import Record

__all__ = ["Watch"]


class Watch:
    """Looks on and does nothing. `Checker` and `Measures` overwrite what they care about.

    Where it ``is_strict`` machines look at each assignment, whether it has room there.
    """

    is_strict = False

    def count(self, what: str) -> None:
        """Count something that is shown with the run."""

    # On machines

    def attempt_started(self, worker: str, instance: str, given: Assignment) -> None:
        """Something really runs now."""

    def attempt_ended(self, worker: str, key: AttemptKey, cause: Cause | None) -> None:
        """It does not any more."""

    def stop_arrived(self, worker: str, keys: list[AttemptKey]) -> None:
        """A worker was told to end these."""

    def machine_down(self, worker: str) -> None:
        """A worker's process is gone, and all that it had."""

    # In the coordinator

    def state_loaded(self, state: State) -> None:
        """A state was loaded from the record."""

    def turn_applied(self, state: State) -> None:
        """A turn was applied, ahead of a save or not."""

    def state_changed(self, state: State, changes: Changes | None) -> None:
        """A turn was applied, and wants these changes saved, if any."""

    def recorded(self, scheduler: Scheduler) -> None:
        """All that a scheduler has decided is on the record."""

    def leader_began(self, epoch: int) -> None:
        """A process has taken the store, and will lead."""

    def leader_left(self, error: RotaError) -> None:
        """A leader's process has ended because the store is not as it left it."""

    def commit(self, before: Record, changes: Changes) -> None:
        """Changes go on record; the rows are as they were before."""

    def message_leaves(self, message: FromCoordinator) -> None:
        """A worker is told something."""

    def report_acknowledged(self, report: Report) -> None:
        """A worker may forget what it reported."""

    def answer_leaves(self, command: Command, answer: Answer) -> None:
        """A client is told something."""
