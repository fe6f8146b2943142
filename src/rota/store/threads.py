"""A connection and the one thread that uses it.

Calls wait in line, so a connection is never used by two threads, and the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from rota.core.errors import StoreUnavailable

__all__ = ["SqlThread"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class SqlThread:
    """Runs functions on a connection, one after the other, in a thread of its own.

    ``connect`` is called in that thread, at the first use and after a failure to connect.
    """

    def __init__(self, name: str, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._executor = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix=name, initializer=_name_thread, initargs=(name,)
        )
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
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(self._opened(), *args, **kwargs))

    async def close(self) -> None:
        """Finish what waits in line and close the connection. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._executor, self._disconnect)
        self._executor.shutdown(wait=False)

    def interrupt(self) -> None:
        """Stop the statement that runs now, if one does: a long walk through the history."""
        if self._connection is not None:
            self._connection.interrupt()

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _name_thread(name: str) -> None:
    """Tell the system, too, so that ``top -H`` and our own measurements can tell who uses the processor."""
    with contextlib.suppress(OSError):
        Path("/proc/thread-self/comm").write_text(name[:15])
