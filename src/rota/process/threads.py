"""Blocking work beside an event loop, in threads that keep no process from ending.

The threads of `asyncio.to_thread` are joined when the interpreter leaves: one that waits for a network would hold that
up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(work: Callable[[], T], *, name: str) -> T:
    """Run ``work`` in a thread of its own, and return what it returns or raise what it raises.

    Whoever is cancelled meanwhile stops waiting; the work goes on to its end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type] # without an error there is a result

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            failed = error
        try:
            loop.call_soon_threadsafe(settle, result, failed)
        except RuntimeError:  # the loop is closed
            return

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
