"""A whole coordinator inside the test's process, over real stores that a test can hold up or let fail.

Requests go through its HTTP application; what workers would say is put to its loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from rota.coordinator import house as house_module
from rota.coordinator.config import CoordinatorConfig
from rota.coordinator.house import House
from rota.core.changes import Changes, Fence
from rota.core.commands import Command, ReportArrived, SessionId, WorkerHello
from rota.core.errors import RotaError
from rota.core.model import (
    AttemptRecord,
    ClientRecord,
    LaneId,
    Setting,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
)
from rota.core.protocol import PROTOCOL_VERSION, Held, Hello, OutputChunk, Report
from rota.process.clock import wall_s
from rota.store import open_store
from rota.store.base import Leadership, Page, Retention, Store, TaskQuery
from rota.store.logs import LogStore
from tests.support.core import make_offer
from tests.support.waiting import wait_until_async

__all__ = ["ErrantLogs", "ErrantStore", "InnerCoordinator", "inner_coordinator"]

ANSWER_S_MAX: Final = 60.0
"""For any answer: what hangs must fail the test, and nothing here takes a tenth of it."""


class ErrantStore(Store):
    """A real store with gates in front: commits and look-ups wait while theirs is closed, failures are those set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.commits_open = asyncio.Event()
        self.commits_open.set()
        self.finds_open = asyncio.Event()
        self.finds_open.set()
        self.waiting = 0
        self.commit_failure: RotaError | None = None
        self.prune_failure: Exception | None = None
        self.prunes = 0

    async def commit(self, changes: Changes, fence: Fence) -> None:
        await self._pass(self.commits_open)
        if self.commit_failure is not None:
            raise self.commit_failure
        await self._store.commit(changes, fence)

    async def find_tasks(self, ids: Sequence[str]) -> dict[str, TaskRecord]:
        found = await self._store.find_tasks(ids)
        await self._pass(self.finds_open)
        return found

    async def prune(self, retention: Retention, *, wall: float, at_most: int) -> list[TaskSeq]:
        self.prunes += 1
        if self.prune_failure is not None:
            raise self.prune_failure
        return await self._store.prune(retention, wall=wall, at_most=at_most)

    async def campaign(self, candidate: str) -> Leadership:
        return await self._store.campaign(candidate)

    def load_tasks(self) -> AsyncIterator[Sequence[TaskRecord]]:
        return self._store.load_tasks()

    async def load_workers(self) -> list[WorkerRecord]:
        return await self._store.load_workers()

    async def load_settings(self) -> list[Setting]:
        return await self._store.load_settings()

    async def load_clients(self) -> list[ClientRecord]:
        return await self._store.load_clients()

    async def history(self, query: TaskQuery) -> Page:
        return await self._store.history(query)

    async def attempts(self, seq: TaskSeq) -> list[AttemptRecord]:
        return await self._store.attempts(seq)

    async def count_by_state(self) -> dict[TaskState, int]:
        return await self._store.count_by_state()

    async def close(self) -> None:
        await self._store.close()

    async def _pass(self, gate: asyncio.Event) -> None:
        self.waiting += 1
        try:
            await gate.wait()
        finally:
            self.waiting -= 1


class ErrantLogs(LogStore):
    """A real log store whose appends fail while a failure is set."""

    append_failure: RotaError | None = None
    appends = 0

    def append(self, chunks: Sequence[OutputChunk]) -> None:
        self.appends += 1
        if self.append_failure is not None:
            raise self.append_failure
        super().append(chunks)


class InnerCoordinator:
    """What a test sees of it. ``running`` is its `House.run`."""

    def __init__(self, house: House, running: asyncio.Task[None], client: httpx.AsyncClient) -> None:
        self.house = house
        self.running = running
        self._client = client
        self._reports = 0

    @property
    def store(self) -> ErrantStore:
        store = self.house._store
        assert isinstance(store, ErrantStore)
        return store

    @property
    def logs(self) -> ErrantLogs:
        logs = self.house._recorder.logs
        assert isinstance(logs, ErrantLogs)
        return logs

    async def ask(self, method: str, path: str, content: object = None) -> tuple[int, Any]:
        """Return the status and what the JSON of an answer says."""
        body = None if content is None else json.dumps(content).encode()
        async with asyncio.timeout(ANSWER_S_MAX):
            answer = await self._client.request(method, path, content=body)
        return answer.status_code, answer.json()

    async def submit(self, count: int | None = None, **fields: object) -> tuple[int, Any]:
        """Submit one task, or an array of equal ones."""
        task = {"command": ["true"], **fields}
        return await self.ask("POST", "/api/v1/tasks", task if count is None else [task] * count)

    def begin_submit(self, count: int | None = None, **fields: object) -> asyncio.Task[tuple[int, Any]]:
        """Submit, and don't wait for the answer."""
        return asyncio.create_task(self.submit(count, **fields))

    async def cancel(self, task_id: str) -> None:
        """Cancel a task."""
        status, _ = await self.ask("DELETE", f"/api/v1/tasks/{task_id}")
        assert status in (200, 202)

    async def is_ready(self) -> bool:
        """Ask as a load balancer does."""
        status, _ = await self.ask("GET", "/readyz")
        return status == 200

    async def wait_until_waiting(self, count: int = 1) -> None:
        """Wait until so many calls stand before closed gates of the store."""
        await wait_until_async(lambda: self.store.waiting == count, what=f"{count} calls before the gates")

    async def wait_for_inbox(self, tasks: int) -> None:
        """Wait until so many tasks lie in the inbox."""
        await wait_until_async(lambda: self.house._inbox.tasks == tasks, what=f"{tasks} tasks in the inbox")

    def put(self, command: Command) -> None:
        """Say something as a worker would."""
        self.house._loop.put(command)

    def say_hello(self, session: int, *, holds: Iterable[int] = ()) -> None:
        """Let a worker in, which still runs the first attempts of these tasks."""
        held = [Held(TaskSeq(seq), 1, LaneId(seq), seq, True) for seq in holds]
        self.put(
            WorkerHello(
                SessionId(session),
                Hello(PROTOCOL_VERSION, WorkerId("w1"), "one", make_offer(), None, held, [], wall_s()),
            )
        )

    def send_output(self, session: int, seq: int, data: bytes, *, offset: int = 0) -> None:
        """Let the worker report what the first attempt of a task wrote."""
        self._reports += 1
        chunk = OutputChunk(TaskSeq(seq), 1, "stdout", offset, data)
        self.put(ReportArrived(SessionId(session), Report(self._reports, output=[chunk])))


@asynccontextmanager
async def inner_coordinator(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[InnerCoordinator]:
    """Run a coordinator until the block ends, however it went."""
    monkeypatch.setattr(house_module, "open_store", lambda *arguments: ErrantStore(open_store(*arguments)))
    monkeypatch.setattr(house_module, "LogStore", ErrantLogs)
    house = House(CoordinatorConfig(state_dir=folder / "state", **settings), seed=1)
    await house.open(candidate="a test")
    running = asyncio.create_task(house.run())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://127.0.0.1")
    try:
        async with client:
            yield InnerCoordinator(house, running, client)
    finally:
        running.cancel()
        await house.close()
        await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # looked at by the test where it matters
