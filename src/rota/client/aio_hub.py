"""What the futures of one `AsyncClient` share, and these futures: on the program's own loop, without a thread.

All belongs to the loop's thread, as everything of asyncio does, but for what may take long: large values, functions
to bring and REST go to threads meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from rota.client.base import SHUT_DOWN, BaseHub, is_large
from rota.client.callables import Template
from rota.client.http import Json
from rota.client.hub import RETRY_S
from rota.client.link import Address
from rota.client.session import Ticket
from rota.client.verdicts import Opener, error_of, value_of
from rota.core.client_protocol import Outcome
from rota.core.errors import ClientClosed, NoCoordinator, RotaError
from rota.core.model import TaskId, TaskSeq, TaskState, generated_task_id

__all__ = ["AsyncEnd", "AsyncFuture", "AsyncHub"]

log = logging.getLogger("rota")

R = TypeVar("R")


class AsyncFuture(Ticket, asyncio.Future[R]):
    """The result of a task for those who can await it. Made by `AsyncClient.submit`.

    To cancel it, as ``asyncio.wait_for`` does when the time is over, cancels the task, even if it runs;
    ``asyncio.shield`` prevents that.
    """

    def __init__(self, hub: AsyncHub, template: bytes, args: bytes | None) -> None:
        super().__init__(loop=hub.loop)
        self._hub = hub
        self.template = template
        self.args = args

    @property
    def id(self) -> TaskId | None:
        """The task's id; ``None`` as long as the coordinator has not said it."""
        return None if self.seq is None else generated_task_id(self.seq)

    async def task_id(self) -> TaskId:
        """Return the task's id, when the coordinator has accepted it.

        Raises:
            RotaError: It was refused.
            CancelledError: It was cancelled before.
        """
        await self._hub.wait_for(lambda: self.seq is not None or self.done())
        if self.seq is not None:
            return generated_task_id(self.seq)
        if self.cancelled():
            raise asyncio.CancelledError
        raise self.exception() or NoCoordinator("the task was not accepted")

    async def info(self) -> Json:
        """Return the task as the REST API shows it."""
        return await asyncio.to_thread(self._hub.rest.task, await self.task_id())

    async def logs(self) -> str:
        """Return what the task has written so far."""
        task_id = await self.task_id()
        chunks = await asyncio.to_thread(lambda: list(self._hub.rest.logs(task_id, {})))
        return b"".join(chunks).decode("utf-8", "replace")

    def cancel(self, msg: Any = None) -> bool:  # as asyncio has it
        """Cancel the task, and this future at once; return whether it had not ended."""
        if not super().cancel(msg):
            return False
        self._hub.cancel((self,))
        return True

    def settle(self, opened: Opener) -> None:
        """End with the verdict that has come, unless it was cancelled meanwhile."""
        verdict = self.verdict
        if self.done() or verdict is None:
            return
        if isinstance(verdict, Outcome) and verdict.state is TaskState.CANCELLED:
            super().cancel("the task was cancelled")
            return
        try:
            if not isinstance(verdict, Outcome) or verdict.state is not TaskState.COMPLETED:
                raise error_of(verdict, opened)
            self.set_result(value_of(verdict, opened))
        except BaseException as error:  # noqa: BLE001 - whatever a function raised is its result
            self.set_exception(RuntimeError(f"the function raised {error!r}") if _is_special(error) else error)
            if isinstance(error, ClientClosed):
                self.exception()  # of a task that was only followed, perhaps: nobody needs to be told at the end


class AsyncEnd(Ticket, asyncio.Future[None]):
    """That a task has ended, for those who then ask REST how. Made by `AsyncHub.end_of`."""

    def settle(self, _: Opener) -> None:
        """End, whatever the verdict is: also where nothing more can be heard."""
        if not self.done():
            self.set_result(None)


_Settled = AsyncFuture[Any] | AsyncEnd
"""All tickets of a hub are one of these."""


class AsyncHub(BaseHub):
    """The engine of one client, on the loop that runs when it is made."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.loop = asyncio.get_running_loop()
        self.is_closing = False
        self._is_awake = False
        self._turn = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._run = asyncio.ensure_future(self.link.run())

    @property
    def is_over(self) -> bool:
        return self.link.is_stopped

    async def put(self, tickets: Sequence[Ticket]) -> None:
        """Submit. Waits while too many tasks wait to be accepted."""
        self.check_open()
        if self.session.is_full:
            await self.wait_for(lambda: not self.session.is_full or self.is_closing)
            self.check_open()
        self.session.put(tickets)
        self._wake()

    async def bring(self, template: Template) -> bool:
        """Have the function of a template where workers can fetch it; return whether it was brought just now."""
        if self.is_brought(template):
            return False
        self.check_open()
        await asyncio.to_thread(self.bring_again, template)
        return True

    def follow(self, tickets: Sequence[Ticket]) -> None:
        """Wait for the end of tasks that others have submitted, or that were submitted in other ways."""
        self.check_open()
        self.session.follow(tickets)
        self._wake()

    def end_of(self, seq: TaskSeq) -> AsyncEnd:
        """What ends with a task, or with this hub."""
        end = AsyncEnd(loop=self.loop)
        end.seq = seq
        self.follow((end,))
        return end

    def give_up(self, end: AsyncEnd) -> None:
        """Nobody waits with this one any more."""
        self.session.unfollow(end)

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Tell the coordinator that these are to end."""
        self.session.take_in()
        self.session.cancel(tickets, forget=True)
        self._wake()

    async def connect(self, *, seconds: float) -> None:
        """Wait until the coordinator has let us in, or raise why it hasn't."""
        link = self.link
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait_for(lambda: link.was_welcome or self.is_over)
        if not link.was_welcome:
            raise link.excuse

    async def close(self, *, cancel_futures: bool) -> None:
        """Take nothing more, wait until all tasks have ended, and hang up."""
        self.is_closing = True
        self.session.take_in()
        if cancel_futures:
            for ticket in self.session.tickets():
                cast("AsyncFuture[Any]", ticket).cancel()
        self._wake()
        try:
            await self.wait_for(lambda: self.is_over or not (self._has_open() or self._errands))
        finally:
            self.link.stop()
            await asyncio.gather(self._run, *self._errands, return_exceptions=True)
            self.hang_up()

    def check_open(self) -> None:
        """Raise if nothing more is taken."""
        if self.link.failure is not None:
            raise self.link.failure.with_traceback(None)  # one object for all: its tracebacks would add up
        if self.is_closing or self.is_over:
            raise RuntimeError(SHUT_DOWN)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that changes with what happens on the link."""
        while not condition():
            await self._turn.wait()

    # What the session and the link tell -----------------------------------------------------------

    def ended(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if isinstance(ticket, AsyncFuture) and is_large(ticket):
                self._start(self._open(ticket))
            else:
                cast("_Settled", ticket).settle(_nothing_large)

    def began(self, tickets: list[Ticket]) -> None:
        """Asyncio's futures don't say that they run."""

    def refused(self, tickets: list[Ticket]) -> None:
        again: list[Ticket] = []
        for ticket in tickets:
            if self.is_worth_resending(ticket):
                again.append(ticket)
            else:
                cast("_Settled", ticket).settle(_nothing_large)
        if again:
            self._start(self._resend(again))

    def turned(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()

    def be_patient(self, error: RotaError) -> None:
        time.sleep(RETRY_S)  # in a thread of its own
        if self.is_over:
            raise error

    async def _open(self, future: AsyncFuture[Any]) -> None:
        """Fetch a large value without holding up the loop."""
        assert isinstance(future.verdict, Outcome)
        opened: bytes | memoryview | Exception
        try:
            opened = await asyncio.to_thread(self.blobs.opened, future.verdict.value)
        except Exception as error:  # noqa: BLE001 - want of memory, say: it is what came of it
            opened = error
        future.settle(lambda _: _raised(opened))

    async def _resend(self, tickets: list[Ticket]) -> None:
        """Bring the functions of tickets once more, and submit them again."""
        try:
            for template in self.templates_of(tickets):
                await asyncio.to_thread(self.bring_again, template)
        except Exception as error:  # whatever it is, these are waited for
            if not isinstance(error, RotaError):
                log.exception("a function could not be sent again")
            for ticket in tickets:
                cast("_Settled", ticket).settle(_nothing_large)
            return
        for ticket in tickets:
            ticket.verdict, ticket.is_resent = None, True
        self.session.put(tickets)
        self._wake()

    def _start(self, errand: Any) -> None:  # a coroutine
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errand_done)

    def _errand_done(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        self.turned()

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_awake = False
        if self.link.has_channel:
            self.link.pump()
        else:
            self.session.take_in()
        self.turned()

    def _has_open(self) -> bool:
        """Whether there is anything to wait for; not only cancelled tasks that nobody can be told of."""
        if self.link.has_channel:
            return self.session.has_open
        return not all(ticket.is_forgotten for ticket in self.session.tickets())


def _raised(thing: bytes | memoryview | Exception) -> bytes | memoryview:
    if isinstance(thing, Exception):
        raise thing
    return thing


def _nothing_large(envelope: bytes) -> bytes:
    return envelope


def _is_special(error: BaseException) -> bool:
    """Whether a future can't have it as its exception."""
    return isinstance(error, StopIteration)
