"""Who is told how tasks end: clients on channels, by the sequence numbers of tasks.

One look at each change of a turn, after its commit: this is done for every task there is, so it is kept to about a
microsecond, and to next to nothing where nobody follows. A task has one follower as a rule; the others of those
few that have more stand in a second table.

Followers that have gone are not searched for among what they followed: they are marked, and dropped as those tasks end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final, Protocol

from rota.core.changes import Changes
from rota.core.client_protocol import Outcome, Outcomes
from rota.core.model import Progress, TaskSeq, TaskState

__all__ = ["Follower", "Followers", "outcome_of", "outcome_pieces"]

PIECE_BYTES_MAX: Final = 512 << 10
"""Of values in one message: the first of a large batch are looked at while the others are still on their way."""

MESSAGE_CHARS_MAX: Final = 4_000
"""Of the sentence in an outcome, which a worker wrote."""

_OUTCOME_BYTES: Final = 64
"""What an outcome has besides its value and its sentence, about."""

_UTF8_BYTES_A_CHARACTER: Final = 4

_value_of = attrgetter("value")
_message_of = attrgetter("message")


class Follower(Protocol):
    """Whoever wants to know. Told once a turn at most."""

    @property
    def is_gone(self) -> bool:
        """Whether there is nobody to tell any more."""
        ...

    def tell(self, ended: list[Outcome], running: list[TaskSeq]) -> None:
        """Take in what has become of tasks. Must not raise: the loop calls it."""
        ...


class Followers:
    """Who follows which tasks."""

    def __init__(self) -> None:
        self._first: dict[TaskSeq, Follower] = {}
        self._others: dict[TaskSeq, list[Follower]] = {}

    def __len__(self) -> int:
        return len(self._first)

    def add_new(self, follower: Follower, first: TaskSeq, count: int) -> None:
        """Let it follow tasks that have just been accepted, so that nobody else does: 40 ns each."""
        self._first.update(dict.fromkeys(map(TaskSeq, range(first, first + count)), follower))

    def add(self, follower: Follower, seq: TaskSeq) -> None:
        """Let it follow a task that others may follow, too. A second time changes nothing."""
        known = self._first.get(seq)
        if known is None or known.is_gone:
            if follower not in self._others.get(seq, ()):
                self._first[seq] = follower
        elif known is not follower:
            others = self._others.setdefault(seq, [])
            others[:] = [other for other in others if not other.is_gone and other is not follower]
            others.append(follower)

    def remove(self, follower: Follower, seq: TaskSeq) -> bool:
        """Let it follow a task no longer; return whether it did."""
        others = self._others.pop(seq, [])
        follows = [known for known in (self._first.pop(seq, None), *others) if known is not None]
        for known in follows:
            if known is not follower:
                self.add(known, seq)
        return follower in follows

    def publish(self, changes: Changes) -> None:
        """Tell followers what a commit brought."""
        if not self._first:
            return
        find, pop, others = self._first.get, self._first.pop, self._others
        running_state = TaskState.RUNNING
        told: dict[Follower, tuple[list[Outcome], list[TaskSeq]]] = {}
        last: Follower | None = None
        ended: list[Outcome] = []
        running: list[TaskSeq] = []
        for seq, progress in changes.progress:
            if progress.ended_at is not None:
                follower = pop(seq, None)
            elif progress.state is running_state:
                follower = find(seq)
            else:
                continue
            if follower is None:
                continue
            if follower is not last:  # a client's tasks mostly stand together
                last = follower
                ended, running = told.setdefault(follower, ([], []))
            if progress.ended_at is not None:
                ended.append(outcome_of(seq, progress))
            else:
                running.append(seq)
            if others and seq in others:
                self._tell_others(seq, progress, told)
        for follower, (ended, running) in told.items():
            follower.tell(ended, running)

    def _tell_others(
        self, seq: TaskSeq, progress: Progress, told: dict[Follower, tuple[list[Outcome], list[TaskSeq]]]
    ) -> None:
        has_ended = progress.ended_at is not None
        for follower in self._others.pop(seq) if has_ended else self._others[seq]:
            ended, running = told.setdefault(follower, ([], []))
            if has_ended:
                ended.append(outcome_of(seq, progress))
            else:
                running.append(seq)


def outcome_of(seq: TaskSeq, progress: Progress) -> Outcome:
    """Say how a task ended."""
    message = progress.message
    if message is not None and len(message) > MESSAGE_CHARS_MAX:
        message = message[:MESSAGE_CHARS_MAX]
    return Outcome(
        seq,
        progress.state,
        progress.cause,
        progress.value,
        message,
        progress.worker,
        progress.exit_code,
        progress.signal,
    )


def outcome_pieces(
    ended: list[Outcome], running: Iterable[TaskSeq] = (), unknown: Iterable[TaskSeq] = ()
) -> Iterator[Outcomes]:
    """Cut what is to be told into messages of about `PIECE_BYTES_MAX`; a single large value has one of its own."""
    first_running, first_unknown = list(running), list(unknown)
    # By whole lists: this is done for every outcome, the cutting below for few.
    sentences = filter(None, map(_message_of, ended))
    size = _size(len(ended), sum(map(len, map(_value_of, ended))), sum(map(len, sentences)))
    if size <= PIECE_BYTES_MAX:
        yield Outcomes(ended, first_running, first_unknown)
        return
    piece: list[Outcome] = []
    size = 0
    for outcome in ended:
        outcome_size = _size(1, len(outcome.value), len(outcome.message or ""))
        if piece and size + outcome_size > PIECE_BYTES_MAX:
            yield Outcomes(piece, first_running, first_unknown)
            piece, size, first_running, first_unknown = [], 0, [], []
        piece.append(outcome)
        size += outcome_size
    yield Outcomes(piece, first_running, first_unknown)


def _size(count: int, value_bytes: int, message_chars: int) -> int:
    """At least what outcomes take when they are encoded."""
    return _OUTCOME_BYTES * count + value_bytes + _UTF8_BYTES_A_CHARACTER * message_chars
