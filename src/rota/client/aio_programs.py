"""`AsyncProgram`: what `Program` is, for programs that run on an event loop.

What takes long goes to threads: REST, and files on their way. Its end is heard on the client's channel, which costs
neither a thread nor a connection for each program that is waited for, however many there are.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rota.client.aio_hub import AsyncHub
from rota.client.programs import (
    ENDED,
    PAUSE_S,
    Files,
    chosen_outputs,
    program_spec,
    raise_unless_completed,
)
from rota.core.errors import RotaError
from rota.core.model import find_generated_seq

if TYPE_CHECKING:
    from rota.client.files import Output

__all__ = ["AsyncProgram", "submit_async_program"]

FIRST_PAUSE_S: Final = 0.02
"""Between the first two looks at a task whose end the channel can't tell of; doubled with each, up to `PAUSE_S`."""


class AsyncProgram:
    """A program on the cluster. Made by `AsyncClient.program` and `AsyncClient.find_program`.

    To cancel what awaits one of these methods, as ``asyncio.wait_for`` does, gives up the waiting and not the program:
    for that there is `cancel`.
    """

    def __init__(self, hub: AsyncHub, task_id: str) -> None:
        self._hub = hub
        self._rest = hub.rest
        self.id = task_id

    async def info(self) -> dict[str, Any]:
        """The task as REST shows it."""
        return await asyncio.to_thread(self._rest.task, self.id)

    async def wait(self, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109 - as its twin has it
        """Return the task, as REST shows it, when it has ended, however it did; through restarts of the coordinator.

        Raises:
            TimeoutError: It has not ended after so many seconds.
        """
        task = await self._find_ended()  # at least one look, as short as the time may be
        if task is not None:
            return task
        try:
            async with asyncio.timeout(timeout):
                return await self._ended()
        except TimeoutError:
            raise TimeoutError(f"task {self.id} has not ended within {timeout:g} s") from None

    async def check(self, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109 - as its twin has it
        """As `wait`, for a program that must do well.

        Raises:
            TaskFailed: It has not.
        """
        task = await self.wait(timeout)
        raise_unless_completed(task)
        return task

    async def cancel(self) -> None:
        """Wish its end; `wait` tells when nothing of it is left."""
        await asyncio.to_thread(self._rest.cancel, self.id)

    async def logs(self) -> bytes:
        """What it has written so far."""
        return await asyncio.to_thread(lambda: b"".join(self._rest.logs(self.id, {})))

    async def outputs(self) -> list[Output]:
        """The files that it has left.

        Raises:
            Conflict: It has not ended.
        """
        return await asyncio.to_thread(self._rest.files.outputs, self.id)

    async def fetch(
        self, to: str | os.PathLike[str] = ".", names: Sequence[str] | None = None, *, overwrite: bool = False
    ) -> list[Path]:
        """Write the files that it has left below a folder; as `Program.fetch`.

        Cancelled meanwhile, it stops: files that are there by then are whole.
        """
        wanted = chosen_outputs(self.id, await self.outputs(), names)
        stopped = threading.Event()
        files = self._rest.files
        try:
            return await asyncio.to_thread(files.fetch, wanted, to, overwrite=overwrite, is_stopped=stopped.is_set)
        finally:
            stopped.set()

    def __repr__(self) -> str:
        return f"<rota.AsyncProgram {self.id}>"

    async def _ended(self) -> dict[str, Any]:
        seq = find_generated_seq(self.id)
        pause_s = FIRST_PAUSE_S
        while True:
            if seq is not None and not (self._hub.is_closing or self._hub.is_over):
                end = self._hub.end_of(seq)
                try:
                    await end
                finally:
                    self._hub.give_up(end)
            else:  # a chosen id, by which the channel knows no task; or a client that was shut down
                await asyncio.sleep(pause_s)
            if (task := await self._find_ended()) is not None:
                return task
            pause_s = min(2 * pause_s, PAUSE_S)
            if seq is not None:  # the coordinator has just gone, or somebody has it run again
                await asyncio.sleep(pause_s)

    async def _find_ended(self) -> dict[str, Any] | None:
        """The task, if it is known to have ended."""
        try:
            task = await self.info()
        except RotaError as error:
            if not error.retryable:
                raise
            return None
        return task if task["state"] in ENDED else None


async def submit_async_program(
    hub: AsyncHub, command: Sequence[str] | None, *, files: Files, outputs: Iterable[str], fields: Mapping[str, Any]
) -> AsyncProgram:
    """Submit a task with files; see `AsyncClient.program`. Cancelled while the files go, it submits nothing."""
    spec, paths = program_spec(command, files=files, outputs=outputs, fields=fields)
    if paths:
        spec["files"] = await asyncio.to_thread(hub.rest.files.ship, paths)
    task = await asyncio.to_thread(hub.rest.submit, spec)
    return AsyncProgram(hub, task["id"])
