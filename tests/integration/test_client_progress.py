"""What running tasks say of their progress, seen by REST, by events and not on the record; and functions by REST."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rota.coordinator.service import Event
from rota.core.model import Cause
from tests.support.stage import stage
from tests.support.waiting import wait_until_async


async def test_marks_are_shown_while_the_attempt_runs_and_told_to_listeners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker, client = await on.worker(is_eager=False), await on.client()
        (seq,) = await client.wait_for_tasks(client.submit(on.function(retries=1, backoff=0.0), args=[b""]))
        await worker.wait_for_attempts(1)
        worker.start(seq)
        heard: list[Event] = []
        listening = asyncio.create_task(listen(on.coordinator.house.service.events(None), heard))
        await wait_until_async(lambda: on.coordinator.house._events.listeners == 1, what="the listener")

        async def progress() -> object:
            _, task = await on.coordinator.ask("GET", f"/api/v1/tasks/t{seq}")
            return task["progress"]

        worker.mark(seq, 0.4, "parsing")
        worker.mark(seq, 0.9, "of another attempt", attempt=7)
        await wait_until_async(progress, what="the mark")
        assert await progress() == {"fraction": 0.4, "text": "parsing"}
        await wait_until_async(lambda: [event for event in heard if event.type == "task.progress"], what="the event")
        (event,) = [event for event in heard if event.type == "task.progress"]
        assert (event.task, event.attempt, event.fraction, event.text) == (f"t{seq}", 1, 0.4, "parsing")
        worker.end(seq, cause=Cause.ERROR)
        await worker.wait_for_attempts(1)
        worker.start(seq)
        await wait_until_async(lambda: [e for e in heard if (e.type, e.attempt) == ("task.running", 2)], what="a retry")
        assert await progress() is None
        listening.cancel()
        await asyncio.wait((listening,))
        page = [event.id for event in heard]
        assert page == sorted(page, key=lambda text: tuple(map(int, text.split("."))))


async def listen(events: AsyncIterator[Event | None], heard: list[Event]) -> None:
    async for event in events:
        heard += [event] if event is not None else []


async def test_a_function_that_came_by_rest_runs_as_one_that_came_on_a_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(is_eager=False)
        args = base64.b64encode(b"envelope").decode()
        function: dict[str, Any] = {"command": None, "callable": "f", "python": "3.11", "args": args}
        status, refusal = await on.coordinator.submit(function="ab" * 32, **function)
        assert (status, refusal["code"]) == (400, "blob_missing")
        status, task = await on.coordinator.submit(function=on.blob(b"a function"), **function)
        assert (status, task["kind"], task["args"]) == (201, "function", args)
        await worker.wait_for_attempts(1)
        client = await on.client()
        client.follow(*worker.held)
        worker.end()
        await client.wait_until(lambda: client.outcomes, what="its end")


async def test_a_function_that_waits_says_which_pythons_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        _, task = await on.coordinator.submit(command=None, function=on.blob(b"f"), python="3.12")
        assert (task["reason"], task["reason_text"]) == ("tags", "no worker runs Python 3.12 (w1 has 3.11)")
        _, nodes = await on.coordinator.ask("GET", "/api/v1/nodes")
        assert nodes[0]["python"] == "3.11"
