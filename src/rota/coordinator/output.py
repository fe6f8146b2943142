"""Reads what tasks wrote, and goes on reading while they write.

Short output stands in the attempt's row, longer output in the log store. Pieces come as they were
written; where some were left out for size, or removed by retention, a line says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from msgspec import Struct

from rota.coordinator.recorder import Recorder
from rota.coordinator.watches import Watches
from rota.core.errors import NotFound
from rota.core.model import ENDED_STATES, AttemptRecord, Progress, StreamName, TaskRecord, TaskSeq
from rota.store.logs import LogPage, LogPiece

__all__ = ["READS_MAX", "OutputReader"]

READS_MAX: Final = 4
"""Of the log store at once, a thread and a page (1 MiB) each: many readers must not take the threads of all others."""


class _Cursor:
    """How far one reader is in the output of one attempt."""

    def __init__(self) -> None:
        self.after = 0
        self.offsets: dict[StreamName, int] = {"stdout": 0, "stderr": 0}


class _Account(Struct, frozen=True):
    """What the record says of an attempt's output: whole if it was short, else only how much there was."""

    number: int
    has_ended: bool
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether all of it stands here. Nothing at all may mean that its worker was lost: then pieces are left."""
        wrote = self.stdout_bytes + self.stderr_bytes > 0
        return self.has_ended and wrote and len(self.stdout) + len(self.stderr) == self.stdout_bytes + self.stderr_bytes

    def bytes_of(self, stream: StreamName) -> int:
        return self.stdout_bytes if stream == "stdout" else self.stderr_bytes


class OutputReader:
    """Gives the output of attempts as streams of bytes."""

    def __init__(self, recorder: Recorder, watches: Watches) -> None:
        self._recorder = recorder
        self._watches = watches
        self._reading = asyncio.Semaphore(READS_MAX)

    async def read(
        self, record: TaskRecord, *, attempt: int | None, stream: StreamName | None, follow: bool
    ) -> AsyncIterator[bytes]:
        """Yield what an attempt wrote; with ``follow``, what it and its successors write until the task has ended.

        Args:
            record: The task.
            attempt: Its number; the latest if ``None``.
            stream: One stream, or both in the order in which they arrived.
            follow: Whether to wait for more.

        Raises:
            NotFound: There is no such attempt.
        """
        seq = record.facts.seq
        number = attempt if attempt is not None else record.progress.attempt
        if attempt is not None and not 1 <= attempt <= record.progress.attempt:
            raise NotFound(f"task {record.facts.id} has no attempt {attempt}: it has had {record.progress.attempt}")
        with self._watches.watch(seq) as changed:
            cursor = _Cursor()
            while True:
                changed.clear()
                current = await self._reload(record)
                account = await self._account(current, number)
                async for data in self._news(seq, account, cursor, stream=stream):
                    if data:
                        yield data
                if not follow:
                    return
                if account.has_ended and attempt is None and number < current.progress.attempt:
                    number, cursor = number + 1, _Cursor()
                    continue
                if account.has_ended and (attempt is not None or current.progress.state in ENDED_STATES):
                    return
                await changed.wait()

    async def _reload(self, record: TaskRecord) -> TaskRecord:
        task_id = record.facts.id
        return (await self._recorder.store.find_tasks([task_id])).get(task_id, record)

    async def _account(self, record: TaskRecord, number: int) -> _Account:
        progress = record.progress
        if number == progress.attempt and (progress.queued_at is not None or number == 0):
            return _account_of(number, progress, has_ended=progress.state in ENDED_STATES)
        for past in await self._recorder.store.attempts(record.facts.seq):
            if past.number == number:
                return _account_of(number, past, has_ended=True)
        return _Account(number, has_ended=True, stdout=b"", stderr=b"", stdout_bytes=0, stderr_bytes=0)

    async def _news(
        self, seq: TaskSeq, account: _Account, cursor: _Cursor, *, stream: StreamName | None
    ) -> AsyncIterator[bytes]:
        """Yield what the reader has not seen yet."""
        streams: tuple[StreamName, ...] = (stream,) if stream is not None else ("stdout", "stderr")
        if account.is_whole:
            for name in streams:
                whole = account.stdout if name == "stdout" else account.stderr
                yield whole[cursor.offsets[name] :]
                cursor.offsets[name] = len(whole)
            return
        while True:
            page = await self._page(seq, account.number, after=cursor.after)
            for piece in page.pieces:
                cursor.after = max(cursor.after, piece.arrival)
                if piece.stream in streams:
                    yield _continue(cursor, piece)
            if not page.has_more:
                break
        if page.removed:
            yield b"[output that was here has been removed by retention]\n"
        elif account.has_ended:
            yield b"".join(_end_of(name, account, cursor) for name in streams)

    async def _page(self, seq: TaskSeq, attempt: int, *, after: int) -> LogPage:
        async with self._reading:
            return await asyncio.to_thread(self._recorder.logs.read, seq, attempt, None, after=after)


def _account_of(number: int, kept: Progress | AttemptRecord, *, has_ended: bool) -> _Account:
    return _Account(number, has_ended, kept.stdout, kept.stderr, kept.stdout_bytes, kept.stderr_bytes)


def _continue(cursor: _Cursor, piece: LogPiece) -> bytes:
    """What a piece adds to what was read of its stream: maybe a gap before it, maybe less than all of it."""
    expected = cursor.offsets[piece.stream]
    cursor.offsets[piece.stream] = max(expected, piece.offset + len(piece.data))
    if piece.offset > expected:
        return _left_out(piece.stream, piece.offset - expected) + piece.data
    return piece.data[expected - piece.offset :]


def _end_of(stream: StreamName, account: _Account, cursor: _Cursor) -> bytes:
    """A word about what is missing at the end of a stream, if anything is."""
    missing = account.bytes_of(stream) - cursor.offsets[stream]
    cursor.offsets[stream] = max(cursor.offsets[stream], account.bytes_of(stream))
    return _left_out(stream, missing) if missing > 0 else b""


def _left_out(stream: StreamName, count: int) -> bytes:
    return f"\n[{count:,} bytes of {stream} were left out]\n".encode()
