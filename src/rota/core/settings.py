"""What operators set at run time: taken in, kept by the store, and put into effect at once."""

from __future__ import annotations

from collections.abc import Iterable

from rota.core.commands import SetLimit, SetQueue, SetReservation
from rota.core.effects import SettingDone
from rota.core.limits import LIMIT_KIND
from rota.core.model import Setting
from rota.core.queues import QUEUE_KIND, QueueSettings
from rota.core.reservations import RESERVATION_KIND, Reservation
from rota.core.state import State
from rota.core.timers import ReservationDue

__all__ = ["Settings"]


class Settings:
    """Changes settings, and stirs what they may let go on."""

    def __init__(self, state: State) -> None:
        self._state = state

    def restore(self, settings: Iterable[Setting]) -> None:
        """Take in what the store has kept. A kind that a newer version has made is left alone."""
        for setting in settings:
            if setting.kind == QUEUE_KIND:
                self._state.queues.restore(setting)
            elif setting.kind == LIMIT_KIND:
                self._state.limits.restore(setting)
            elif setting.kind == RESERVATION_KIND:
                self._watch(setting.name, self._state.reservations.restore(setting))

    def set_queue(self, command: SetQueue) -> None:
        """Give a queue other settings, or none."""
        state = self._state
        existed = command.name in state.queues.set_names
        queue = state.queues.get(command.name)
        queue.change(command.settings or QueueSettings())
        if command.settings is None:
            state.queues.set_names.pop(command.name, None)
            self._drop(QUEUE_KIND, command.name)
        else:
            state.queues.set_names[command.name] = None
            self._keep(queue.setting())
        state.cluster.queue_changed(queue)
        state.notes.replies.append((command.reply_to, SettingDone(existed)))

    def set_limit(self, command: SetLimit) -> None:
        """Say how much there is of a limit; or remove it, if no unfinished task names it."""
        state = self._state
        limit = state.limits.find(command.name)
        if command.size is None:
            self._remove_limit(command)
            return
        changed = state.limits.set(command.name, command.size)
        self._keep(changed.setting())
        state.cluster.stirred.update(changed.rooms)
        changed.rooms.clear()
        state.notes.replies.append((command.reply_to, SettingDone(limit is not None)))

    def set_reservation(self, command: SetReservation) -> None:
        """Reserve from now on, or for later, under a name that is free; or end a reservation."""
        state = self._state
        existed = state.reservations.find(command.name) is not None
        problem = None
        if command.reservation is None:
            self._end(command.name)
        elif existed:
            problem = "end it first, or choose another name"
        else:
            self._keep(state.reservations.set(command.name, command.reservation))
            self._watch(command.name, command.reservation)
        state.notes.replies.append((command.reply_to, SettingDone(existed, problem)))

    def reservation_due(self, timer: ReservationDue) -> None:
        """Forget a reservation that is over; one that begins is put in force by the pass that follows."""
        state = self._state
        if timer.name in state.reservations.over(state.wall):
            self._end(timer.name)

    # Helpers

    def _keep(self, setting: Setting) -> None:
        self._state.notes.changes.settings.append(setting)

    def _drop(self, kind: str, name: str) -> None:
        """Let the store forget a setting; also one of this turn, which it would write after that."""
        changes = self._state.notes.changes
        changes.settings = [one for one in changes.settings if (one.kind, one.name) != (kind, name)]
        changes.settings_gone.append((kind, name))

    def _end(self, name: str) -> None:
        if self._state.reservations.remove(name):
            self._drop(RESERVATION_KIND, name)

    def _watch(self, name: str, reservation: Reservation) -> None:
        for at in (reservation.start_at, reservation.end_at):
            self._state.timers.at_wall(at, ReservationDue(name))

    def _remove_limit(self, command: SetLimit) -> None:
        state = self._state
        existed = state.limits.find(command.name) is not None
        named = sum(any(name == command.name for name, _ in task.terms.limits) for task in state.tasks.values())
        calendars = state.calendars.naming_limit(command.name)
        problem = f"{named:,} unfinished tasks name it: cancel them, or let them end" if named else None
        if calendars:
            problem = f"calendar {calendars[0]} names it: remove it first, or have it say something else"
        if existed and problem is None:
            state.limits.remove(command.name)
            self._drop(LIMIT_KIND, command.name)
        state.notes.replies.append((command.reply_to, SettingDone(existed, problem)))
