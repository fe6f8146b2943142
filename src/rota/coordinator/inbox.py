"""What waits for the loop: commands in the order in which they came, and those who wait for answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from rota.core.commands import Command, ReplyTo, SubmitTasks
from rota.core.effects import Answer
from rota.core.errors import RotaError

__all__ = ["Inbox"]

A = TypeVar("A")


class Inbox:
    """Filled from callbacks on the loop's thread, emptied once a turn."""

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._tasks = 0
        self._waiting: dict[ReplyTo, asyncio.Future[Answer]] = {}
        self._numbers = count(1)
        self._arrival: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._commands)

    @property
    def tasks(self) -> int:
        """How many tasks wait here to be accepted."""
        return self._tasks

    def put(self, command: Command) -> None:
        """Add a command, and wake the loop if it sleeps."""
        self._commands.append(command)
        self._tasks += _tasks_in(command)
        self.wake()

    def wake(self) -> None:
        """Let `arrival` return."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def take(self) -> list[Command]:
        """Remove and return all commands."""
        commands, self._commands = self._commands, []
        self._tasks = 0
        return commands

    async def arrival(self, timeout_s: float | None) -> None:
        """Return when there are commands, when woken, or when the time is over."""
        if self._commands:
            return
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

    async def ask(self, make: Callable[[ReplyTo], Command], answer_type: type[A] | tuple[type[A], ...]) -> A:
        """Put a command and return its answer, which comes after the commit that records it.

        Raises:
            RotaError: It was not carried out.
        """
        to = ReplyTo(next(self._numbers))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[to] = future
        command = make(to)
        try:
            self.put(command)
            answer = await future
        except asyncio.CancelledError:
            self._withdraw(command)
            raise
        finally:
            self._waiting.pop(to, None)
        assert isinstance(answer, answer_type), answer
        return answer

    def answer(self, to: ReplyTo, answer: Answer) -> None:
        """Give an answer to who waits for it, if it still does."""
        future = self._waiting.get(to)
        if future is not None and not future.done():
            future.set_result(answer)

    def refuse(self, to: ReplyTo, error: RotaError) -> None:
        """Let who waits for an answer fail."""
        future = self._waiting.get(to)
        if future is not None and not future.done():
            future.set_exception(error)

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
                return


def _tasks_in(command: Command) -> int:
    return len(command.drafts) if isinstance(command, SubmitTasks) else 0
