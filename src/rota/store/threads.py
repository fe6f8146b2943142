"""A connection and the one thread that uses it.

Calls wait in line, so a connection is never used by two threads, and the event loop never waits for a disk. The line
is our own and no ``ThreadPoolExecutor``: a call there and back takes 50 instead of 83 µs, twice in each round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw

from rota.core.errors import StoreUnavailable

__all__ = ["SqlThread"]

THREAD_NAME_CHARS_MAX: Final = 15
"""What Linux keeps of a name."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class SqlThread:
    """Runs functions on a connection, one after the other, in a thread of its own.

    ``connect`` is called in that thread, at the first use and after a failure to connect.
    """

    def __init__(self, name: str, connect: Callable[[], apsw.Connection]) -> None:
        self._name = name
        self._connect = connect
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: apsw.Connection | None = None
        self._closed = False

    async def run(
        self, function: Callable[Concatenate[apsw.Connection, _P], _R], *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Return ``function(connection, …)``. A caller that is cancelled does not stop it.

        Raises:
            StoreUnavailable: The store is closed.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await self._call(lambda: function(self._opened(), *args, **kwargs))

    async def close(self) -> None:
        """Finish what waits in line and close the connection. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            try:
                await self._call(self._disconnect)
            finally:
                self._calls.put(None)

    def interrupt(self) -> None:
        """Stop the statement that runs now, if one does: a long walk through the history."""
        if self._connection is not None:
            self._connection.interrupt()

    async def _call(self, function: Callable[[], _R]) -> _R:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_R] = loop.create_future()
        self._calls.put((function, done, loop))
        try:
            return await done
        finally:
            del done  # it holds its failure, which holds this frame

    def _serve(self) -> None:
        """Carry out calls until there will be no more."""
        _name_thread(self._name)
        while (call := self._calls.get()) is not None:
            function, done, loop = call
            try:
                result, failure = function(), None
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                result, failure = None, error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, done, result, failure)
            # Nothing of a call may live on while the next is waited for: results are large, errors hold frames.
            del call, function, done, loop, result, failure

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _settle(done: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if done.done():  # whoever asked has gone
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)


def _name_thread(name: str) -> None:
    """Tell the system, too, so that ``top -H`` and our own measurements can tell who uses the processor."""
    with contextlib.suppress(OSError):
        Path("/proc/thread-self/comm").write_text(name[:THREAD_NAME_CHARS_MAX])
