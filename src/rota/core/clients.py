"""Sessions of the SDK: which of their numbered tasks are accepted, so that what is sent again is known.

A session is one small record, committed with the tasks it tells of. Numbers arrive in order, so one figure
says what was decided; ranges say what became of those whose ids the client may not have been told yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rota.core.commands import ClientArrived, DraftGroup, SubmitNumbered
from rota.core.effects import NumbersKnown
from rota.core.intake import Intake
from rota.core.model import ClientRecord, NumberRange
from rota.core.state import State

__all__ = ["CLIENT_KEEP_S", "Clients"]

CLIENT_KEEP_S: Final = 7 * 86_400.0
"""How long a session is remembered after its last submission: as long as what it submitted, by default."""

SWEEP_MAX: Final = 64
"""Sessions looked at for their age whenever one arrives: the oldest are at the front."""


class Clients:
    """Lets numbered tasks in, each once."""

    def __init__(self, state: State, intake: Intake) -> None:
        self._state = state
        self._intake = intake

    def restore(self, records: Iterable[ClientRecord]) -> None:
        """Take in the sessions that the store knows, those seen longest ago first."""
        for record in sorted(records, key=lambda record: (record.seen_at, record.id)):
            self._state.clients[record.id] = record

    def arrived(self, command: ClientArrived) -> None:
        """Tell a client what became of its numbers."""
        self._sweep()
        record = self._state.clients.get(command.session)
        if record is None:
            known = NumbersKnown(0, [])
        else:
            known = NumbersKnown(record.accepted_through, _unconfirmed(record.ranges, command.known_through))
        self._state.notes.replies.append((command.reply_to, known))

    def submit(self, command: SubmitNumbered) -> None:
        """Accept what was not accepted before."""
        state = self._state
        record = state.clients.pop(command.session, None) or ClientRecord(command.session, 0, (), state.wall)
        made: list[NumberRange] = []
        number, through = command.number, record.accepted_through
        for group in command.groups:
            skipped = min(max(through + 1 - number, 0), group.count)
            if skipped < group.count:
                made += self._accept(group, number, skipped=skipped)
                through = number + group.count - 1
            number += group.count
        ranges = _merged([*_unconfirmed(record.ranges, command.known_through), *made])
        # To the end of the order: the oldest are swept from the front.
        known = state.clients[command.session] = ClientRecord(command.session, through, tuple(ranges), state.wall)
        state.notes.clients[command.session] = known
        # What was sent again was accepted before: then tell of all that the client has not confirmed.
        told = made if record.accepted_through < command.number else ranges
        state.notes.replies.append((command.reply_to, NumbersKnown(through, told)))

    def _accept(self, group: DraftGroup, number: int, *, skipped: int) -> list[NumberRange]:
        """Accept a group but for its first tasks, and say which numbers became which."""
        if group.draft is None:
            return []
        first = self._state.next_seq
        self._intake.accept_alike(group.draft, group.args[skipped:])
        return [NumberRange(number + skipped, first, group.count - skipped)]

    def _sweep(self) -> None:
        """Forget sessions that nobody has used for long."""
        state = self._state
        long_ago = state.wall - CLIENT_KEEP_S
        for session, record in list(state.clients.items())[:SWEEP_MAX]:
            if record.seen_at >= long_ago:
                break
            del state.clients[session]
            state.notes.changes.clients_gone.append(session)


def _unconfirmed(ranges: Sequence[NumberRange], known_through: int) -> list[NumberRange]:
    """Leave out what the client knows."""
    return [known for known in ranges if known.number + known.count - 1 > known_through]


def _merged(ranges: Iterable[NumberRange]) -> list[NumberRange]:
    """Join ranges that go on where the one before ends.

    >>> _merged([NumberRange(1, 10, 2), NumberRange(3, 12, 1), NumberRange(4, 20, 1)])
    [NumberRange(number=1, seq=10, count=3), NumberRange(number=4, seq=20, count=1)]
    """
    merged: list[NumberRange] = []
    for one in ranges:
        if merged:
            last = merged[-1]
            if last.number + last.count == one.number and last.seq + last.count == one.seq:
                merged[-1] = NumberRange(last.number, last.seq, last.count + one.count)
                continue
        merged.append(one)
    return merged
