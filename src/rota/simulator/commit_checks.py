"""What must hold of each commit by its rows alone: budgets, wishes, gangs and losses, next to the rows before it.

What needs to be known of the world besides, such as what really ran, is looked at by `Checker`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rota.core.changes import Changes
from rota.core.gangs import gang_name
from rota.core.model import (
    ACTIVE_STATES,
    ENDED_STATES,
    MACHINE_CAUSES,
    TASK_CAUSES,
    AttemptKey,
    Cause,
    LaneId,
    Progress,
    TaskSeq,
    WorkerId,
)
from rota.simulator.books import spec_of, terms_of_spec
from rota.simulator.promises import Promise, keeps
from rota.simulator.record import Record

__all__ = ["SUPERSEDED", "Ends", "check_gangs", "check_losses", "check_progress"]

Ends = Mapping[AttemptKey, Cause | None]
"""Attempts that a commit ends, and how."""

SUPERSEDED: Final = (Cause.WORKER_LOST, Cause.RETURNED)
"""How the record ends an attempt whose worker did not say how it ended."""


def check_progress(before: Record, seq: TaskSeq, after: Progress, *, ends: Ends, is_revived: bool) -> None:
    """Budgets are charged for what happened, and a wish is kept."""
    known = before.progress.get(seq)
    if known is None or is_revived:
        _check_fresh(after)
        return
    _check_wish(seq, known, after)
    terms = terms_of_spec(before.facts[seq].spec)
    ended_as = ends.get((seq, known.attempt))
    _check_budgets(seq, known, after, ended_as=ended_as, retries_max=terms.retries, losses_max=terms.losses)


@keeps(Promise.BUDGETS)
def _check_fresh(after: Progress) -> None:
    assert (after.retries_used, after.losses_used) == (0, 0), after


@keeps(Promise.CANCELLED)
def _check_wish(seq: TaskSeq, before: Progress, after: Progress) -> None:
    if after.state not in ENDED_STATES:
        assert before.wish in (None, after.wish), f"task {seq} forgot its wish"
    elif before.wish is not None:
        assert after.cause is before.wish, f"task {seq} was to end as {before.wish}, not {after.cause}"


@keeps(Promise.BUDGETS)
def _check_budgets(
    seq: TaskSeq, before: Progress, after: Progress, *, ended_as: Cause | None, retries_max: int, losses_max: int
) -> None:
    charged = ended_as in MACHINE_CAUSES
    if after.state in ENDED_STATES:
        charged = charged or after.cause in MACHINE_CAUSES
    else:
        assert after.retries_used - before.retries_used == (ended_as in TASK_CAUSES), (seq, ended_as)
    assert after.losses_used - before.losses_used == charged, (seq, ended_as)
    assert after.retries_used <= retries_max
    assert after.losses_used <= losses_max + 1


@keeps(Promise.GANGS)
def check_gangs(before: Record, changes: Changes) -> list[str]:
    """All members of a gang are assigned in one commit, or none. Returns the gangs that are, by name."""
    new = {facts.seq: facts for facts in changes.accepted}
    assigned: dict[str, set[TaskSeq]] = {}
    for seq, progress in changes.progress:
        known = before.progress.get(seq)
        is_new = known is None or known.attempt < progress.attempt
        if progress.state in ACTIVE_STATES and is_new and (name := gang_name(new.get(seq) or before.facts[seq])):
            assigned.setdefault(name, set()).add(seq)
    for name, seqs in assigned.items():
        first = min(seqs)
        terms = spec_of((new.get(first) or before.facts[first]).spec).gang
        assert terms is not None
        assert len(seqs) == terms.size, f"{len(seqs)} of {terms.size} members of {name} are placed"
    return list(assigned)


@keeps(Promise.BUDGETS)
def check_losses(before: Record, ends: Ends) -> None:
    """Only the first of a lane is charged for the loss of its worker."""
    lost = [key for key, cause in ends.items() if cause is Cause.WORKER_LOST]
    for key in lost:
        mine = before.progress[key[0]]
        for seq, other in _in_lane(before, mine.worker, mine.lane):
            if (other.place or 0) < (mine.place or 0):
                cause = ends.get((seq, other.attempt), Cause.RETURNED)
                assert cause not in SUPERSEDED, f"{key} is charged a loss behind {seq}"


def _in_lane(record: Record, worker: WorkerId | None, lane: LaneId | None) -> Iterator[tuple[TaskSeq, Progress]]:
    for seq in record.open_seqs():
        progress = record.progress[seq]
        if progress.state in ACTIVE_STATES and (progress.worker, progress.lane) == (worker, lane):
            yield seq, progress
