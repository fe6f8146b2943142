"""What waits for the loop: commands in the order in which they came, and those who wait for answers.

An answer is given by a call, within the turn's duties: whoever must speak before what the turn publishes does so
there. A handler that awaits its answer goes on later, when the loop comes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypeVar

from rota.core.commands import Command, ReplyTo, ReportArrived, SubmitNumbered, SubmitTasks
from rota.core.effects import Answer
from rota.core.errors import RotaError

__all__ = ["Inbox"]

A = TypeVar("A")


class Inbox:
    """Filled from callbacks on the loop's thread, emptied once a turn."""

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._tasks = 0
        self._wanted = 1
        self.weight = 0
        """How much waits here: tasks to accept, ends to take in, and one for each other command."""
        self._waiting: dict[ReplyTo, tuple[Callable[[Answer], None], Callable[[RotaError], None]]] = {}
        self._numbers = count(1)
        self._arrival: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._commands)

    @property
    def tasks(self) -> int:
        """How many tasks wait here to be accepted."""
        return self._tasks

    def put(self, command: Command) -> None:
        """Add a command, and wake the loop if it sleeps and this is what it waits for."""
        self._commands.append(command)
        self._tasks += _tasks_in(command)
        self.weight += _weight_of(command)
        if self.weight >= self._wanted:
            self.wake()

    def wake(self) -> None:
        """Let `arrival` return."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def take(self) -> list[Command]:
        """Remove and return all commands."""
        commands, self._commands = self._commands, []
        self._tasks = self.weight = 0
        return commands

    async def arrival(self, timeout_s: float | None, *, at_least: int = 1) -> None:
        """Return when there is so much to do, when woken, or when the time is over."""
        if self.weight >= at_least:
            return
        self._wanted = at_least
        self._arrival = asyncio.get_running_loop().create_future()
        handle = None
        if timeout_s is not None:
            handle = asyncio.get_running_loop().call_later(max(0.0, timeout_s), self.wake)
        try:
            await self._arrival
        finally:
            self._arrival = None
            if handle is not None:
                handle.cancel()

    def expect(self, answered: Callable[[Answer], None], refused: Callable[[RotaError], None]) -> ReplyTo:
        """Return a number for a command that is about to be put: one of the two is called, once, when it is decided.

        Neither may raise: they are called by the loop.
        """
        to = ReplyTo(next(self._numbers))
        self._waiting[to] = answered, refused
        return to

    async def ask(self, make: Callable[[ReplyTo], Command], answer_type: type[A] | tuple[type[A], ...]) -> A:
        """Put a command and return its answer, which comes after the commit that records it.

        Raises:
            RotaError: It was not carried out.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        to = self.expect(partial(_set_answer, future), partial(_set_error, future))
        command = make(to)
        try:
            self.put(command)
            answer = await future
        except asyncio.CancelledError:
            self._withdraw(command)
            raise
        finally:
            self._waiting.pop(to, None)
            del future  # it holds its failure, which holds this frame
        assert isinstance(answer, answer_type), answer
        return answer

    def answer(self, to: ReplyTo, answer: Answer) -> None:
        """Give an answer to who waits for it, if it still does."""
        waiting = self._waiting.pop(to, None)
        if waiting is not None:
            waiting[0](answer)

    def refuse(self, to: ReplyTo, error: RotaError) -> None:
        """Let who waits for an answer fail."""
        waiting = self._waiting.pop(to, None)
        if waiting is not None:
            waiting[1](error)

    def refuse_all(self, error: RotaError) -> None:
        """Drop all commands and let all who wait fail: there is no leader to carry them out."""
        self.take()
        for to in list(self._waiting):
            self.refuse(to, error)

    def _withdraw(self, command: Command) -> None:
        """Drop what a client that has gone had asked for, if no turn has taken it yet."""
        for index, waiting in enumerate(self._commands):
            if waiting is command:
                del self._commands[index]
                self._tasks -= _tasks_in(command)
                self.weight -= _weight_of(command)
                return


def _set_answer(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _set_error(future: asyncio.Future[Answer], error: RotaError) -> None:
    if not future.done():
        future.set_exception(error)


def _tasks_in(command: Command) -> int:
    match command:
        case SubmitTasks():
            return len(command.drafts)
        case SubmitNumbered():
            return sum(group.count for group in command.groups if group.draft is not None)
        case _:
            return 0


def _weight_of(command: Command) -> int:
    ends = len(command.report.ended) if isinstance(command, ReportArrived) else 0
    return _tasks_in(command) or ends or 1
