"""Reading output: whole or in pieces, with words where some is missing, and on over retries; and nobody in the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rota.coordinator.output import READS_MAX, OutputReader
from rota.coordinator.recorder import Recorder
from rota.coordinator.watches import Watches
from rota.core.changes import Changes
from rota.core.errors import NotFound
from rota.core.model import AttemptRecord, Cause, Progress, StreamName, TaskFacts, TaskRecord, TaskSeq, TaskState
from rota.core.protocol import OutputChunk
from rota.store import BlobStore, open_store
from rota.store.logs import LogPage, LogStore
from tests.support.waiting import wait_until_async

SEQ = TaskSeq(1)
FACTS = TaskFacts(SEQ, None, None, "default", 50, None, created_at=0.0, start_at=None, deadline_at=None, spec=b"")


class Task:
    """One task on the record of a real store, and whoever reads its output."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.record = TaskRecord(FACTS, Progress(state=TaskState.PENDING))
        self._watches = Watches()
        self._number = 0
        self.reader = OutputReader(recorder, self._watches)

    async def save(self, changes: Changes) -> None:
        self._number += 1
        await self.recorder.save(changes, number=self._number)
        self._watches.publish(changes)

    async def change(self, state: TaskState, *, past: AttemptRecord | None = None, **fields: Any) -> None:
        """Put the task, and maybe an attempt that it supersedes, on the record."""
        progress = Progress(state=state, **{"attempt": 1, "queued_at": 1.0, **fields})
        accepted = [FACTS] if self._number == 0 else []
        self.record = TaskRecord(FACTS, progress)
        attempts = [past] if past is not None else []
        await self.save(Changes(accepted=accepted, progress=[(SEQ, progress)], attempts=attempts))

    async def write(self, data: bytes, *, offset: int = 0, stream: StreamName = "stdout", attempt: int = 1) -> None:
        await self.save(Changes(output=[OutputChunk(SEQ, attempt, stream, offset, data)]))

    def read(
        self, *, attempt: int | None = None, stream: StreamName | None = None, follow: bool = False
    ) -> AsyncIterator[bytes]:
        return self.reader.read(self.record, attempt=attempt, stream=stream, follow=follow)

    async def all(self, *, attempt: int | None = None, stream: StreamName | None = None) -> bytes:
        return b"".join([data async for data in self.read(attempt=attempt, stream=stream)])


@pytest.fixture
async def task(tmp_path: Path) -> AsyncIterator[Task]:
    store = open_store("memory", tmp_path, "full")
    leadership = await store.campaign("a test")
    logs = LogStore(tmp_path / "logs", bytes_max=1000, segment_bytes=500, durable=False)
    logs.open(cluster="a test", last_seq=TaskSeq(100))
    recorder = Recorder(store, logs, leadership, blobs=BlobStore(tmp_path / "blobs"))
    yield Task(recorder)
    await recorder.close()


def ended(number: int, **fields: Any) -> AttemptRecord:
    """An attempt that a retry has superseded."""
    return AttemptRecord(
        seq=SEQ, number=number, worker=None, queued_at=1.0, started_at=1.0, ended_at=2.0, cause=Cause.EXIT, **fields
    )


async def test_short_output_comes_from_the_record(task: Task) -> None:
    await task.change(TaskState.COMPLETED, stdout=b"out", stdout_bytes=3, stderr=b"er", stderr_bytes=2)
    assert await task.all() == b"outer"
    assert await task.all(stream="stderr") == b"er"


async def test_pieces_come_as_they_were_written_and_streams_apart_where_asked(task: Task) -> None:
    await task.change(TaskState.RUNNING)
    await task.write(b"one ")
    await task.write(b"two ", stream="stderr")
    await task.write(b"three", offset=4)
    assert await task.all() == b"one two three"
    assert await task.all(stream="stdout") == b"one three"


async def test_a_word_stands_where_output_was_left_out(task: Task) -> None:
    await task.change(TaskState.RUNNING)
    await task.write(b"begin")
    await task.write(b"end", offset=1_005)
    assert await task.all() == b"begin\n[1,000 bytes of stdout were left out]\nend"


async def test_a_word_stands_at_an_end_that_is_missing(task: Task) -> None:
    await task.change(TaskState.COMPLETED, stdout_bytes=10_000)
    await task.write(b"begin")
    assert await task.all() == b"begin\n[9,995 bytes of stdout were left out]\n"
    assert await task.all(stream="stderr") == b""


async def test_a_word_stands_where_retention_has_removed_output(task: Task) -> None:
    await task.change(TaskState.COMPLETED, stdout_bytes=3_000)
    for offset in range(0, 3_000, 500):
        await task.write(b"x" * 500, offset=offset)
    assert (await task.all()).endswith(b"[output that was here has been removed by retention]\n")


async def test_output_that_was_lost_with_its_worker_is_shown_as_far_as_it_came(task: Task) -> None:
    await task.change(TaskState.RUNNING)
    await task.write(b"so far")
    await task.change(TaskState.PENDING, attempt=1, past=None)
    lost = AttemptRecord(
        seq=SEQ, number=1, worker=None, queued_at=1.0, started_at=1.0, ended_at=2.0, cause=Cause.WORKER_LOST
    )
    await task.change(TaskState.RUNNING, attempt=2, past=lost)
    assert await task.all(attempt=1) == b"so far"


@pytest.mark.parametrize("attempt", [0, 2])
async def test_an_attempt_that_has_not_been_is_not_found(attempt: int, task: Task) -> None:
    await task.change(TaskState.RUNNING)
    with pytest.raises(NotFound, match=f"no attempt {attempt}: it has had 1"):
        await task.all(attempt=attempt)


async def test_a_follower_goes_on_over_retries_and_leaves_at_the_end(task: Task) -> None:
    await task.change(TaskState.RUNNING)
    await task.write(b"first ")
    heard = bytearray()

    async def follow() -> None:
        async for data in task.read(follow=True):
            heard.extend(data)

    following = asyncio.create_task(follow())
    await wait_until_async(lambda: heard == b"first ", what="what was there")
    await task.write(b"failed ", offset=6)
    await wait_until_async(lambda: heard.endswith(b"failed "), what="what came since")
    await task.change(TaskState.PENDING, attempt=1, queued_at=None, past=ended(1, stdout_bytes=13))
    await task.change(TaskState.RUNNING, attempt=2)
    await task.write(b"second ", attempt=2)
    await wait_until_async(lambda: heard.endswith(b"second "), what="the second attempt")
    assert not following.done()
    await task.change(TaskState.COMPLETED, attempt=2, stdout_bytes=7)
    await asyncio.wait_for(following, 5.0)
    assert heard == b"first failed second "


async def test_a_follower_of_one_attempt_leaves_when_that_has_ended(task: Task) -> None:
    await task.change(TaskState.PENDING, attempt=1, queued_at=None, past=ended(1, stdout=b"short", stdout_bytes=5))
    async with asyncio.timeout(5.0):
        assert [data async for data in task.read(attempt=1, follow=True)] == [b"short"]


async def test_many_readers_take_few_threads(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    await task.change(TaskState.RUNNING)
    await task.write(b"x")
    lock, at_once, most, go = threading.Lock(), 0, 0, threading.Event()
    read = task.recorder.logs.read

    def slow_read(*arguments: Any, **options: Any) -> LogPage:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        go.wait(5.0)
        with lock:
            at_once -= 1
        return read(*arguments, **options)

    monkeypatch.setattr(task.recorder.logs, "read", slow_read)
    readers = [asyncio.create_task(task.all()) for _ in range(5 * READS_MAX)]
    await wait_until_async(lambda: at_once >= READS_MAX, what="the first readers")
    go.set()
    assert await asyncio.gather(*readers) == [b"x"] * len(readers)
    assert most == READS_MAX


async def test_an_append_waits_for_nobody_who_reads(task: Task) -> None:
    await task.change(TaskState.RUNNING)
    go = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # ends with the loop
    reading = asyncio.ensure_future(asyncio.to_thread(go.wait, 10.0))  # takes the threads that readers share
    try:
        await asyncio.wait_for(task.write(b"written"), 5.0)
        assert not reading.done()
    finally:
        go.set()
    await reading
    assert await task.all() == b"written"
