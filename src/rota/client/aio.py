"""`AsyncClient`: the same as `Client` for programs that run on an event loop, without a thread of its own.

Its futures are asyncio's: they are awaited, gathered, waited for and shielded as any other. The work is
done by `rota.client.aio_hub`; here are the words that users say.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence, Sized
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from rota.client.aio_hub import AsyncFuture, AsyncHub
from rota.client.aio_jobs import AsyncJob
from rota.client.aio_programs import AsyncProgram, submit_async_program
from rota.client.callables import Callables, Template, dump_arguments
from rota.client.calls import encoded_large, find_inline, warn_of_workers
from rota.client.client import CONNECT_S, address_of
from rota.client.jobs import checked_name, labelled
from rota.client.link import Address
from rota.client.local import LocalCluster
from rota.client.mapping import BLOCK, window_of
from rota.client.options import refuse_as_arguments
from rota.client.programs import Files
from rota.client.progress import counted_async

__all__ = ["AsyncClient"]

P = ParamSpec("P")
R = TypeVar("R")


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
        self._job = None if job is None else checked_name(job)
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
        return await self._submit(self._job, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> AsyncGenerator[R, None]:
        """Run ``fn`` with the items of the iterables; ``async for`` gets the results in order.

        Items are submitted ahead of what is consumed, from the first step on; see `Client.map`.

        Args:
            fn: The function.
            iterables: One for each of its arguments; the shortest ends it.
            timeout: Seconds from the first step for all results.
            buffersize: How many items to submit ahead at most.
            progress: Whether to draw a bar where somebody looks; see `rota.progress`.
        """
        window = window_of(iterables, buffersize)
        results = self._mapped(fn, zip(*iterables, strict=False), window, timeout, is_ordered=True)
        if not progress:
            return results
        return counted_async(
            results, min((len(items) for items in iterables if isinstance(items, Sized)), default=None)
        )

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

    def job(self, name: str) -> AsyncJob:
        """Tasks under a name: submit through it, or find those that were, from whatever process."""
        return AsyncJob(self, name)

    async def program(
        self, command: Sequence[str] | None = None, *, files: Files = (), outputs: Iterable[str] = (), **fields: Any
    ) -> AsyncProgram:
        """Have a program run on a worker, in a scratch directory if it has files or outputs.

        Args:
            command: The program and its arguments.
            files: What lies in its directory: paths, or paths by the names that they are to have there.
            outputs: Patterns of what to keep of what it leaves there.
            fields: What else the task is to have, by the names of REST: ``shell``, ``env``, ``resources``, ``retries``.

        Raises:
            RotaError: A file can't be sent, or the task is refused; names the field.
        """
        labelled_fields = labelled(fields, self._job)
        hub = self._connected()
        return await submit_async_program(hub, command, files=files, outputs=outputs, fields=labelled_fields)

    def find_program(self, task_id: str) -> AsyncProgram:
        """The program of this id, whoever submitted it."""
        return AsyncProgram(self._connected(), task_id)

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

    async def _submit(self, job: str | None, fn: Callable[..., R], args: Any, kwargs: Any) -> AsyncFuture[R]:
        if kwargs:
            refuse_as_arguments(fn, kwargs)
        hub = self._connected()
        template = await self._template_of(hub, fn, job)
        future: AsyncFuture[R] = await self._call(hub, template, args, kwargs)
        await hub.put((future,))
        return future

    async def _template_of(self, hub: AsyncHub, fn: Callable[..., Any], job: str | None) -> Template:
        template = self._callables.template_of(fn, job=job)
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
        template = await client._template_of(hub, self._fn, client._job)  # noqa: SLF001 - a part of the client
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
