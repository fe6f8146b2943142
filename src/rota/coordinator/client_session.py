"""One client on one channel: what it submits becomes commands, and it is told what becomes of its tasks.

It begins with the client's hello, which is answered with what the record knows of its numbers; until then nothing more
of it is read. From then on each `Submit` is one command, answered before anything that the turn publishes, so
that a client knows a task before it hears of its end.

A client that reads too slowly is closed. What one submits while more tasks wait than may is held until there is room,
and once that is much the client is not read: it finds the line congested. Whatever else it says is heard meanwhile, so
that it can cancel what waits, and leave. A client that comes back says what it waits for, so nothing is kept here for
one that has gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from rota.coordinator.outcomes import outcome_of, outcome_pieces
from rota.coordinator.templates import RefusedTasks
from rota.core.client_protocol import (
    CancelThese,
    ClientHello,
    Follow,
    NumbersAccepted,
    NumbersRefused,
    Outcome,
    Submit,
    ToClient,
)
from rota.core.commands import ClientArrived, SubmitNumbered
from rota.core.effects import Answer, NumbersKnown
from rota.core.errors import RotaError, TooLarge
from rota.core.model import ENDED_STATES, NumberRange, TaskRecord, TaskSeq, generated_task_id
from rota.core.protocol import PROTOCOL_VERSION, Closing, Refused
from rota.process.clock import wall_s
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import FromPeer, ToPeer

if TYPE_CHECKING:
    from rota.coordinator.clients import ClientDesk

__all__ = ["SUBMIT_TASKS_MAX", "UNCONFIRMED_MAX", "ClientSession"]

BACKLOG_BYTES_MAX: Final = 64 << 20
"""Of what waits to be read by one client."""

SUBMIT_TASKS_MAX: Final = 20_000
"""In one message: a turn that takes in more is felt by everybody else."""

NUMBER_MAX: Final = 2**53
"""Of a client's numbers: what every store and every language can count to."""

HELD_BYTES_MAX: Final = 4 << 20
"""Of submissions for which there is no room: more than a client sends before it is told of the first of them."""

UNCONFIRMED_MAX: Final = 500_000
"""Numbers above those whose ids a client knows: what is kept of them, with each commit, must have an end."""

ACCEPTED_WITHIN_S: Final = 0.003
"""That tasks are on the record travels with the end of the first of them if that comes soon, else alone."""

RANGES_MAX: Final = 20_000
"""In one `NumbersAccepted`: some 500 KiB."""

LOOK_UP_TASKS: Final = 100
"""Read from the store at once: 6 MiB where all results are of the largest size."""

LOOK_UP_BACKLOG_BYTES: Final = 8 << 20
PACE_S: Final = 0.02
"""With so much unread, what is looked up in the store waits so long before more is read from it."""

LOGGED_CHARS: Final = 8
"""Of a session's name: whoever knows all of it can speak for the client."""

log = structlog.get_logger(__name__)


class ClientSession:
    """One client on one channel.

    ``name`` is the client's, over any number of channels. It follows tasks from their acceptance on.
    """

    def __init__(self, name: str, channel: Channel[ToPeer], desk: ClientDesk) -> None:
        self.name = name
        self._channel: Channel[ToPeer] | None = channel
        self._desk = desk
        self._log = log.bind(client=name[:LOGGED_CHARS])
        self._through: int | None = None  # the last of its numbers that came in; None until the hello is answered
        self._early: list[FromPeer] = []
        self._held: deque[Submit] = deque()
        self._held_bytes = 0
        self._unsure: deque[TaskSeq] = deque()
        self._looking_up: asyncio.Task[None] | None = None

    # From the client

    def arrive(self, hello: ClientHello) -> None:
        """Ask what the record knows of its numbers, or refuse it."""
        assert self._channel is not None
        self._log.info("client_arrived", peer=self._channel.peer)
        if hello.version == PROTOCOL_VERSION:
            self._channel.pause_reading()
            answered = partial(self._arrived, hello)
            self._desk.ask(self, lambda to: ClientArrived(self.name, hello.known_through, to), answered)
            return
        message = (
            f"the client speaks protocol {hello.version}, the coordinator {PROTOCOL_VERSION}: "
            "use the same version of Rota on both sides"
        )
        self._send(Refused("protocol_version", message, retryable=False))
        self.close(CloseCode.NORMAL, message)

    def received(self, messages: list[FromPeer]) -> None:
        """Turn messages into commands."""
        if self._through is None:  # they came with the hello: from then on nothing is read
            self._early += messages
            return
        for message in messages:
            match message:
                case Submit():
                    self._submit_or_hold(message)
                case CancelThese():
                    self._desk.cancel(message.tasks)
                case Follow():
                    self._follow(message.tasks)
                case _:
                    self.close(CloseCode.POLICY, "a client says hello once, and nothing that a worker says")
            if self._channel is None:
                return

    def closed(self, reason: str) -> None:
        """Let go of everything: the channel is gone."""
        self._log.info("client_channel_closed", reason=reason)
        self._let_go()

    # To the client

    @property
    def is_gone(self) -> bool:
        return self._channel is None

    def tell(self, ended: list[Outcome], running: list[TaskSeq]) -> None:
        """Say what has become of tasks."""
        for piece in outcome_pieces(ended, running):
            self._send(piece)

    def go_on(self) -> None:
        """Submit what was held, now that there is room. Nothing here fails into the loop."""
        try:
            while self._held and not self._desk.room.is_full:
                self._submit(self._held.popleft())
        except Exception:
            log.exception("client_session_failed")
            self.fail()
        if self._channel is None:
            return
        if self._held:
            self._desk.hold_up(self)
        else:
            self._held_bytes = 0
            self._channel.resume_reading()

    def say_goodbye(self, message: str) -> None:
        """Tell the client to come back later, and close."""
        self._send(Closing(message))
        self.close(CloseCode.RESTARTING, message)

    def fail(self) -> None:
        """Close the channel because of a mistake of ours, which is in the log."""
        self.close(CloseCode.INTERNAL_ERROR, "internal error: see the coordinator's log")

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the channel, if it is still there."""
        channel = self._channel
        if channel is not None:
            self._let_go()
            channel.close(code=code, reason=reason)

    def _arrived(self, hello: ClientHello, answer: Answer) -> None:
        """Welcome the client, and follow what it awaits and what it did not know that it had submitted."""
        assert isinstance(answer, NumbersKnown)
        if self._channel is None:
            return
        # The record forgets a session after some days, the client doesn't.
        self._through = max(answer.accepted_through, hello.known_through)
        self._send(self._desk.welcome(answer))
        self._follow(hello.awaits)
        for known in answer.ranges:
            self._follow(_seqs_of(known))
        early, self._early = self._early, []
        self._channel.resume_reading()
        self.received(early)

    # Submitting

    def _submit_or_hold(self, submit: Submit) -> None:
        desk = self._desk
        if not self._held and not desk.room.is_full:
            self._submit(submit)
            return
        assert self._channel is not None
        desk.hold_up(self)
        self._held.append(submit)
        self._held_bytes += sum(len(one.template) + sum(map(len, one.args)) for one in submit.submissions)
        if self._held_bytes > HELD_BYTES_MAX:
            self._channel.pause_reading()

    def _submit(self, submit: Submit) -> None:
        desk = self._desk
        tasks = sum(len(submission.args) or 1 for submission in submit.submissions)
        problem = self._find_problem(submit, tasks)
        if problem is not None:
            self.close(CloseCode.POLICY, problem)
            return
        assert self._through is not None
        groups, refusals = desk.templates.groups(submit.submissions, number=submit.number, wall=wall_s())
        answered = partial(
            self._decided, refusals=_refused_after(self._through, refusals), is_new=submit.number > self._through
        )
        self._through = max(self._through, submit.number + tasks - 1)
        desk.ask(self, lambda to: SubmitNumbered(self.name, submit.number, submit.known_through, groups, to), answered)

    def _find_problem(self, submit: Submit, tasks: int) -> str | None:
        """Say what is wrong with a submission as a whole: a client that works never sends such a thing."""
        assert self._through is not None
        if not submit.submissions:
            return "a submission holds at least one task"
        if tasks > SUBMIT_TASKS_MAX:
            return f"{tasks:,} tasks in one message: at most {SUBMIT_TASKS_MAX:,}"
        if not submit.known_through < submit.number:
            return f"numbers begin at 1 and grow: {submit.number} comes after {submit.known_through}"
        if submit.number > self._through + 1:
            return f"number {self._through + 1} is missing: {submit.number} came"
        if submit.number + tasks > NUMBER_MAX:
            return f"numbers end at {NUMBER_MAX:,}: begin another session"
        if submit.number + tasks - 1 - submit.known_through > UNCONFIRMED_MAX:
            return f"known_through is over {UNCONFIRMED_MAX:,} behind: say which ids are known"
        return None

    def _decided(self, answer: Answer, *, refusals: list[RefusedTasks], is_new: bool) -> None:
        """Tell the client which of its tasks are on the record, and follow those."""
        assert isinstance(answer, NumbersKnown)
        if self._channel is None:
            return
        ranges = answer.ranges
        for start in range(0, len(ranges), RANGES_MAX):
            self._send(NumbersAccepted(ranges[start : start + RANGES_MAX]), within_s=ACCEPTED_WITHIN_S)
        for refusal in refusals:
            self._send(NumbersRefused(refusal.number, refusal.count, refusal.problem.code, refusal.problem.message))
        for known in ranges:
            if is_new:
                self._desk.followers.add_new(self, known.seq, known.count)
                self._desk.counters.tasks_submitted_channel += known.count
            else:
                self._follow(_seqs_of(known))

    # Following

    def _follow(self, seqs: Iterable[TaskSeq]) -> None:
        """Tell of the end of tasks from now on; those that have ended are looked up."""
        followers, unfinished = self._desk.followers, self._desk.unfinished()
        for seq in seqs:
            followers.add(self, seq)
            if seq not in unfinished:
                self._unsure.append(seq)
        if self._unsure and self._looking_up is None:
            self._looking_up = asyncio.create_task(self._look_up())

    async def _look_up(self) -> None:
        """Tell of what ended before it was followed, as the store has it."""
        try:
            while self._unsure and self._channel is not None:
                if self._channel.backlog_bytes > LOOK_UP_BACKLOG_BYTES:
                    await asyncio.sleep(PACE_S)
                    continue
                seqs = list(islice(self._unsure, LOOK_UP_TASKS))
                found = await self._desk.store.find_tasks([generated_task_id(seq) for seq in seqs])
                for _ in seqs:
                    self._unsure.popleft()
                self._tell_found(seqs, found)
        except RotaError as error:
            self.close(CloseCode.TRY_LATER, str(error))
        except Exception:
            log.exception("client_look_up_failed")
            self.fail()
        finally:
            self._looking_up = None

    def _tell_found(self, seqs: Sequence[TaskSeq], found: dict[str, TaskRecord]) -> None:
        ended: list[Outcome] = []
        unknown: list[TaskSeq] = []
        for seq in seqs:
            record = found.get(generated_task_id(seq))
            # One that has not ended there ends with the commit under way, or was brought back: that will be published.
            if record is not None and record.progress.state not in ENDED_STATES:
                continue
            if not self._desk.followers.remove(self, seq):
                continue  # its end was published meanwhile
            if record is None:
                unknown.append(seq)
            else:
                ended.append(outcome_of(seq, record.progress))
        for piece in outcome_pieces(ended, unknown=unknown):
            self._send(piece)

    # Helpers

    def _send(self, message: ToClient, *, within_s: float = 0.0) -> None:
        """Send a message, if the channel is still there. Nothing here fails into the loop."""
        channel = self._channel
        if channel is None:
            return
        try:
            channel.send(message, within_s=within_s)
        except TooLarge as error:
            self._log.error("client_message_too_large", error=str(error))
            self.fail()
            return
        if channel.backlog_bytes > BACKLOG_BYTES_MAX:
            self.close(CloseCode.TRY_LATER, "the client reads too slowly")

    def _let_go(self) -> None:
        self._channel = None
        self._desk.forget(self)
        self._early = []
        self._held.clear()
        # Most of these have ended, so that no end would ever take them out.
        for seq in self._unsure:
            self._desk.followers.remove(self, seq)
        self._unsure.clear()
        if self._looking_up is not None:
            self._looking_up.cancel()


def _seqs_of(known: NumberRange) -> Iterable[TaskSeq]:
    return map(TaskSeq, range(known.seq, known.seq + known.count))


def _refused_after(number: int, refusals: Sequence[RefusedTasks]) -> list[RefusedTasks]:
    """Leave out what was decided before: it is told as it was decided then."""
    left = []
    for refusal in refusals:
        skipped = max(number + 1 - refusal.number, 0)
        if skipped < refusal.count:
            left.append(RefusedTasks(refusal.number + skipped, refusal.count - skipped, refusal.problem))
    return left
