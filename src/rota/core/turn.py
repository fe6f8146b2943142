"""The order in which a turn's effects are carried out, as a pure protocol over ports.

A turn is: apply commands, save what changed, and only then carry out the rest, in this order:

1. replies (a client hears "accepted" after the commit that records it),
2. messages to workers (nothing runs that is not on the record),
3. publication (an event is seen after what it tells of is durable),
4. timers.

One save is under way at a time. Meanwhile heartbeats are applied, because they save nothing, and one
further turn may be: it is *ahead*. Nothing of it is carried out, and it is not saved, before the save
under way has succeeded; then its save can begin while the duties of the first are carried out, so that disk and
processor work at the same time. If a save fails nothing of its turn is carried out, nor of the one
ahead: those who wait are refused, and the scheduler, whose state is now ahead of the record, must be dropped and
loaded anew.

The coordinator drives this with a real clock and store, the simulator with virtual ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

from rota.core.changes import Changes
from rota.core.commands import Command, ReplyTo, SessionId, WorkerBeat
from rota.core.effects import Answer, Disconnect, Effect, Notice, Reply, Save, Send, WakeAt
from rota.core.errors import RotaError
from rota.core.protocol import FromCoordinator
from rota.core.scheduler import Scheduler

__all__ = ["Performer", "Turn"]


class Performer(Protocol):
    """Whoever carries out effects. What fails here comes back as a command, never as an exception."""

    def reply(self, to: ReplyTo, answer: Answer) -> None: ...

    def refuse(self, to: ReplyTo, error: RotaError) -> None: ...

    def send(self, session: SessionId, message: FromCoordinator) -> None: ...

    def disconnect(self, session: SessionId, reason: str) -> None: ...

    def publish(self, number: int, changes: Changes) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def wake_at(self, at: float) -> None: ...


class Turn:
    """Drives one scheduler, turn by turn.

    ``number`` is that of the last commit; the one under way, if any, is ``number + 1``. It asks at once
    for a first turn.
    """

    def __init__(self, scheduler: Scheduler, performer: Performer, *, number: int) -> None:
        self.scheduler = scheduler
        self.number = number
        self._performer = performer
        self._saving: list[Effect] | None = None
        self._ahead: list[Effect] | None = None
        self._to_perform: list[list[Effect]] = []
        # What came due while nobody led is due now, even if nobody ever says a word.
        performer.wake_at(scheduler.state.now)

    @property
    def is_saving(self) -> bool:
        """Whether a save is under way."""
        return self._saving is not None

    @property
    def is_ahead(self) -> bool:
        """Whether a turn waits for the save under way. No other can begin then."""
        return self._ahead is not None

    def begin(self, commands: Sequence[Command], *, now: float, wall: float) -> Changes | None:
        """Apply commands.

        Returns:
            What must be saved now, before `saved`; ``None`` if nothing must, or if a save is under way already.
        """
        assert not self.is_ahead
        assert not self._to_perform
        effects = self.scheduler.apply(commands, now=now, wall=wall)
        if self._saving is not None:
            self._ahead = effects
            return None
        changes = _changes_of(effects)
        if changes is None:
            self._perform(effects)
        else:
            self._saving = effects
        return changes

    def meanwhile(self, beats: Sequence[WorkerBeat], *, now: float, wall: float) -> None:
        """Answer heartbeats while a save is under way."""
        assert self._saving is not None
        effects = self.scheduler.apply_unsaved(beats, now=now, wall=wall)
        assert _changes_of(effects) is None
        self._perform([effect for effect in effects if not isinstance(effect, WakeAt)])
        # When to look again may have changed; nobody can look before the save is over.
        last = self._saving if self._ahead is None else self._ahead
        last += [effect for effect in effects if isinstance(effect, WakeAt)]

    def saved(self) -> Changes | None:
        """Note that the changes of the turn are on the record; `perform` must follow.

        Returns:
            What the turn ahead, if there is one, must save now.
        """
        assert self._saving is not None
        self.number += 1
        self._to_perform.append(self._saving)
        following, self._saving, self._ahead = self._ahead, None, None
        if following is None:
            return None
        changes = _changes_of(following)
        if changes is None:  # its duties follow from what is on the record now
            self._to_perform.append(following)
        else:
            self._saving = following
        return changes

    def perform(self) -> None:
        """Carry out what is on the record."""
        turns, self._to_perform = self._to_perform, []
        for effects in turns:
            self._perform(effects)

    def abandon(self, error: RotaError) -> None:
        """Refuse all who wait: what the turn and the one ahead changed is not on the record, and never will be."""
        assert self._saving is not None
        abandoned = [*self._saving, *(self._ahead or ())]
        self._saving = self._ahead = None
        for effect in abandoned:
            if isinstance(effect, Reply):
                self._performer.refuse(effect.to, error)

    def _perform(self, effects: Sequence[Effect]) -> None:
        """Carry out effects, which the core gives in the order of the duties, but for what is published."""
        performer = self._performer
        changes: Changes | None = None
        wake: WakeAt | None = None
        for effect in effects:
            match effect:
                case Save():
                    changes = effect.changes
                case Reply():
                    performer.reply(effect.to, effect.answer)
                case Send():
                    performer.send(effect.session, effect.message)
                case Disconnect():
                    performer.disconnect(effect.session, effect.reason)
                case Notice():
                    performer.notice(effect)
                case WakeAt():
                    wake = effect
                case _:
                    assert_never(effect)
        if changes is not None:
            performer.publish(self.number, changes)
        if wake is not None:
            performer.wake_at(wake.at)


def _changes_of(effects: Sequence[Effect]) -> Changes | None:
    """What a turn wants saved: it comes first."""
    first = effects[0] if effects else None
    return first.changes if isinstance(first, Save) else None
