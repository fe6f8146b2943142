"""The log store: what tasks wrote, when it was more than travels with the result.

Chunks are appended to segment files and indexed by (task, attempt, stream, offset), so a chunk that a worker
sends again is stored once. The segments are the truth; the index beside them is made again where it is missing
or behind. Space is bounded: over ``bytes_max`` the oldest segment goes, whosever output is in it.

Everything here blocks: the coordinator calls it in a thread, `append` before the commit of the same turn. So
an append waits for no reader: these have an index connection and a lock of their own, and read files under no lock.
A segment that goes while it is read is one that retention has removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from typing import Final, Self

from msgspec import Struct

from rota.core.errors import StoreBroken, StoreUnavailable
from rota.core.model import StreamName, TaskSeq
from rota.core.protocol import OutputChunk
from rota.store.failures import translated
from rota.store.locking import sync_directory
from rota.store.log_home import claim_log_directory
from rota.store.log_index import LogIndex, Piece, PieceKey, key_of
from rota.store.segments import (
    HEADER_BYTES,
    OFFSET_MAX,
    encode_record,
    find_segments,
    make_void,
    read_record,
    scan_records,
    segment_path,
)

__all__ = ["LogPage", "LogPiece", "LogStore"]

BYTES_MAX: Final = 4 << 30
SEGMENT_BYTES: Final = 64 << 20
"""A segment is begun after this many: retention works in steps of it."""

INDEX_NAME: Final = "index.db"

PIECES_MAX: Final = 1_000
"""In one page: a chatty task sends two small pieces a second, for days."""

PAGE_BYTES: Final = 1 << 20

REBUILD_RECORDS: Final = 256
"""Indexed at once after a crash: at most 16 MiB of output in memory."""


class LogPiece(Struct, frozen=True):
    """Consecutive bytes of a stream. ``arrival`` orders pieces by when they came: the cursor for what comes next."""

    stream: StreamName
    offset: int
    data: bytes
    arrival: int


class LogPage(Struct, frozen=True):
    """Some pieces; ``has_more`` says that others follow now.

    ``removed`` says that retention has removed some or all of the attempt's output.
    """

    pieces: list[LogPiece]
    has_more: bool
    removed: bool


class LogStore:
    """Output of tasks in a directory of its own. Safe to call from several threads, after `open`."""

    def __init__(
        self, directory: Path, *, bytes_max: int = BYTES_MAX, segment_bytes: int = SEGMENT_BYTES, durable: bool = True
    ) -> None:
        """Touch nothing yet.

        Args:
            directory: For this store alone; made by `open`.
            bytes_max: Of all segments; the newest one is kept in any case.
            segment_bytes: After which a segment is full, at most 1 GiB.
            durable: Whether `append` returns only when its chunks are on the disk.
        """
        assert 0 < segment_bytes <= 1 << 30
        self._directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._durable = durable
        self._lock = Lock()
        self._reader_lock = Lock()
        self._sizes: dict[int, int] = {}
        self._current = 0
        self._fd = -1
        self._index: LogIndex | None = None
        self._reader: LogIndex | None = None

    def open(self, *, cluster: str, last_seq: TaskSeq) -> None:
        """Make or open the directory, cut off a torn record, and bring the index up to the segments.

        Args:
            cluster: Whose output this is; that of another one is moved aside.
            last_seq: Of the cluster's tasks. Output of later ones is dropped: it belongs to tasks that the
                database has lost, and whose numbers will be given again.
        """
        with self._lock, translated(self._directory):
            claim_log_directory(self._directory, cluster)
            self._index = LogIndex(self._directory / INDEX_NAME)
            numbers = find_segments(self._directory)
            self._sizes = {number: segment_path(self._directory, number).stat().st_size for number in numbers}
            self._catch_up(self._index)
            self._use_segment(max(numbers, default=1))
            self._drop_after(self._index, last_seq)
            self._reader = LogIndex(self._directory / INDEX_NAME, is_reader=True)

    def append(self, chunks: Sequence[OutputChunk]) -> None:
        """Store chunks, one fdatasync for all; those that are there already are left out.

        Raises:
            StoreUnavailable: No room; nothing of it was stored.
            StoreBroken: Writing or syncing failed; what is on the disk is unknown.
        """
        with self._used() as index:
            fresh = self._fresh(index, chunks)
            if not fresh:
                return
            if self._sizes[self._current] >= self._segment_bytes:
                self._use_segment(self._current + 1)
            self._write(index, fresh)
            self._keep_within_bounds(index)

    def read(
        self,
        task: TaskSeq,
        attempt: int,
        stream: StreamName | None,
        *,
        offset: int = 0,
        after: int = 0,
        bytes_max: int = PAGE_BYTES,
    ) -> LogPage:
        """Return a page of what an attempt wrote.

        Args:
            task: Whose output.
            attempt: Of which attempt.
            stream: One stream, in order of offset (a gap in the offsets is output that was left out or is
                lost); ``None`` for both, in order of arrival.
            offset: Where to begin in the one stream.
            after: Only what arrived after the piece with this ``arrival``.
            bytes_max: About how much; at least one piece comes if there is one.
        """
        with self._read_only() as index:
            found = index.find(task, attempt, stream=stream, offset=offset, after=after, limit=PIECES_MAX + 1)
            removed = index.is_removed(task, attempt)
        totals = accumulate((piece.length for piece in found), initial=0)
        chosen = [piece for piece, total in zip(found, totals, strict=False) if total < bytes_max][:PIECES_MAX]
        with translated(self._directory), _Segments(self._directory) as segments:
            pieces = list(_read_pieces(segments, chosen))
        if stream is not None:
            pieces = list(_without_overlaps(pieces, offset))
        # A segment that somebody deleted by hand is no different from one that retention removed.
        return LogPage(pieces, has_more=len(chosen) < len(found), removed=removed or segments.is_any_gone)

    def forget(self, tasks: Sequence[TaskSeq]) -> None:
        """Forget the output of tasks; a segment in which nothing else is goes at once, others by retention."""
        with self._used() as index:
            index.forget(tasks)
            self._delete_empty(index)

    def total_bytes(self) -> int:
        """How much all segments hold, with their headers."""
        with self._lock:
            return sum(self._sizes.values())

    def close(self) -> None:
        """Close all files. Safe to call twice."""
        with self._lock, translated(self._directory):
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            with self._reader_lock:
                reader, self._reader = self._reader, None
                if reader is not None:
                    reader.close()
            if self._index is not None:
                self._index.close()
                self._index = None

    @contextmanager
    def _used(self) -> Iterator[LogIndex]:
        """The lock, the index, and errors in our words."""
        with self._lock, self._translated(self._index) as index:
            yield index

    @contextmanager
    def _read_only(self) -> Iterator[LogIndex]:
        """The same for readers, whom no writer waits for."""
        with self._reader_lock, self._translated(self._reader) as index:
            yield index

    @contextmanager
    def _translated(self, index: LogIndex | None) -> Iterator[LogIndex]:
        if index is None:
            raise StoreUnavailable(f"the log store in {self._directory} is not open")
        with translated(self._directory, system_errno=lambda: index.system_errno):
            yield index

    def _catch_up(self, index: LogIndex) -> None:
        """Index what a crash kept from being indexed, and cut off the record that it tore."""
        start = self._reached(index)
        for number in sorted(self._sizes):
            if start is not None and number < start[0]:
                continue
            position = start[1] if start is not None and number == start[0] else 0
            self._index_segment(index, number, position)

    def _reached(self, index: LogIndex) -> tuple[int, int] | None:
        """The segment and position up to which the index is complete; cleared if it knows of bytes that are gone."""
        last = index.reach()
        if last is None:
            return None
        segment, piece = last
        end = piece.position + HEADER_BYTES + piece.length
        if end <= self._sizes.get(segment, 0) and self._is_whole(segment, piece.position):
            return segment, end
        index.clear()
        return None

    def _is_whole(self, segment: int, position: int) -> bool:
        """Look at the last record that the index knows: a crash may have torn it and left its length."""
        fd = os.open(segment_path(self._directory, segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_record(fd, position) is not None
        finally:
            os.close(fd)

    def _index_segment(self, index: LogIndex, number: int, position: int) -> None:
        fd = os.open(segment_path(self._directory, number), os.O_RDWR | os.O_CLOEXEC)
        try:
            end = position
            records = scan_records(fd, position)
            while batch := list(islice(records, REBUILD_RECORDS)):
                index.add(number, [(found.position, found.chunk) for found in batch])
                end = batch[-1].end
            if number == max(self._sizes) and end < self._sizes[number]:
                os.ftruncate(fd, end)
                os.fsync(fd)
                self._sizes[number] = end
        finally:
            os.close(fd)

    def _drop_after(self, index: LogIndex, last: TaskSeq) -> None:
        """Forget output of tasks that are not on the record, in the segments first: the index is made from them."""
        places = index.places_after(last)
        with _Segments(self._directory, flags=os.O_RDWR) as segments:
            for segment, position in places:
                if (fd := segments.find(segment)) is not None:
                    make_void(fd, position)
            segments.sync()
        if places:
            index.forget_after(last)
            self._delete_empty(index)

    def _use_segment(self, number: int) -> None:
        path = segment_path(self._directory, number)
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._current = number
        self._sizes.setdefault(number, 0)
        if is_new:
            sync_directory(self._directory)

    def _fresh(self, index: LogIndex, chunks: Sequence[OutputChunk]) -> list[OutputChunk]:
        by_key: dict[PieceKey, OutputChunk] = {}
        for chunk in chunks:
            # An offset that no output can have is a mistake of the worker's: a gap for whoever reads, not our end.
            if chunk.data and 0 <= chunk.offset <= OFFSET_MAX:
                by_key.setdefault(key_of(chunk), chunk)
        known = index.known(list(by_key))
        return [chunk for key, chunk in by_key.items() if key not in known]

    def _write(self, index: LogIndex, chunks: Sequence[OutputChunk]) -> None:
        begin = self._sizes[self._current]
        records = [encode_record(chunk) for chunk in chunks]
        positions = list(accumulate(map(len, records), initial=begin))
        try:
            _write_all(self._fd, b"".join(records), begin)
            self._sync()
            index.add(self._current, zip(positions[:-1], chunks, strict=True))
        except BaseException:
            # The next append would write over it anyway; but a start must not find half of a turn.
            os.ftruncate(self._fd, begin)
            raise
        self._sizes[self._current] = positions[-1]

    def _sync(self) -> None:
        if not self._durable:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # Never tried again: the kernel may have dropped the pages and would then report success.
            raise StoreBroken(f"syncing {self._directory} failed ({error.strerror}): check the disk") from error

    def _keep_within_bounds(self, index: LogIndex) -> None:
        while len(self._sizes) > 1 and sum(self._sizes.values()) > self._bytes_max:
            oldest = min(self._sizes)
            index.remove_segment(oldest)
            self._delete_segment(oldest)

    def _delete_empty(self, index: LogIndex) -> None:
        for number in [number for number in self._sizes if number != self._current]:
            if index.is_segment_empty(number):
                self._delete_segment(number)

    def _delete_segment(self, number: int) -> None:
        segment_path(self._directory, number).unlink(missing_ok=True)
        del self._sizes[number]


class _Segments:
    """Segment files by number, each opened once, until the end of a ``with`` block."""

    def __init__(self, directory: Path, *, flags: int = os.O_RDONLY) -> None:
        self._directory = directory
        self._flags = flags | os.O_CLOEXEC
        self._fds: dict[int, int | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            if fd is not None:
                os.close(fd)

    @property
    def is_any_gone(self) -> bool:
        """Whether one of those that were asked for is not there."""
        return None in self._fds.values()

    def find(self, number: int) -> int | None:
        """The descriptor of a segment, or ``None`` if it is gone."""
        if number not in self._fds:
            try:
                self._fds[number] = os.open(segment_path(self._directory, number), self._flags)
            except FileNotFoundError:
                self._fds[number] = None
        return self._fds[number]

    def sync(self) -> None:
        """Bring what was written in them to the disk."""
        for fd in self._fds.values():
            if fd is not None:
                os.fsync(fd)


def _read_pieces(segments: _Segments, pieces: Sequence[Piece]) -> Iterator[LogPiece]:
    """The pieces with their bytes; one that is gone, or whose record is damaged, is left out, as a gap."""
    for piece in pieces:
        fd = segments.find(piece.segment)
        chunk = None if fd is None else read_record(fd, piece.position)
        if chunk is not None:
            yield LogPiece(chunk.stream, chunk.offset, chunk.data, piece.place)


def _write_all(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view = view[written:]
        position += written


def _without_overlaps(pieces: Sequence[LogPiece], offset: int) -> Iterator[LogPiece]:
    """Pieces of one stream in order, each byte once, from an offset on."""
    for piece in pieces:
        skipped = max(0, offset - piece.offset)
        if skipped < len(piece.data):
            yield LogPiece(piece.stream, piece.offset + skipped, piece.data[skipped:], piece.arrival)
            offset = piece.offset + len(piece.data)
