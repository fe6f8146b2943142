"""`AsyncClient`: the same as `Client` for programs that run on an event loop, without a thread of its own.

Its futures are asyncio's: they are awaited, gathered, waited for and shielded as any other. What may
take long (bringing a large argument, fetching a large result, REST) happens in threads meanwhile. All else
belongs to the loop's thread, as everything of asyncio does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from rota.client.base import SHUT_DOWN, BaseHub, is_large
from rota.client.callables import Callables, Template, dump_arguments
from rota.client.calls import encoded_large, find_inline, warn_of_workers
from rota.client.client import CONNECT_S, address_of
from rota.client.http import Json
from rota.client.hub import RETRY_S
from rota.client.link import Address
from rota.client.local import LocalCluster
from rota.client.mapping import BLOCK, window_of
from rota.client.session import Ticket
from rota.client.verdicts import Opener, error_of, value_of
from rota.core.client_protocol import Outcome
from rota.core.errors import NoCoordinator, RotaError
from rota.core.model import TaskId, TaskState, generated_task_id

__all__ = ["AsyncClient", "AsyncFuture"]

log = logging.getLogger("rota")

P = ParamSpec("P")
R = TypeVar("R")


class AsyncFuture(Ticket, asyncio.Future[R]):
    """The result of a task for those who can await it. Made by `AsyncClient.submit`.

    To cancel it, as ``asyncio.wait_for`` does when the time is over, cancels the task, even if it runs;
    ``asyncio.shield`` prevents that.
    """

    def __init__(self, hub: AsyncHub, template: bytes, args: bytes) -> None:
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
            future = cast("AsyncFuture[Any]", ticket)
            if is_large(ticket):
                self._start(self._open(future))
            else:
                future.settle(_nothing_large)

    def began(self, tickets: list[Ticket]) -> None:
        """Asyncio's futures don't say that they run."""

    def refused(self, tickets: list[Ticket]) -> None:
        again: list[Ticket] = []
        for ticket in tickets:
            if self.is_worth_resending(ticket):
                again.append(ticket)
            else:
                cast("AsyncFuture[Any]", ticket).settle(_nothing_large)
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
                cast("AsyncFuture[Any]", ticket).settle(_nothing_large)
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


class AsyncClient:
    """Sends functions to a coordinator, and awaits their results. Use it in ``async with``.

    Args:
        url: The coordinator; ``ROTA_URL`` if not given, else this machine.
        token: What it asks for; ``ROTA_TOKEN`` if not given.
        ca_file: On https, the authority to trust instead of the system's; ``ROTA_CA_FILE`` if not given.
        job: A name by which to find the tasks again: see `Client.job`.
        connect_timeout: Seconds to wait for the coordinator.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        job: str | None = None,
        connect_timeout: float = CONNECT_S,
    ) -> None:
        self._address = address_of(url, token, ca_file)
        self._job = job
        self._connect_timeout = connect_timeout
        self._callables = Callables()
        self._hub: AsyncHub | None = None
        self._connecting = asyncio.Lock()
        self._start_cluster: Callable[[], LocalCluster] | None = None
        self._cluster: LocalCluster | None = None

    @classmethod
    def local(cls, workers: int = 2, *, job: str | None = None, options: Sequence[str] = ()) -> Self:
        """As `Client.local`; the cluster starts with the ``async with`` block, and ends with it."""
        client = cls("", "", job=job)
        client._start_cluster = lambda: LocalCluster(workers, options)
        return client

    @property
    def url(self) -> str:
        """The coordinator."""
        return self._address.url

    async def connect(self) -> None:
        """Connect to the coordinator, as ``async with`` does; nothing happens if that was done.

        Raises:
            NoCoordinator: None answers.
            Unauthorized: It wants another token.
        """
        async with self._connecting:  # tasks of a program may each see to it
            if self._hub is None:
                self._hub = await self._connect()

    async def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncFuture[R]:
        """Have ``fn(*args, **kwargs)`` run on a worker, and return its future, which is to be awaited.

        Raises:
            NotPicklable: The function or an argument can't travel; names the variable.
            TooLarge: The arguments are over 1 GiB.
            RuntimeError: The client is shut down, or not connected.
        """
        hub = self._connected()
        template = await self._template_of(hub, fn)
        future: AsyncFuture[R] = await self._call(hub, template, args, kwargs)
        await hub.put((future,))
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> AsyncGenerator[R, None]:
        """Run ``fn`` with the items of the iterables; ``async for`` gets the results in order.

        Items are submitted ahead of what is consumed, from the first step on; see `Client.map`.

        Args:
            fn: The function.
            iterables: One for each of its arguments; the shortest ends it.
            timeout: Seconds from the first step for all results.
            buffersize: How many items to submit ahead at most.
        """
        window = window_of(iterables, buffersize)
        return self._mapped(fn, zip(*iterables, strict=False), window, timeout, is_ordered=True)

    def map_unordered(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> AsyncGenerator[R, None]:
        """As `map`, but each result comes as soon as it is there."""
        window = window_of(iterables, buffersize)
        return self._mapped(fn, zip(*iterables, strict=False), window, timeout, is_ordered=False)

    async def shutdown(self, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and wait until all futures have ended.

        Args:
            cancel_futures: Cancel them instead of waiting.
        """
        if self._hub is not None:
            await self._hub.close(cancel_futures=cancel_futures)
        await self._stop_cluster()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Who is cancelled, or has failed, does not want to wait for the rest.
        await self.shutdown(cancel_futures=error is not None)

    def __repr__(self) -> str:
        return f"<rota.AsyncClient of {self.url}>"

    # How --------------------------------------------------------------------------------------

    async def _connect(self) -> AsyncHub:
        if self._start_cluster is not None:
            self._cluster = await asyncio.to_thread(self._start_cluster)
            self._address = Address(self._cluster.url, why_gone=self._cluster.why_gone)
        hub = AsyncHub(self._address)
        try:
            await hub.connect(seconds=self._connect_timeout)
        except BaseException:  # also where the program did not want to wait so long: nothing goes on trying
            await hub.close(cancel_futures=True)
            await self._stop_cluster()
            raise
        return hub

    def _connected(self) -> AsyncHub:
        if self._hub is None:
            raise RuntimeError("this client is not connected: use it in `async with`, or await connect() first")
        return self._hub

    async def _template_of(self, hub: AsyncHub, fn: Callable[..., Any]) -> Template:
        template = self._callables.template_of(fn, job=self._job)
        if await hub.bring(template):
            warn_of_workers(template, fn, hub.nodes)
        return template

    async def _call(self, hub: AsyncHub, template: Template, args: Any, kwargs: Any) -> AsyncFuture[Any]:
        pieces = dump_arguments(args, kwargs, name=template.name)
        envelope = find_inline(pieces)
        if envelope is not None:
            return AsyncFuture(hub, template.encoded, envelope)
        return AsyncFuture(hub, *await asyncio.to_thread(encoded_large, hub.blobs, template, pieces))

    async def _mapped(
        self, fn: Callable[..., R], calls: Iterator[Any], window: int, seconds: float | None, *, is_ordered: bool
    ) -> AsyncGenerator[R, None]:
        hub = self._connected()
        deadline = None if seconds is None else hub.loop.time() + seconds
        feed = _Feed(self, hub, fn, calls, window)
        ahead: deque[AsyncFuture[Any]] = deque()
        done: asyncio.Queue[AsyncFuture[Any]] = asyncio.Queue()
        try:
            while True:
                while block := await feed.next_block(len(ahead)):
                    ahead.extend(block)
                    for future in block if not is_ordered else ():
                        future.add_done_callback(done.put_nowait)
                if not ahead:
                    return
                async with asyncio.timeout_at(deadline):
                    future = ahead[0] if is_ordered else await done.get()
                    value = await future
                ahead.remove(future)
                yield value
        finally:
            for future in ahead:
                future.cancel()

    async def _stop_cluster(self) -> None:
        if self._cluster is not None:
            await asyncio.to_thread(self._cluster.stop)


class _Feed:
    """Submits the items of a map as they are wanted: see `rota.client.mapping.Feed`."""

    def __init__(
        self, client: AsyncClient, hub: AsyncHub, fn: Callable[..., Any], calls: Iterator[Any], window: int
    ) -> None:
        self._client = client
        self._hub = hub
        self._fn = fn
        self._calls: Iterator[Any] | None = calls
        self._window = window
        self._block = min(BLOCK, max(1, window // 2))

    async def next_block(self, ahead: int) -> list[AsyncFuture[Any]]:
        """Submit a block, if there is room for it."""
        if self._calls is None or self._window - ahead < self._block:
            return []
        client, hub = self._client, self._hub
        template = await client._template_of(hub, self._fn)  # noqa: SLF001 - a part of the client
        futures: list[AsyncFuture[Any]] = []
        for args in self._calls:
            futures.append(await client._call(hub, template, args, {}))  # noqa: SLF001 - as above
            if len(futures) == self._block:
                break
        else:
            self._calls = None
        if futures:
            await hub.put(futures)
        return futures


def _raised(thing: bytes | memoryview | Exception) -> bytes | memoryview:
    if isinstance(thing, Exception):
        raise thing
    return thing


def _nothing_large(envelope: bytes) -> bytes:
    return envelope


def _is_special(error: BaseException) -> bool:
    """Whether a future can't have it as its exception."""
    return isinstance(error, StopIteration)
