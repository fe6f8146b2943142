"""A worker without processes: it ends what it is given, at once or when a test says so.

It speaks the real protocol on a real channel, so a coordinator can't tell; and it costs next to nothing, so that a
hundred thousand tasks are no effort.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rota.core.model import Cause, TaskSeq, WorkerId
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Assign,
    Assignment,
    Ended,
    FromCoordinator,
    FromWorker,
    Hello,
    Mark,
    Marks,
    Report,
    Started,
    Stop,
    Welcome,
)
from rota.process.clock import wall_s
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import WORKER_CODEC
from rota.wire.websocket.client import connect
from tests.support.core import make_offer
from tests.support.waiting import wait_until_async

__all__ = ["EagerWorker"]


class EagerWorker:
    """One worker. ``held`` are the attempts that it has; ``ran`` counts how often each task was given to it.

    Args:
        name: Its id.
        is_eager: Whether it ends attempts as they come; else `end` does.
        value: What their functions return.
        offer: What it offers, as in ``tests.support.core``.
    """

    def __init__(self, name: str = "w1", *, is_eager: bool = True, value: bytes = b"", **offer: Any) -> None:
        self.name = name
        self.is_eager = is_eager
        self.value = value
        self.held: dict[TaskSeq, Assignment] = {}
        self.ran: dict[TaskSeq, int] = {}
        self._offer = make_offer(
            **{"cpu": 64_000, "kinds": frozenset({"process", "function"}), "python": "3.11", **offer}
        )
        self._channel: Channel[FromWorker] | None = None
        self._is_welcome = False
        self._reports = 0

    async def enter(self, url: str) -> None:
        """Open a channel, say hello, and wait until it is let in."""
        self._is_welcome = False
        await connect(url, self, codec=WORKER_CODEC, token=None, timeout_s=60.0)
        hello = Hello(PROTOCOL_VERSION, WorkerId(self.name), "one", self._offer, None, [], [], wall_s())
        self.send(hello)
        await wait_until_async(lambda: self._is_welcome, what="the worker's welcome")

    def leave(self) -> None:
        """Close the channel."""
        assert self._channel is not None
        self._channel.close(code=CloseCode.NORMAL, reason="done")

    def send(self, message: FromWorker) -> None:
        assert self._channel is not None
        self._channel.send(message)

    async def wait_for_attempts(self, count: int) -> None:
        """Wait until it holds so many."""
        await wait_until_async(lambda: len(self.held) >= count, what=f"{count} attempts on the worker")

    def start(self, *seqs: TaskSeq) -> None:
        """Say that attempts have begun."""
        self._report(started=[Started(seq, self.held[seq].attempt, wall_s()) for seq in seqs])

    def mark(self, seq: TaskSeq, fraction: float | None, text: str, *, attempt: int | None = None) -> None:
        """Say how far an attempt is."""
        number = self.held[seq].attempt if attempt is None else attempt
        self.send(Marks([Mark(seq, number, fraction, text)]))

    def end(self, *seqs: TaskSeq, cause: Cause | None = None, message: str | None = None) -> None:
        """End attempts: those that are named, or all that it holds."""
        self._end([self.held.pop(seq) for seq in seqs or list(self.held)], cause, message)

    def _end(self, attempts: Iterable[Assignment], cause: Cause | None = None, message: str | None = None) -> None:
        now = wall_s()
        self._report(
            ended=[
                Ended(
                    attempt.task,
                    attempt.attempt,
                    cause,
                    exit_code=0 if cause is None else None,
                    started_at=now,
                    ended_at=now,
                    run_s=0.0001,
                    message=message,
                    value=self.value,
                )
                for attempt in attempts
            ]
        )

    def _report(self, **content: Any) -> None:
        self._reports += 1
        self.send(Report(self._reports, **content))

    # Its end of the channel

    def opened(self, channel: Channel[FromWorker]) -> None:
        self._channel = channel

    def received(self, messages: list[FromCoordinator]) -> None:
        for message in messages:
            match message:
                case Welcome():
                    self._is_welcome = True
                case Assign():
                    self._take(message)
                case Stop():
                    stopped = [self.held.pop(seq) for seq, _ in message.attempts if seq in self.held]
                    self._end(stopped, message.cause)
                case _:
                    pass

    def closed(self, reason: str) -> None:
        self._is_welcome = False

    def _take(self, assign: Assign) -> None:
        for attempt in assign.attempts:
            self.ran[attempt.task] = self.ran.get(attempt.task, 0) + 1
        if self.is_eager:
            self._end(assign.attempts)
        else:
            self.held |= {attempt.task: attempt for attempt in assign.attempts}
