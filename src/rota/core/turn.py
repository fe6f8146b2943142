"""The order in which a turn's effects are carried out, as a pure protocol over ports.

A turn is: apply commands, save what changed, and only then carry out the rest, in this order:

1. replies (a client hears "accepted" after the commit that records it),
2. messages to workers (nothing runs that is not on the record),
3. publication (an event is seen after what it tells of is durable),
4. timers.

One save is under way at a time. Meanwhile only heartbeats are applied, because they save
nothing. If the save fails nothing of the turn is carried out: those who wait are refused, and
the scheduler, whose state is now ahead of the record, must be dropped and loaded anew.

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
        # What came due while nobody led is due now, even if nobody ever says a word.
        performer.wake_at(scheduler.state.now)

    @property
    def is_saving(self) -> bool:
        """Whether a save is under way."""
        return self._saving is not None

    def begin(self, commands: Sequence[Command], *, now: float, wall: float) -> Changes | None:
        """Apply commands. Returns what must be saved before `finish`; ``None`` if the turn is over already."""
        assert not self.is_saving
        effects = self.scheduler.apply(commands, now=now, wall=wall)
        if effects and isinstance(effects[0], Save):
            self._saving = effects
            return effects[0].changes
        self._perform(effects)
        return None

    def meanwhile(self, beats: Sequence[WorkerBeat], *, now: float, wall: float) -> None:
        """Answer heartbeats while a save is under way."""
        assert self._saving is not None
        effects = self.scheduler.apply_unsaved(beats, now=now, wall=wall)
        assert not any(isinstance(effect, Save) for effect in effects)
        self._perform([effect for effect in effects if not isinstance(effect, WakeAt)])
        # When to look again may have changed; nobody can look before the save is over.
        self._saving += [effect for effect in effects if isinstance(effect, WakeAt)]

    def finish(self) -> None:
        """Carry out the turn: its changes are on the record."""
        assert self._saving is not None
        effects, self._saving = self._saving, None
        self.number += 1
        self._perform(effects)

    def abandon(self, error: RotaError) -> None:
        """Refuse all who wait for the turn: its changes are not on the record, and never will be."""
        assert self._saving is not None
        effects, self._saving = self._saving, None
        for effect in effects:
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
