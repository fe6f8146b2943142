"""What the SQLite store reads: each function is called with a connection, in the thread that has it.

Whole tasks come in two steps: first which, and how large, then the tasks, a bounded number of bytes an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import apsw
import msgspec

from rota.core.model import TaskRecord, TaskSeq
from rota.store import queries, rows
from rota.store.base import Leadership, Page
from rota.store.history import Bindings

__all__ = ["load_batch", "read_fence", "read_page", "read_sized", "read_tasks", "read_text"]

FETCH_BYTES_MAX: Final = 8 << 20
"""Of specs and progress in one answer of SQLite's, which is one text with the bytes in hex."""

LOAD_ROWS: Final = 5_000
"""A batch at a start: some milliseconds of the core's time."""

Parameters = Bindings | tuple[int | float | str, ...]

_sized_decoder: Final = msgspec.json.Decoder(list[tuple[int, int]])


def read_text(connection: apsw.Connection, statement: str, parameters: Parameters = ()) -> str:
    """Return the one text that a statement gives."""
    text = connection.execute(statement, parameters).get
    assert isinstance(text, str)
    return text


def read_sized(connection: apsw.Connection, statement: str, parameters: Parameters) -> list[tuple[int, int]]:
    """Return pairs of numbers: seq and bytes, or seq and state."""
    return _sized_decoder.decode(read_text(connection, statement, parameters))


def read_tasks(connection: apsw.Connection, statement: str, parameters: Parameters) -> list[TaskRecord]:
    """Return the tasks that a statement names by seq and bytes, in its order."""
    return _fetch(connection, read_sized(connection, statement, parameters))


def read_page(
    connection: apsw.Connection, statement: str, parameters: Parameters, *, limit: int, bytes_max: int | None
) -> Page:
    """Return the first of the tasks that a statement names by seq and bytes.

    Where the next page begins is known even if all of these are removed before they are fetched.

    Args:
        connection: In its thread.
        statement: Names up to one more than ``limit``.
        parameters: Of the statement.
        limit: How many at most.
        bytes_max: How large they may be together, unless the first is larger.
    """
    sized = read_sized(connection, statement, parameters)
    count, total = 0, 0
    for _, size in sized[:limit]:
        total += size
        if count and bytes_max is not None and total > bytes_max:
            break
        count += 1
    next_before = TaskSeq(sized[count - 1][0]) if count < len(sized) else None
    return Page(_fetch(connection, sized[:count]), next_before)


def _fetch(connection: apsw.Connection, sized: Sequence[tuple[int, int]]) -> list[TaskRecord]:
    found: list[TaskRecord] = []
    for seqs in _portions(sized):
        found += rows.decode_fetched(read_text(connection, queries.FETCH, (rows.encode_seqs(seqs),)))
    return found


def load_batch(connection: apsw.Connection, after: TaskSeq) -> list[TaskRecord]:
    """Return the next unfinished tasks after a seq, in order of it."""
    return rows.decode_loaded(connection.execute(queries.LOAD, (after, LOAD_ROWS)))


def read_fence(connection: apsw.Connection) -> Leadership:
    """Return where the store stands."""
    cluster, epoch, holder, number, last_seq = connection.execute(queries.FENCE).get
    return Leadership(cluster, epoch, holder, number, TaskSeq(last_seq))


def _portions(sized: Sequence[tuple[int, int]]) -> Iterator[list[TaskSeq]]:
    portion: list[TaskSeq] = []
    total = 0
    for seq, size in sized:
        if portion and total + size > FETCH_BYTES_MAX:
            yield portion
            portion, total = [], 0
        portion.append(TaskSeq(seq))
        total += size
    if portion:
        yield portion
