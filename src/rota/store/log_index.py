"""Where each piece of output is: a small database beside the segments, which can be made again from them.

A piece's key is its place: segment and position in one number, so its order is the order of arrival, and the
highest one says how far the index reaches. It is not synced with the segments: what is missing after a crash is
read from them, and a file that is damaged is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec
from msgspec import Struct

from rota.core.model import StreamName, TaskSeq
from rota.core.protocol import OutputChunk

__all__ = ["LogIndex", "Piece", "PieceKey", "key_of"]

PieceKey = tuple[TaskSeq, int, StreamName, int]
"""(task, attempt, stream, offset): the same key is the same bytes, sent again."""

_INDEX_VERSION: Final = 1
_PLACE_BITS: Final = 32
"""Of the position: a segment is far below 4 GiB."""

READER_TIMEOUT_MS: Final = 1_000
"""A reader waits so long in the moment in which the file is checkpointed whole; else it waits for nobody."""

_SCHEMA: Final = f"""
CREATE TABLE piece (
    place INTEGER PRIMARY KEY, seq INTEGER NOT NULL, attempt INTEGER NOT NULL,
    stream TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX piece_key ON piece (seq, attempt, stream, offset);
-- Attempts of which retention has removed output: the only thing here that the segments can't tell.
CREATE TABLE removed (seq INTEGER, attempt INTEGER, PRIMARY KEY (seq, attempt)) STRICT, WITHOUT ROWID;
PRAGMA user_version = {_INDEX_VERSION};
"""

# The positions, in the list that is given, of pieces that are there.
_KNOWN: Final = """
SELECT json_group_array(asked.key) FROM json_each(?) AS asked CROSS JOIN piece
ON seq = asked.value->>0 AND attempt = asked.value->>1 AND stream = asked.value->>2 AND offset = asked.value->>3
"""

_ADD: Final = """
INSERT INTO piece (seq, attempt, stream, offset, length, place)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM jsonb_each(?) WHERE true
ON CONFLICT DO NOTHING
"""

# Pieces of one stream that reach beyond an offset, in order of it; of both, in order of arrival.
_OF_STREAM: Final = """
SELECT json_group_array(json_array(place, stream, offset, length) ORDER BY offset) FROM (
    SELECT * FROM piece WHERE seq = ?1 AND attempt = ?2 AND stream = ?3 AND offset + length > ?4 AND place > ?5
    ORDER BY offset LIMIT ?6
)
"""

_OF_BOTH: Final = """
SELECT json_group_array(json_array(place, stream, offset, length) ORDER BY place) FROM (
    SELECT * FROM piece WHERE seq = ?1 AND attempt = ?2 AND place > ?3 ORDER BY place LIMIT ?4
)
"""

_IS_REMOVED: Final = "SELECT EXISTS (SELECT 1 FROM removed WHERE seq = ? AND attempt = ?)"

# Tasks beyond a seq.
_PLACES_AFTER: Final = "SELECT json_group_array(place) FROM piece WHERE seq > ?"

_FORGET_AFTER: Final = """
DELETE FROM piece WHERE seq > ?1;
DELETE FROM removed WHERE seq > ?1;
"""

_FORGET: Final = """
DELETE FROM piece WHERE seq IN (SELECT value FROM json_each(?1));
DELETE FROM removed WHERE seq IN (SELECT value FROM json_each(?1));
"""

_REMOVE_PLACES: Final = """
INSERT OR IGNORE INTO removed SELECT seq, attempt FROM piece WHERE place >= ?1 AND place < ?2;
DELETE FROM piece WHERE place >= ?1 AND place < ?2;
"""

_HAS_PLACES: Final = "SELECT EXISTS (SELECT 1 FROM piece WHERE place >= ? AND place < ?)"

_LAST: Final = "SELECT place, length FROM piece ORDER BY place DESC LIMIT 1"

_numbers_decoder: Final = msgspec.json.Decoder(list[int])


class Piece(Struct, frozen=True, array_like=True, gc=False):
    """A stored piece: ``place`` orders pieces by arrival."""

    place: int
    stream: StreamName
    offset: int
    length: int

    @property
    def segment(self) -> int:
        return _location(self.place)[0]

    @property
    def position(self) -> int:
        return _location(self.place)[1]


_pieces_decoder: Final = msgspec.json.Decoder(list[Piece])


def _location(place: int) -> tuple[int, int]:
    """The segment and the position in it that a place is made of."""
    return place >> _PLACE_BITS, place & ((1 << _PLACE_BITS) - 1)


def key_of(chunk: OutputChunk) -> PieceKey:
    """What a chunk is known by."""
    return (chunk.task, chunk.attempt, chunk.stream, chunk.offset)


class LogIndex:
    """The index, opened; one thread at a time. Raises `apsw.Error`."""

    def __init__(self, path: Path, *, is_reader: bool = False) -> None:
        """Open or make the file; or, for a reader, open the one that another `LogIndex` keeps open."""
        if is_reader:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self._connection.set_busy_timeout(READER_TIMEOUT_MS)
            return
        try:
            self._connection = _open(path)
        except (apsw.CorruptError, apsw.NotADBError):
            for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                name.unlink(missing_ok=True)
            self._connection = _open(path)

    def close(self) -> None:
        self._connection.close()

    @property
    def system_errno(self) -> int:
        """What the operating system said at the last I/O error."""
        return self._connection.system_errno

    def reach(self) -> tuple[int, Piece] | None:
        """The last piece that is known, with its segment; ``None`` for an empty index."""
        last = self._connection.execute(_LAST).get
        return None if last is None else (last[0] >> _PLACE_BITS, Piece(last[0], "stdout", 0, last[1]))

    def clear(self) -> None:
        """Forget everything, to be filled again from the segments."""
        self._connection.execute("DELETE FROM piece")

    def known(self, keys: Sequence[PieceKey]) -> frozenset[PieceKey]:
        """Those of the keys that are stored."""
        positions = _numbers_decoder.decode(self._connection.execute(_KNOWN, (_json(keys),)).get)
        return frozenset(keys[position] for position in positions)

    def add(self, segment: int, placed: Iterable[tuple[int, OutputChunk]]) -> None:
        """Add pieces by their positions in a segment, all or none; known ones stay as they are."""
        base = segment << _PLACE_BITS
        rows = [(*key_of(chunk), len(chunk.data), base | position) for position, chunk in placed]
        self._connection.execute(_ADD, (_json(rows),))

    def find(
        self, task: TaskSeq, attempt: int, *, stream: StreamName | None, offset: int, after: int, limit: int
    ) -> list[Piece]:
        """Pieces of one stream from an offset on, in order of it; or of both, in order of arrival."""
        if stream is None:
            found = self._connection.execute(_OF_BOTH, (task, attempt, after, limit))
        else:
            found = self._connection.execute(_OF_STREAM, (task, attempt, stream, offset, after, limit))
        return _pieces_decoder.decode(found.get)

    def is_removed(self, task: TaskSeq, attempt: int) -> bool:
        """Whether retention has removed output of the attempt."""
        return bool(self._connection.execute(_IS_REMOVED, (task, attempt)).get)

    def places_after(self, last: TaskSeq) -> list[tuple[int, int]]:
        """Where the pieces of tasks beyond this one are: (segment, position)."""
        return list(map(_location, _numbers_decoder.decode(self._connection.execute(_PLACES_AFTER, (last,)).get)))

    def forget_after(self, last: TaskSeq) -> None:
        """Forget all about tasks beyond this one."""
        with self._connection:
            self._connection.execute(_FORGET_AFTER, (last,) * 2)

    def forget(self, tasks: Sequence[TaskSeq]) -> None:
        """Forget all about some tasks."""
        with self._connection:
            self._connection.execute(_FORGET, (_json(tasks),) * 2)

    def remove_segment(self, segment: int) -> None:
        """Forget the pieces in a segment, and remember whose they were."""
        bounds = (segment << _PLACE_BITS, (segment + 1) << _PLACE_BITS)
        with self._connection:
            self._connection.execute(_REMOVE_PLACES, bounds * 2)

    def is_segment_empty(self, segment: int) -> bool:
        """Whether no piece in a segment is known."""
        bounds = (segment << _PLACE_BITS, (segment + 1) << _PLACE_BITS)
        return not self._connection.execute(_HAS_PLACES, bounds).get


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    try:
        # One by one: a statement that gives a row keeps those behind it waiting until the row is fetched.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").get != _INDEX_VERSION:
            with connection:
                connection.execute("DROP TABLE IF EXISTS piece; DROP TABLE IF EXISTS removed;" + _SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _json(values: object) -> str:
    return msgspec.json.encode(values).decode()
