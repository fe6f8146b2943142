"""`AsyncJob`: what `Job` is, for programs that run on an event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rota.client.aio_hub import AsyncFuture
from rota.client.jobs import checked_name, list_seqs, list_tasks

if TYPE_CHECKING:
    from rota.client.aio import AsyncClient

__all__ = ["AsyncJob"]

P = ParamSpec("P")
R = TypeVar("R")


class AsyncJob:
    """The tasks that have a name in common. Made by `AsyncClient.job`.

    Args:
        client: Through which to submit and to look.
        name: What was given to ``Client(job=…)``, `Client.job` or one of their twins.
    """

    def __init__(self, client: AsyncClient, name: str) -> None:
        self.name = checked_name(name)
        self._client = client

    async def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncFuture[R]:
        """As `AsyncClient.submit`, under this name."""
        return await self._client._submit(self.name, fn, args, kwargs)  # noqa: SLF001 - a part of the client

    async def map(self, fn: Callable[..., R], *iterables: Iterable[Any]) -> list[AsyncFuture[R]]:
        """Submit a call for each item, and return the futures; other than `AsyncClient.map`, see `Job.map`."""
        return [await self.submit(fn, *args) for args in zip(*iterables, strict=False)]

    async def futures(self) -> list[AsyncFuture[Any]]:
        """All tasks of the job that are on record, in the order in which they were accepted."""
        hub = self._client._connected()  # noqa: SLF001 - a part of the client
        futures = []
        for seq in await asyncio.to_thread(list_seqs, hub.rest, self.name):
            future: AsyncFuture[Any] = AsyncFuture(hub, b"", None)
            future.seq = seq
            futures.append(future)
        hub.follow(futures)
        return futures

    async def results(self, timeout: float | None = None) -> AsyncGenerator[Any, None]:  # noqa: ASYNC109 - as its twin has it
        """Yield what the tasks returned, in the order in which they were accepted; each is waited for.

        Args:
            timeout: Seconds for each of them. A task that is not waited for any longer goes on.
        """
        for future in await self.futures():
            async with asyncio.timeout(timeout):
                value = await asyncio.shield(future)
            yield value

    async def status(self) -> dict[str, int]:
        """Count the tasks by state."""
        rest = self._client._connected().rest  # noqa: SLF001 - a part of the client
        return await asyncio.to_thread(lambda: dict(Counter(task["state"] for task in list_tasks(rest, self.name))))

    def __repr__(self) -> str:
        return f"<rota.AsyncJob {self.name!r} of {self._client.url}>"
