"""Gangs: tasks that run together or not at all.

A gang is as many tasks as its size says, submitted under one id. They wait until all are accepted and ready, are then
placed in one turn, each in a lane of its own (`rota.core.gang_placing`), and stop together: an end of one that is no
success stops the others. Either all run again, or all end (`rota.core.gang_ends`).

Nothing of a gang is kept apart from its tasks. Which tasks belong together is a label in the facts of each
(`GANG_LABEL`), written when it is accepted: the id and the number of the first member, so that an id may be used
again once its gang has ended. Ranks are the order of acceptance. Where a gang stands follows from its members:

- all pending: it waits, for members, for delays of theirs, or for room;
- all active: it runs;
- some of each: it is about to run again, and those that are active are being stopped;
- fewer than its size, and active: the others have completed. What is left can't run again as a whole, so it ends
  with the next that does not complete.

So a restart finds every gang in the phase in which it was.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rota.core.model import ACTIVE_STATES, GangTerms, Reason, TaskFacts, TaskSeq, Terms
from rota.core.spec import GANG_LABEL
from rota.core.task import Task
from rota.core.timers import GangImpossible

__all__ = ["Gang", "Gangs", "gang_name"]

_decode_labels = msgspec.json.Decoder(dict[str, str]).decode
_encode_labels = msgspec.json.Encoder(order="deterministic").encode


def gang_name(facts: TaskFacts) -> str | None:
    """The name of the gang that an accepted task belongs to: what all members have in common, and no other task."""
    return None if facts.labels is None else _decode_labels(facts.labels).get(GANG_LABEL)


class Gang:
    """One gang that has not ended.

    ``members`` are those that have not ended, ``ready`` those of them that wait for nothing but the gang; ``active``
    counts those that a worker has. ``kinds`` are the different terms of its members, found when it became complete: it
    may be looked at often while it waits, and has up to a thousand members. ``fate`` says which member's end is that of
    all, once there is one. ``block`` is the pause or cap that keeps all from being placed, if one does, ``fits`` how
    many had room when it was looked last. ``verdict`` is how many could ever have room, as found when the workers were
    as `Cluster.version` says; ``impossible`` the timer that ends the patience if that is not all.
    """

    __slots__ = (
        "accepted",
        "active",
        "block",
        "fate",
        "fits",
        "impossible",
        "is_new",
        "kinds",
        "members",
        "name",
        "ready",
        "terms",
        "verdict",
    )

    def __init__(self, name: str, terms: GangTerms) -> None:
        self.name = name
        self.terms = terms
        self.accepted = 0
        self.members: dict[TaskSeq, Task] = {}
        self.ready: dict[TaskSeq, Task] = {}
        self.active = 0
        self.kinds: tuple[Terms, ...] = ()
        self.block: Reason | None = None
        self.fate: str | None = None
        self.fits: int | None = None
        self.is_new = True
        self.verdict: tuple[int, int] | None = None
        self.impossible: GangImpossible | None = None

    @property
    def size(self) -> int:
        return self.terms.size

    @property
    def is_complete(self) -> bool:
        """Whether all members are there and wait for nothing but room."""
        return len(self.ready) == self.size

    @property
    def is_stopping(self) -> bool:
        """Whether those that are active are being stopped so that all can run again."""
        return 0 < self.active < len(self.members)

    @property
    def is_whole(self) -> bool:
        """Whether no member has ended, so that all can run again."""
        return len(self.members) == self.size

    def in_order(self) -> list[Task]:
        """The members that have not ended, by rank if it is whole."""
        return [self.members[seq] for seq in sorted(self.members)]

    def call(self, task: Task) -> str:
        """What a member is called in a sentence, before it leaves."""
        rank = sorted(self.members).index(task.seq) if self.is_whole else None
        return f"{task.id}" if rank is None else f"{task.id} (rank {rank})"


class Gangs:
    """All gangs that have not ended. ``complete`` are those that wait for room."""

    def __init__(self) -> None:
        self.complete: dict[Gang, None] = {}
        self.by_name: dict[str, Gang] = {}
        self._latest: dict[str, Gang] = {}
        self._of: dict[TaskSeq, Gang] = {}

    def of(self, task: Task) -> Gang:
        """The gang of a member that has not ended."""
        return self._of[task.seq]

    def find_refusal(self, wanted: Iterable[GangTerms | None]) -> tuple[int, str] | None:
        """Say which of some tasks can't be accepted, if one can't, and why. ``None`` is a task without a gang."""
        planned: dict[str, tuple[int, int]] = {}
        for index, terms in enumerate(wanted):
            if terms is None:
                continue
            gang = self._latest.get(terms.id)
            known = (terms.size, 0) if gang is None else (gang.size, gang.accepted)
            size, accepted = planned.get(terms.id, known)
            if terms.size != size:
                return index, f"gang {terms.id!r} has size {size}, not {terms.size}: its members must all say the same"
            if accepted >= size:
                is_there = "has all of its" if gang is not None else "would have more than its"
                return index, f"gang {terms.id!r} {is_there} {size} members: give others another id"
            planned[terms.id] = (size, accepted + 1)
        return None

    # Who belongs to it

    def join(self, task: Task, labels: str | None) -> str:
        """Take in a new task, which `find_refusal` has let pass; return its labels with that of its gang."""
        terms = task.terms.gang
        assert terms is not None
        gang = self._latest.get(terms.id)
        if gang is None:
            gang = self._latest[terms.id] = self._make(f"{terms.id}/{task.seq}", terms)
        self._take(gang, task)
        all_labels = {} if labels is None else _decode_labels(labels)
        return _encode_labels({**all_labels, GANG_LABEL: gang.name}).decode()

    def come_back(self, task: Task, facts: TaskFacts) -> None:
        """Take in a task from the store: at a start, or because a person retries it."""
        terms = task.terms.gang
        assert terms is not None
        name = gang_name(facts)
        assert name is not None
        gang = self.by_name.get(name)
        if gang is None:
            gang = self._make(name, terms)
            latest = self._latest.get(terms.id)
            if latest is None or latest.accepted >= latest.size:  # else that is the one that still takes members
                self._latest[terms.id] = gang
        self._take(gang, task)
        if task.state in ACTIVE_STATES:
            gang.active += 1
            gang.accepted = gang.size

    def can_come_back(self, facts: TaskFacts) -> bool:
        """Say whether a task that had joined a gang may join again what is left of it, if anything is."""
        name = gang_name(facts)
        if name is None:
            return False
        gang = self.by_name.get(name)
        return gang is None or (not gang.active and gang.fate is None)

    def get_ready(self, task: Task) -> Gang:
        """Note that a member waits for nothing but its gang."""
        gang = self._of[task.seq]
        gang.ready[task.seq] = task
        if gang.is_complete:
            gang.is_new = True
            gang.kinds = tuple(dict.fromkeys(member.terms for member in gang.members.values()))
            self.complete[gang] = None
        return gang

    def leave(self, task: Task) -> None:
        """Note that a member has ended."""
        gang = self._of.pop(task.seq)
        del gang.members[task.seq]
        if gang.ready.pop(task.seq, None) is not None:
            self.complete.pop(gang, None)
        if not gang.members:
            del self.by_name[gang.name]
            if self._latest.get(gang.terms.id) is gang:
                del self._latest[gang.terms.id]

    def placed(self, gang: Gang) -> None:
        """Note that all members have been given to workers."""
        del self.complete[gang]
        gang.ready = {}
        gang.active = gang.size
        gang.fits = gang.impossible = gang.block = None

    def _make(self, name: str, terms: GangTerms) -> Gang:
        gang = self.by_name[name] = Gang(name, terms)
        return gang

    def _take(self, gang: Gang, task: Task) -> None:
        gang.members[task.seq] = task
        gang.accepted = max(gang.accepted, len(gang.members))
        self._of[task.seq] = gang
