"""A client's session as a pure state machine: what to say to the coordinator, and what its answers mean.

A `Ticket` is one task from its submission to its end. It waits in the order of submission, is numbered when it
goes into a message, becomes a task of the coordinator's by a range, and leaves with its end. A message that is not
answered is kept and sent again, as it was, on the next channel: the coordinator knows the numbers that it has
accepted, so no task is accepted twice, and none is left out.

No I/O, no clock, no threads: all methods belong to one thread, but for `SdkSession.put` and
`SdkSession.has_undecided`, which any may call. What is to be said next is asked for with `SdkSession.outgoing`,
whatever happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct

from rota.core.client_protocol import (
    CancelThese,
    ClientHello,
    ClientWelcome,
    Follow,
    FromClient,
    NumbersAccepted,
    NumbersRefused,
    Outcome,
    Outcomes,
    Submission,
    Submit,
)
from rota.core.model import NumberRange, TaskSeq
from rota.core.protocol import PROTOCOL_VERSION

__all__ = ["BLOB_MISSING", "WAITING_BYTES_MAX", "WAITING_TASKS_MAX", "Listener", "Rejection", "SdkSession", "Ticket"]

BATCH_TASKS_MAX: Final = 2_000
BATCH_BYTES_MAX: Final = 256 << 10
"""Of one message: large enough to share its costs, small enough that the coordinator begins while we go on."""

BATCHES_AHEAD_MAX: Final = 8
"""Messages that wait for their answer. The coordinator commits all that have come at once: enough for that."""

WAITING_TASKS_MAX: Final = 200_000
WAITING_BYTES_MAX: Final = 64 << 20
"""Of what is submitted and not yet accepted: over them, whoever submits more has to wait."""

NAMED_MAX: Final = 100_000
"""Tasks that one message names: 9 bytes each, so under 1 MiB."""

TEMPLATE_SHARE_BYTES: Final = 16
"""Around the arguments of one task in a message, at most."""


BLOB_MISSING: Final = "blob_missing"
"""The code of a rejection: a function, or a large value, is not where the coordinator keeps them."""


class Rejection(Struct, frozen=True):
    """Why there will be no outcome: the coordinator refused the task, or has forgotten it, or can't be spoken to."""

    code: str
    message: str


class Ticket:
    """One task of this session, or one that it follows. Futures are tickets.

    ``template`` is the encoded spec without arguments, ``args`` their envelope, freed once the task is accepted.
    """

    template: bytes = b""
    args: bytes | None = None
    seq: TaskSeq | None = None
    verdict: Outcome | Rejection | None = None
    is_unwanted = False
    """Whether the task is to end: nothing is sent of it if there is still time, else it is cancelled."""
    is_resent = False
    """Whether it was submitted a second time because the coordinator had lost what it needs."""
    is_forgotten = False
    """Whether nobody waits for the end of the task either."""


class Listener(Protocol):
    """What the program wants to hear."""

    def ended(self, tickets: list[Ticket]) -> None:
        """These have their ``verdict``: an outcome."""
        ...

    def began(self, tickets: list[Ticket]) -> None:
        """These run."""
        ...

    def refused(self, tickets: list[Ticket]) -> None:
        """These have their ``verdict``: a rejection."""
        ...


class _Batch:
    """The tickets of one `Submit`, in order; ``None`` where it is decided what became of it."""

    __slots__ = ("bytes", "number", "submissions", "tickets", "undecided")

    def __init__(self, number: int) -> None:
        self.number = number
        self.tickets: list[Ticket | None] = []
        self.submissions: list[Submission] = []
        self.bytes = 0
        self.undecided = 0

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.number + len(self.tickets)


class SdkSession:
    """The state of one session.

    Args:
        name: Random: see `rota.core.client_protocol`.
        listener: Told of everything that concerns tickets, from within `received`.
    """

    def __init__(self, name: str, listener: Listener) -> None:
        self.name = name
        self.is_welcome = False
        self.is_full = False
        """Whether whoever submits more should wait."""
        self.waiting_tasks = 0
        self.waiting_bytes = 0
        self._listener = listener
        self._inbox: deque[Sequence[Ticket]] = deque()
        self._fresh: deque[Ticket] = deque()
        self._batches: deque[_Batch] = deque()
        self._sent = 0  # of the batches, counted from the front
        self._next_number = 1
        self._cluster: str | None = None
        self._awaited: dict[TaskSeq, Ticket] = {}
        self._followed: dict[TaskSeq, list[Ticket]] = {}
        # Tasks whose end is wished, until they have ended: the wish could be lost with a channel.
        self._unwanted: set[TaskSeq] = set()
        self._to_cancel: list[TaskSeq] = []
        self._to_follow: list[TaskSeq] = []

    # From the program ------------------------------------------------------------------------

    def put(self, tickets: Sequence[Ticket]) -> None:
        """Submit. May be called by any thread; what is put is seen at the next `outgoing`."""
        self._inbox.append(tickets)

    def take_in(self) -> None:
        """Take over what other threads have put."""
        inbox, fresh = self._inbox, self._fresh
        while inbox:
            tickets = inbox[0]
            for ticket in tickets:
                if ticket.args is not None:
                    self.waiting_bytes += len(ticket.args)
            self.waiting_tasks += len(tickets)
            fresh.extend(tickets)
            inbox.popleft()  # not before: `has_undecided` is asked by other threads, to whom they must not seem gone
        self._look_at_room()

    def cancel(self, tickets: Sequence[Ticket], *, forget: bool) -> None:
        """Wish the end of tasks.

        Args:
            tickets: Of this session, in any state; those that have ended are left alone.
            forget: Nobody waits for their ends, either.
        """
        for ticket in tickets:
            ticket.is_unwanted = True
            ticket.is_forgotten |= forget  # for good: it may have been left out already
            seq = ticket.seq
            if seq is not None:
                self._cancel(ticket, seq)

    def follow(self, tickets: Sequence[Ticket]) -> None:
        """Wait for the end of tasks that have their ``seq``, whoever submitted them."""
        for ticket in tickets:
            assert ticket.seq is not None
            if ticket.seq not in self._followed:
                self._followed[ticket.seq] = []
                self._to_follow.append(ticket.seq)
            self._followed[ticket.seq].append(ticket)

    def unfollow(self, ticket: Ticket) -> None:
        """Wait no longer with this one. What was asked of the coordinator stays asked: others may follow, too."""
        followers = self._followed.get(ticket.seq, []) if ticket.seq is not None else []
        if ticket in followers:
            followers.remove(ticket)

    def tickets(self) -> list[Ticket]:
        """All tickets whose end is awaited, but for those that are only followed."""
        self.take_in()
        held = [ticket for batch in self._batches for ticket in batch.tickets if ticket is not None]
        return [*self._awaited.values(), *held, *self._fresh]

    @property
    def has_undecided(self) -> bool:
        """Whether there are tickets of which it is not known whether they are accepted. May be asked by any thread."""
        # In the order in which tickets go: one that moves on meanwhile is met again, not missed.
        return bool(self._inbox or self._fresh or self._batches)

    @property
    def has_open(self) -> bool:
        """Whether there is anything left to wait for, or to say."""
        return bool(self.has_undecided or self._awaited or self._to_cancel)

    def give_up(self, rejection: Rejection) -> None:
        """Give all tickets the same verdict: nothing more can be heard of them."""
        tickets = [*self.tickets(), *(ticket for group in self._followed.values() for ticket in group)]
        self._fresh.clear()
        self._batches.clear()
        self._awaited.clear()
        self._followed.clear()
        self._unwanted.clear()
        self._to_cancel.clear()
        self.waiting_tasks = self.waiting_bytes = self._sent = 0
        self.is_full = False
        self._refuse(tickets, rejection)

    # From the channel ------------------------------------------------------------------------

    def hello(self) -> ClientHello:
        """The first message on a new channel."""
        # Those that are to end, too, though nobody may wait for them: their wishes go with the word of their ends.
        awaits = [*self._awaited, *sorted(self._unwanted - self._awaited.keys())]
        self._to_follow = awaits[NAMED_MAX:]
        return ClientHello(PROTOCOL_VERSION, self.name, self._known_through(), awaits[:NAMED_MAX])

    def disconnected(self) -> None:
        """The channel is gone: whatever was not answered is sent again on the next."""
        self.is_welcome = False
        self._sent = 0

    def received(self, message: ClientWelcome | NumbersAccepted | NumbersRefused | Outcomes) -> None:
        """Take what the coordinator says."""
        match message:
            case Outcomes():
                self._outcomes(message)
            case NumbersAccepted():
                self._accepted(message.ranges)
            case NumbersRefused():
                rejection = Rejection(message.code, message.message)
                self._decide_refused(message.number, message.number + message.count, rejection)
            case ClientWelcome():
                self._welcomed(message)

    def outgoing(self) -> Iterator[FromClient]:
        """Yield what is to be sent now, in this order."""
        self.take_in()
        if not self.is_welcome:
            return
        while self._sent < BATCHES_AHEAD_MAX:
            if self._sent == len(self._batches) and not self._fill_batch():
                break
            batch = self._batches[self._sent]
            self._sent += 1
            # Of a batch that goes again some may be known already, if the coordinator has another record since.
            known_through = min(self._known_through(), batch.number - 1)
            yield Submit(batch.number, known_through, batch.submissions)
        for seqs in _pieces(self._to_cancel):
            yield CancelThese(seqs)
        for seqs in _pieces(self._to_follow):
            yield Follow(seqs)

    # Numbering -------------------------------------------------------------------------------

    def _look_at_room(self) -> None:
        """Say full over the limits, and room again at half of them: nobody should wake for one more task."""
        if self.is_full:
            self.is_full = self.waiting_tasks > WAITING_TASKS_MAX // 2 or self.waiting_bytes > WAITING_BYTES_MAX // 2
        else:
            self.is_full = self.waiting_tasks > WAITING_TASKS_MAX or self.waiting_bytes > WAITING_BYTES_MAX

    def _fill_batch(self) -> bool:
        """Number the tickets of one more message; return whether there were any."""
        fresh = self._fresh
        batch = _Batch(self._next_number)
        self._batches.append(batch)  # first: `has_undecided` must not miss what is moved from one to the other
        template: bytes | None = None
        all_args: list[bytes] = []
        size = 0
        while fresh and len(batch.tickets) < BATCH_TASKS_MAX and size < BATCH_BYTES_MAX:
            ticket = fresh.popleft()
            args = ticket.args
            args_bytes = len(args) if args is not None else 0
            if ticket.is_forgotten:
                self.waiting_tasks -= 1
                self.waiting_bytes -= args_bytes
                continue
            if args is None or ticket.template is not template:
                template, all_args = ticket.template, []
                batch.submissions.append(Submission(template, all_args))
                size += len(template)
            if args is None:
                template = None  # a task as it stands is alone in its submission
            else:
                all_args.append(args)
                batch.bytes += args_bytes
                size += args_bytes + TEMPLATE_SHARE_BYTES
            batch.tickets.append(ticket)
        if not batch.tickets:
            self._batches.pop()
            self._look_at_room()  # nobody needed what was left out, and no answer will come that looks
            return False
        batch.undecided = len(batch.tickets)
        self._next_number = batch.end
        return True

    def _known_through(self) -> int:
        """The number up to which it is known what became of all."""
        if not self._batches:
            return self._next_number - 1
        first = self._batches[0]
        if first.undecided == len(first.tickets):
            return first.number - 1
        return first.number - 1 + next(place for place, ticket in enumerate(first.tickets) if ticket is not None)

    # What became of numbers -------------------------------------------------------------------

    def _welcomed(self, welcome: ClientWelcome) -> None:
        self.is_welcome = True
        if self._cluster is not None and welcome.cluster != self._cluster:
            self._start_over()
        self._cluster = welcome.cluster
        self._to_follow += self._followed
        for one in welcome.ranges:
            self._decide_accepted(one)
        rejection = Rejection("refused", "the coordinator refused the task while the connection was broken")
        self._decide_refused(1, welcome.accepted_through + 1, rejection)
        self._to_cancel = list(self._unwanted)

    def _start_over(self) -> None:
        """The coordinator has another record: it can't know the tasks that the one before accepted."""
        lost = [*self._awaited.values(), *(ticket for group in self._followed.values() for ticket in group)]
        self._awaited.clear()
        self._followed.clear()
        self._unwanted.clear()
        self._to_follow.clear()
        self._refuse(lost, Rejection("forgotten", "the coordinator has a new state, in which this task is unknown"))

    def _accepted(self, ranges: Sequence[NumberRange]) -> None:
        for one in ranges:
            self._decide_accepted(one)

    def _decide_accepted(self, accepted: NumberRange) -> None:
        """Tasks have their sequence numbers. The coordinator tells of their ends unasked."""
        decided = 0
        awaited = self._awaited
        ahead = accepted.seq - accepted.number
        for batch, first, end in self._overlaps(accepted.number, accepted.number + accepted.count):
            tickets = batch.tickets
            base = batch.number + ahead
            before = decided
            for place in range(first, end):
                ticket = tickets[place]
                if ticket is None:
                    continue  # said before
                tickets[place] = None
                seq = ticket.seq = TaskSeq(base + place)
                ticket.args = None
                awaited[seq] = ticket
                decided += 1
                if ticket.is_unwanted:
                    self._cancel(ticket, seq)
            batch.undecided -= decided - before
        self._settle_batches(decided)

    def _decide_refused(self, number: int, end_number: int, rejection: Rejection) -> None:
        """Tasks are not taken, as far as it is not known that they were."""
        refused: list[Ticket] = []
        for batch, first, end in self._overlaps(number, end_number):
            undecided = [ticket for ticket in batch.tickets[first:end] if ticket is not None]
            batch.tickets[first:end] = [None] * (end - first)
            batch.undecided -= len(undecided)
            refused += undecided
        self._settle_batches(len(refused))
        self._refuse(refused, rejection)

    def _overlaps(self, number: int, end_number: int) -> list[tuple[_Batch, int, int]]:
        """The batches that hold some of the numbers, each with the places from and to."""
        found = []
        for batch in self._batches:
            if batch.number >= end_number:
                break
            first, end = max(number, batch.number), min(end_number, batch.end)
            if first < end:
                found.append((batch, first - batch.number, end - batch.number))
        return found

    def _settle_batches(self, decided: int) -> None:
        """Drop batches of which everything is known. Only from the front: numbers are known in order."""
        self.waiting_tasks -= decided
        batches = self._batches
        while batches and not batches[0].undecided:
            self.waiting_bytes -= batches.popleft().bytes
            self._sent = max(0, self._sent - 1)
        self._look_at_room()

    def _refuse(self, tickets: list[Ticket], rejection: Rejection) -> None:
        for ticket in tickets:
            ticket.verdict = rejection
            ticket.args = ticket.args if rejection.code == BLOB_MISSING else None
        if tickets:
            self._listener.refused(tickets)

    # What became of tasks ----------------------------------------------------------------------

    def _cancel(self, ticket: Ticket, seq: TaskSeq) -> None:
        known = self._awaited.get(seq)
        if known is ticket and ticket.is_forgotten:  # a follower that leaves must not take along the one that submitted
            del self._awaited[seq]
        if known is not None or seq in self._followed:
            self._unwanted.add(seq)
            self._to_cancel.append(seq)

    def _outcomes(self, message: Outcomes) -> None:
        awaited = self._awaited
        ended: list[Ticket] = []
        for outcome in message.ended:
            seq = outcome.task
            ticket = awaited.pop(seq, None)
            if ticket is not None:
                ticket.verdict = outcome
                ended.append(ticket)
            if self._followed:
                for follower in self._followed.pop(seq, ()):
                    follower.verdict = outcome
                    ended.append(follower)
            if self._unwanted:
                self._unwanted.discard(seq)
        if ended:
            self._listener.ended(ended)
        if message.running:
            self._listener.began([ticket for seq in message.running for ticket in self._all_of(seq)])
        if message.unknown:
            self._unknown(message.unknown)

    def _all_of(self, seq: TaskSeq) -> list[Ticket]:
        ticket = self._awaited.get(seq)
        followers = self._followed.get(seq, [])
        return followers if ticket is None else [ticket, *followers]

    def _unknown(self, seqs: Sequence[TaskSeq]) -> None:
        forgotten = [ticket for seq in seqs for ticket in self._all_of(seq)]
        for seq in seqs:
            self._awaited.pop(seq, None)
            self._followed.pop(seq, None)
            self._unwanted.discard(seq)
        self._refuse(forgotten, Rejection("forgotten", "its record was removed by retention"))


def _pieces(seqs: list[TaskSeq]) -> Iterator[list[TaskSeq]]:
    """Take all from a list, in pieces that fit a message."""
    while seqs:
        piece = seqs[:NAMED_MAX]
        del seqs[:NAMED_MAX]
        yield piece
