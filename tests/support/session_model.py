"""A coordinator for a session of the SDK, in one thread and without a network: the real core behind two queues.

What is on its way in either direction can be delivered in portions, or lost with the connection; the
coordinator can be killed. Tasks run when a test says so, and return their own arguments.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from msgspec import msgpack

from rota.client.session import SdkSession, Ticket
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
    ToClient,
)
from rota.core.commands import CancelTasks, ClientArrived, Draft, DraftGroup, ReplyTo, SubmitNumbered
from rota.core.effects import Effect, NumbersKnown, Reply
from rota.core.model import ENDED_STATES, TaskSeq
from rota.core.protocol import PROTOCOL_VERSION
from rota.core.spec import TaskSpec, decode_spec, encode_spec, terms_of
from rota.wire.messages import CLIENT_CODEC
from tests.support.core import Core

__all__ = ["BAD_TEMPLATE", "ModelCoordinator", "Witness", "template"]

BAD_TEMPLATE = b"bad"
"""One that the coordinator refuses."""

_decode_to = msgpack.Decoder(ToClient)
_decode_from = msgpack.Decoder(FromClient)


def template(name: str) -> bytes:
    """The encoded spec of a function, which is run again however often its worker is lost."""
    return encode_spec(TaskSpec(function="ab" * 32, callable=name, python="3.11", losses=1_000))


class Witness:
    """Hears what becomes of tickets, and how often."""

    def __init__(self) -> None:
        self.verdicts: Counter[Ticket] = Counter()
        self.running: set[Ticket] = set()

    def ended(self, tickets: list[Ticket]) -> None:
        self.verdicts.update(tickets)

    def refused(self, tickets: list[Ticket]) -> None:
        self.verdicts.update(tickets)

    def began(self, tickets: list[Ticket]) -> None:
        self.running.update(tickets)


class ModelCoordinator:
    """The core, a worker that has room for everything, and the connection of one session."""

    def __init__(self, session: SdkSession) -> None:
        self.session = session
        self.cluster = "the-cluster"
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.is_connected = False
        self._core = self._started(Core())
        self._follows: set[TaskSeq] = set()
        self._accepted_through = 0

    # The network

    def connect(self) -> None:
        """Open a channel, if there is none."""
        if not self.is_connected:
            self.is_connected = True
            self._say(self.session.hello())

    def cut(self) -> None:
        """Lose the connection, and all that was on its way."""
        self.up.clear()
        self.down.clear()
        self._follows.clear()
        if self.is_connected:
            self.is_connected = False
            self.session.disconnected()

    def restart(self) -> None:
        """Kill the coordinator and start it again on its record."""
        self.cut()
        self._core = self._started(self._core.restarted())

    def pump(self) -> None:
        """Let the client say what it has to say."""
        for message in self.session.outgoing():
            assert self.is_connected
            self._say(message)

    def deliver_up(self, count: int) -> None:
        """Let the coordinator hear some messages."""
        for _ in range(min(count, len(self.up))):
            self._hear(_decode_from.decode(self.up.popleft()))

    def deliver_down(self, count: int) -> None:
        """Let the client hear some messages."""
        for _ in range(min(count, len(self.down))):
            message = _decode_to.decode(self.down.popleft())
            assert isinstance(message, ClientWelcome | NumbersAccepted | NumbersRefused | Outcomes)
            self.session.received(message)
            self.pump()

    def exchange(self) -> None:
        """Let everything arrive that is to be said, while no task ends by itself."""
        self.connect()
        self.pump()
        while self.up or self.down:
            self.deliver_up(len(self.up))
            self.deliver_down(len(self.down))

    def settle(self) -> None:
        """Let everything arrive and everything end."""
        self.connect()
        while True:
            self.pump()
            self.deliver_up(len(self.up))
            self.run(len(self._core.state.tasks))
            if not self.down:
                break
            self.deliver_down(len(self.down))

    # Tasks

    def run(self, count: int) -> None:
        """Let some tasks end."""
        for seq in sorted(self._core.state.tasks)[:count]:
            args = decode_spec(self._core.record.facts[seq].spec).args
            self._publish(self._core.end(seq, value=args or b""))

    def is_to_end(self, seq: TaskSeq) -> bool:
        """Whether a task has ended, or its end is wished."""
        task = self._core.state.tasks.get(seq)
        return task is None or task.wish is not None

    def times_run(self) -> Counter[bytes]:
        """How many tasks are on the record, by their arguments."""
        specs = [decode_spec(facts.spec) for facts in self._core.record.facts.values()]
        return Counter(spec.args or b"" for spec in specs)

    # The coordinator

    def _started(self, core: Core) -> Core:
        core.hello("w1", instance=f"i{core.epoch}", cpu=10**9, kinds=frozenset({"function"}), python="3.11")
        return core

    def _say(self, message: FromClient) -> None:
        self.up.append(CLIENT_CODEC.encode(message))

    def _answer(self, message: ToClient) -> None:
        if self.is_connected:
            self.down.append(msgpack.encode(message))

    def _hear(self, message: FromClient) -> None:
        match message:
            case ClientHello():
                known = self._do(ClientArrived(message.session, message.known_through, ReplyTo(1)))
                self._answer(
                    ClientWelcome(PROTOCOL_VERSION, self.cluster, known.accepted_through, known.ranges, nodes=[])
                )
                self._follow([*message.awaits, *_seqs_in(known)])
            case Submit():
                groups = [_group(submission) for submission in message.submissions]
                known = self._do(
                    SubmitNumbered(self.session.name, message.number, message.known_through, groups, ReplyTo(1))
                )
                self._answer(NumbersAccepted(known.ranges))
                number, before = message.number, self._accepted_through
                self._accepted_through = known.accepted_through
                for group in groups:
                    if group.draft is None and number > before:  # of what was decided before, nothing is said again
                        self._answer(NumbersRefused(number, group.count, "bad_spec", "it makes no sense"))
                    number += group.count
                self._follow(_seqs_in(known))
            case CancelThese():
                self._publish(self._core.do(CancelTasks(message.tasks, ReplyTo(2))))
            case Follow():
                self._follow(message.tasks)

    def _do(self, command: ClientArrived | SubmitNumbered) -> NumbersKnown:
        effects = self._core.do(command)
        answers = [effect.answer for effect in effects if isinstance(effect, Reply)]
        assert isinstance(answers[0], NumbersKnown)
        return answers[0]

    def _follow(self, seqs: Sequence[TaskSeq]) -> None:
        record = self._core.record
        self._answer(Outcomes(unknown=[seq for seq in seqs if seq not in record.facts]))
        ended = [seq for seq in seqs if seq in record.facts and record.progress[seq].state in ENDED_STATES]
        self._follows.update(set(seqs) - set(ended))
        self._answer(Outcomes(ended=[self._outcome(seq) for seq in ended]))

    def _publish(self, effects: Sequence[Effect]) -> None:
        """Tell of the tasks that have ended since."""
        progress = self._core.record.progress
        ended = [seq for seq in sorted(self._follows) if seq in progress and progress[seq].state in ENDED_STATES]
        self._follows.difference_update(ended)
        if ended:
            self._answer(Outcomes(ended=[self._outcome(seq) for seq in ended]))

    def _outcome(self, seq: TaskSeq) -> Outcome:
        progress = self._core.record.progress[seq]
        return Outcome(seq, progress.state, progress.cause, progress.value)


def _group(submission: Submission) -> DraftGroup:
    count = max(1, len(submission.args))
    if submission.template == BAD_TEMPLATE:
        return DraftGroup(None, submission.args, count)
    spec = decode_spec(submission.template)
    return DraftGroup(Draft(None, terms_of(spec), submission.template), submission.args, count)


def _seqs_in(known: NumbersKnown) -> list[TaskSeq]:
    return [TaskSeq(one.seq + place) for one in known.ranges for place in range(one.count)]
