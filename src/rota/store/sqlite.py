"""The embedded store: one SQLite file in the state directory, one process that has it.

Three threads, each with a connection: the writer does all writes and all checkpoints (which alone rules out
SQLite's old WAL-reset bug), lookups answer what requests wait for, and walks answer what may take long.
A commit is one statement, fsync included; see ``queries.py`` for why.

Every error is translated where a connection is used, so nothing of SQLite's leaves this module.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

import apsw
import msgspec

from rota.core.changes import Changes, Fence
from rota.core.errors import StoreBroken, StoreUnusable
from rota.core.model import (
    AttemptRecord,
    ClientRecord,
    Setting,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerRecord,
    find_generated_seq,
)
from rota.store import queries, rows
from rota.store.base import Leadership, Page, Retention, TaskQuery
from rota.store.failures import translated
from rota.store.history import pick_page
from rota.store.locking import StateLock, make_state_dir, refuse_network_file_system, sync_directory
from rota.store.reading import load_batch, read_page, read_tasks, read_text
from rota.store.schema import check_schema, prepare_schema
from rota.store.threads import SqlThread
from rota.store.writing import commit_turn, install_leader, prune

__all__ = ["DATABASE_NAME", "Durability", "SqliteStore"]

Durability = Literal["full", "relaxed"]
"""``full``: on the disk when a commit returns. ``relaxed``: a power cut may take the last commits, whole ones."""

DATABASE_NAME: Final = "rota.db"

DATABASE_MODE: Final = 0o600
"""Specs hold what users put into environments."""

BUSY_TIMEOUT_MS: Final = 2_000
"""How long a statement waits for a foreign program that has the file locked; nobody should."""

PAGE_CACHE_KIB: Final = 64 * 1024
"""Of the writer: the hot ends of tables and indexes, and what updates touch, stay in memory."""

READER_CACHE_KIB: Final = 8 * 1024

CHECKPOINT_PAGES: Final = 4_000
"""About 16 MiB of WAL: a page that many turns change is copied to the file once, and the WAL is still read quickly."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_counts_decoder: Final = msgspec.json.Decoder(list[int])


class SqliteStore:
    """`rota.store.base.Store` on SQLite. The directory is made, and the file opened, by `campaign`."""

    def __init__(self, state_dir: Path, *, durability: Durability = "full") -> None:
        self._state_dir = state_dir
        self._path = state_dir / DATABASE_NAME
        self._durability = durability
        self._lock: StateLock | None = None
        self._leader: Leadership | None = None
        self._broken: StoreBroken | None = None
        self._writer = SqlThread("store-writer", self._connect_writer)
        self._lookups = SqlThread("store-lookups", self._connect_reader)
        self._walks = SqlThread("store-walks", self._connect_reader)

    async def campaign(self, candidate: str) -> Leadership:
        """Take the directory, or raise `StoreHeld` at once; again: begin another reign."""
        with translated(self._state_dir):
            make_state_dir(self._state_dir)
            refuse_network_file_system(self._state_dir)
        taken = self._lock is None
        if self._lock is None:
            self._lock = StateLock(self._state_dir, candidate)
        try:
            leadership = await self._run(self._writer, install_leader)
        except BaseException:
            if taken:
                self._lock.release()
                self._lock = None
            raise
        self._leader = leadership
        return leadership

    async def load_tasks(self) -> AsyncIterator[Sequence[TaskRecord]]:
        """Yield the tasks that have not ended, in batches, in order of their seq: about 4 µs each."""
        after = TaskSeq(-1)
        while batch := await self._run(self._walks, load_batch, after):
            yield batch
            after = batch[-1].facts.seq

    async def load_workers(self) -> list[WorkerRecord]:
        return rows.decode_workers(await self._run(self._lookups, read_text, queries.WORKERS))

    async def load_clients(self) -> list[ClientRecord]:
        return rows.decode_clients(await self._run(self._lookups, read_text, queries.CLIENTS))

    async def load_settings(self) -> list[Setting]:
        return rows.decode_settings(await self._run(self._lookups, read_text, queries.SETTINGS))

    async def commit(self, changes: Changes, fence: Fence) -> None:
        # Encoded before anything is awaited: the records belong to the core, which may change them later.
        parameters = rows.encode_turn(changes, fence)
        if self._broken is not None:
            raise self._broken
        try:
            await self._run(self._writer, commit_turn, parameters, fence)
        except StoreBroken as error:
            self._broken = error
            raise

    async def history(self, query: TaskQuery) -> Page:
        """Return a page; a state that few tasks are in costs no more than one that many are in."""
        statement, bindings = pick_page(query)
        return await self._run(
            self._walks, read_page, statement, bindings, limit=query.limit, bytes_max=query.bytes_max
        )

    async def find_tasks(self, ids: Sequence[str]) -> dict[str, TaskRecord]:
        by_seq = [seq for seq in map(find_generated_seq, ids) if seq is not None]
        asked = (rows.encode_seqs(by_seq), msgspec.json.encode(ids).decode())
        asked_ids = frozenset(ids)
        found = await self._run(self._lookups, read_tasks, queries.FIND, asked)
        # `t5` is not the name of task 5 if its user chose another.
        return {str(task.facts.id): task for task in found if task.facts.id in asked_ids}

    async def attempts(self, seq: TaskSeq) -> list[AttemptRecord]:
        return rows.decode_attempts(await self._run(self._lookups, read_text, queries.ATTEMPTS, (seq,)))

    async def count_by_state(self) -> dict[TaskState, int]:
        counts = _counts_decoder.decode(await self._run(self._lookups, read_text, queries.COUNT_BY_STATE))
        return dict(zip(TaskState, counts, strict=True))

    async def prune(self, retention: Retention, *, wall: float, at_most: int) -> list[TaskSeq]:
        """Remove a few tasks. Age is looked at from the oldest tasks on, so one that ended late is not overtaken."""
        assert at_most > 0
        assert self._leader is not None, "prune needs leadership: campaign first"
        return await self._run(self._writer, prune, self._leader, retention, wall=wall, at_most=at_most)

    async def close(self) -> None:
        """Close the file, which folds the WAL into it, and let the next coordinator in."""
        self._walks.interrupt()
        with translated(self._path):
            # The writer last: only it may checkpoint.
            for thread in (self._walks, self._lookups, self._writer):
                await thread.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _run(
        self,
        thread: SqlThread,
        function: Callable[Concatenate[apsw.Connection, _P], _R],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        def translating(connection: apsw.Connection) -> _R:
            with translated(self._path, system_errno=lambda: connection.system_errno):
                return function(connection, *args, **kwargs)

        return await thread.run(translating)

    def _connect_writer(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW
        with translated(self._path):
            # SQLite would make it for all to read, in a directory that somebody else made. Its WAL takes after it.
            if not self._path.exists():
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, DATABASE_MODE))
            connection = apsw.Connection(str(self._path.resolve()), flags=flags)
            with _closing_on_failure(connection):
                connection.set_busy_timeout(BUSY_TIMEOUT_MS)
                if connection.execute("PRAGMA journal_mode = WAL").get != "wal":
                    raise StoreUnusable(
                        f"{self._path} is where SQLite can't keep a WAL: use a directory on a local disk"
                    )
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'full' else 'NORMAL'}")
                connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                prepare_schema(connection, self._path)
                connection.execute(queries.WRITER_TRIGGERS)
                sync_directory(self._state_dir)
        return connection

    def _connect_reader(self) -> apsw.Connection:
        with translated(self._path):
            connection = apsw.Connection(str(self._path.resolve()), flags=apsw.SQLITE_OPEN_READONLY)
            with _closing_on_failure(connection):
                connection.set_busy_timeout(BUSY_TIMEOUT_MS)
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
                check_schema(connection, self._path)
        return connection


@contextmanager
def _closing_on_failure(connection: apsw.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
