"""What the SQLite store writes: each function is called with the writer's connection, in its thread.

Every function is one statement at its heart, so it is whole or not at all; the fence is in it.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Final

import apsw

from rota.core.changes import Fence
from rota.core.errors import LostLeadership
from rota.core.model import TaskSeq, TaskState
from rota.store import queries, rows
from rota.store.base import Leadership, Retention
from rota.store.reading import read_fence, read_sized

__all__ = ["commit_turn", "install_leader", "prune"]

PRUNE_WINDOW_ROWS: Final = 5_000
"""How many of the oldest ended tasks of each state are looked at for when they ended in one step: some milliseconds."""


def install_leader(connection: apsw.Connection) -> Leadership:
    """Begin a reign: the next epoch, and a holder that nobody else ever was."""
    with connection:
        connection.execute(queries.MAKE_FENCE, (uuid.uuid4().hex,))
        connection.execute(queries.INSTALL_LEADER, (uuid.uuid4().hex,))
    return read_fence(connection)


def commit_turn(connection: apsw.Connection, parameters: rows.TurnParameters, fence: Fence) -> None:
    """Write a turn. Where the outcome is unknown, or the turn came before, the fence row says what happened.

    Raises:
        LostLeadership: The fence is another's, or at another number.
        apsw.Error: Nothing was written.
    """
    try:
        connection.execute(queries.COMMIT_TURN, parameters)
    except apsw.IOError:
        # What SQLite would read back now is its own memory, not the disk: only a new start can tell.
        raise
    except apsw.ConstraintError as error:
        if queries.FENCE_REFUSED not in str(error):
            raise
        found = read_fence(connection)
        if not _is_at(found, fence):
            raise LostLeadership(epoch=fence.epoch, found=found.epoch) from error
    except apsw.Error:
        if not _is_at(read_fence(connection), fence):
            raise


def prune(
    connection: apsw.Connection, leader: Leadership, retention: Retention, *, wall: float, at_most: int
) -> list[TaskSeq]:
    """Remove up to ``at_most`` ended tasks that are too old or too many."""
    window = max(at_most, PRUNE_WINDOW_ROWS)
    removed = dict(read_sized(connection, queries.PICK_EXPIRED, (wall - retention.max_age_s, window, at_most)))
    kept = connection.execute(queries.COUNT_ENDED).get - len(removed)
    surplus = min(kept - retention.max_tasks, at_most - len(removed))
    if surplus > 0:
        candidates = read_sized(connection, queries.PICK_SURPLUS, (window, surplus + len(removed)))
        removed |= [pair for pair in candidates if pair[0] not in removed][:surplus]
    if removed:
        _remove(connection, leader, removed)
    return [TaskSeq(seq) for seq in sorted(removed)]


def _remove(connection: apsw.Connection, leader: Leadership, removed: dict[int, int]) -> None:
    states = Counter(removed.values())
    ended = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)
    seqs = rows.encode_seqs(map(TaskSeq, removed))
    try:
        connection.execute(
            queries.PRUNE, (leader.epoch, leader.holder, seqs, *(states[state.value] for state in ended))
        )
    except apsw.ConstraintError as error:
        if queries.FENCE_REFUSED not in str(error):
            raise
        raise LostLeadership(epoch=leader.epoch, found=read_fence(connection).epoch) from error


def _is_at(found: Leadership, fence: Fence) -> bool:
    return (found.epoch, found.holder, found.number) == (fence.epoch, fence.holder, fence.number)
