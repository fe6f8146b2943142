"""A client that speaks the SDK's protocol by hand: it says what a test tells it to, and remembers what it hears.

One `RawClient` is one session over any number of channels. What the protocol asks of a client (numbers in order,
what is known, what is awaited) it keeps track of by itself, so that a test can come back after any fault; a test
that wants to break the rules sends messages of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

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
from rota.core.model import NumberRange, TaskSeq
from rota.core.protocol import PROTOCOL_VERSION, Closing, Refused
from rota.core.spec import TaskSpec, encode_spec
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import CLIENT_CODEC
from rota.wire.websocket.client import connect
from tests.support.waiting import TIMEOUT_S, wait_until_async

__all__ = ["TRUE", "RawClient", "template_of"]


def template_of(**fields: Any) -> bytes:
    """Encode a template; without fields it does nothing, quickly."""
    return encode_spec(TaskSpec(**fields or {"command": ["true"]}))


TRUE = template_of()


class _Ear:
    """Hears one channel. What comes on one that its client has left is not the client's any more."""

    def __init__(self, hear: Callable[[ToClient], None]) -> None:
        self.channel: Channel[FromClient] | None = None
        self.closed_for: str | None = None
        self._hear = hear

    def opened(self, channel: Channel[FromClient]) -> None:
        self.channel = channel

    def received(self, messages: list[ToClient]) -> None:
        for message in messages:
            self._hear(message)

    def closed(self, reason: str) -> None:
        self.closed_for = reason


class RawClient:
    """One session.

    ``seqs`` are the tasks of its numbers, ``refused`` the numbers that were not taken, ``outcomes`` how tasks ended;
    ``told`` counts how often each was told. ``heard`` are all messages, over all channels.
    """

    def __init__(self, url: str, *, session: str | None = None) -> None:
        self.url = url
        self.session = session or secrets.token_urlsafe(16)
        self.heard: list[ToClient] = []
        self.welcomes: list[ClientWelcome] = []
        self.seqs: dict[int, TaskSeq] = {}
        self.refused: dict[int, tuple[str, str]] = {}
        self.outcomes: dict[TaskSeq, Outcome] = {}
        self.told: dict[TaskSeq, int] = {}
        self.running: set[TaskSeq] = set()
        self.unknown: set[TaskSeq] = set()
        self.awaits: dict[TaskSeq, None] = {}
        self.next_number = 1
        self._sent: dict[int, Submission] = {}
        self._ear = _Ear(self._hear)
        self._ears: list[_Ear] = []

    # The channel

    async def connect(self, *, version: int = PROTOCOL_VERSION, url: str | None = None) -> None:
        """Open a channel and say hello. What was heard of before is said to be known."""
        self._ear = _Ear(self._hear)
        self._ears.append(self._ear)
        await connect(url or self.url, self._ear, codec=CLIENT_CODEC, token=None, timeout_s=60.0)
        self.send(ClientHello(version, self.session, self.known_through, list(self.awaits)))

    async def enter(self, **options: Any) -> ClientWelcome:
        """Open a channel and wait for the welcome."""
        before = len(self.welcomes)
        await self.connect(**options)
        await self.wait_until(lambda: len(self.welcomes) > before, what="the welcome")
        return self.welcomes[-1]

    async def come_back(self, **options: Any) -> None:
        """Open another channel, and send again what is not decided."""
        welcome = await self.enter(**options)
        for number in list(self._sent):
            if number <= welcome.accepted_through and number not in self.seqs:
                self.refused.setdefault(number, ("", ""))
        left = {number: self._sent[number] for number in self._sent if number > welcome.accepted_through}
        if left:
            self.send(Submit(min(left), self.known_through, [left[number] for number in sorted(left)]))

    def send(self, message: FromClient) -> None:
        """Say something, whether it makes sense or not."""
        assert self._ear.channel is not None
        self._ear.channel.send(message)

    def leave(self) -> None:
        """Close the channel as a client does that is done."""
        assert self._ear.channel is not None
        self._ear.channel.close(code=CloseCode.NORMAL, reason="done")

    async def leave_for_good(self) -> None:
        """Leave, and wait until all channels are gone: a loop that ends before would leave sockets open."""
        self.leave()
        opened = [ear for ear in self._ears if ear.channel is not None]
        await self.wait_until(lambda: all(ear.closed_for is not None for ear in opened), what="the end of all channels")

    @property
    def channel(self) -> Channel[FromClient]:
        assert self._ear.channel is not None
        return self._ear.channel

    @property
    def is_closed(self) -> bool:
        return self._ear.closed_for is not None

    async def wait_until_closed(self) -> str:
        await self.wait_until(lambda: self.is_closed, what="the end of the channel")
        assert self._ear.closed_for is not None
        return self._ear.closed_for

    # What it asks for

    @property
    def known_through(self) -> int:
        """Up to which of its numbers it knows what became of them."""
        number = 0
        while number + 1 in self.seqs or number + 1 in self.refused:
            number += 1
        return number

    def submit(self, *templates: bytes, args: Sequence[bytes] = ()) -> list[int]:
        """Submit a task of each template, or one of the only template for each of ``args``; return their numbers."""
        assert not args or len(templates) == 1
        submissions = [Submission(template, list(args)) for template in templates]
        numbers = list(range(self.next_number, self.next_number + max(len(args), len(templates))))
        for place, number in enumerate(numbers):
            self._sent[number] = Submission(templates[0], [args[place]]) if args else submissions[place]
        self.send(Submit(self.next_number, self.known_through, submissions))
        self.next_number += len(numbers)
        return numbers

    def cancel(self, *seqs: TaskSeq) -> None:
        self.send(CancelThese(list(seqs)))

    def follow(self, *seqs: TaskSeq) -> None:
        self.awaits |= dict.fromkeys(seqs)
        self.send(Follow(list(seqs)))

    # What it waits for

    async def wait_for_tasks(self, numbers: Sequence[int], *, timeout_s: float = TIMEOUT_S) -> list[TaskSeq]:
        """Return the tasks that these numbers became."""
        await self.wait_until(
            lambda: all(number in self.seqs for number in numbers), what="the tasks to be accepted", timeout_s=timeout_s
        )
        return [self.seqs[number] for number in numbers]

    async def wait_for_outcomes(self, numbers: Sequence[int], *, timeout_s: float = TIMEOUT_S) -> list[Outcome]:
        """Return how the tasks of these numbers ended."""
        seqs = await self.wait_for_tasks(numbers, timeout_s=timeout_s)
        await self.wait_until(
            lambda: all(seq in self.outcomes for seq in seqs), what="the outcomes", timeout_s=timeout_s
        )
        return [self.outcomes[seq] for seq in seqs]

    async def run(self, *templates: bytes, args: Sequence[bytes] = ()) -> list[Outcome]:
        """Submit tasks and return how they ended."""
        return await self.wait_for_outcomes(self.submit(*templates, args=args))

    async def wait_until(self, condition: Callable[[], object], *, what: str, timeout_s: float = TIMEOUT_S) -> None:
        await wait_until_async(condition, what=what, timeout_s=timeout_s)

    # What it hears

    def _hear(self, message: ToClient) -> None:
        self.heard.append(message)
        match message:
            case ClientWelcome():
                self.welcomes.append(message)
                self._learn(message.ranges)
            case NumbersAccepted():
                self._learn(message.ranges)
            case NumbersRefused():
                for number in range(message.number, message.number + message.count):
                    self.refused[number] = message.code, message.message
                    self._sent.pop(number, None)
            case Outcomes():
                self._take_outcomes(message)
            case Refused() | Closing():
                pass

    def _learn(self, ranges: Sequence[NumberRange]) -> None:
        for known in ranges:
            for place in range(known.count):
                number, seq = known.number + place, TaskSeq(known.seq + place)
                assert self.seqs.setdefault(number, seq) == seq, f"number {number} became two tasks"
                self._sent.pop(number, None)
                if seq not in self.outcomes:
                    self.awaits[seq] = None

    def _take_outcomes(self, message: Outcomes) -> None:
        self.running.update(message.running)
        self.unknown.update(message.unknown)
        for seq in message.unknown:
            self.awaits.pop(seq, None)
        for outcome in message.ended:
            assert outcome.task in self.awaits or outcome.task in self.outcomes, "told before it was known"
            self.told[outcome.task] = self.told.get(outcome.task, 0) + 1
            self.outcomes[outcome.task] = outcome
            self.awaits.pop(outcome.task, None)
            self.running.discard(outcome.task)
