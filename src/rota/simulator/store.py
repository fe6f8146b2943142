"""A store in memory that is slow, refuses, and answers late, and that keeps its promises to the letter.

A commit takes effect at one moment and is reported at a later one. In between the coordinator may
die: then the commit has happened or not, and nobody told. The rows refuse what would break a
promise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from rota.core.changes import Changes, Fence
from rota.core.errors import LostLeadership, RotaError, StoreUnavailable
from rota.core.model import TaskRecord, TaskSeq
from rota.simulator.record import Record
from rota.simulator.world import Planned, World

__all__ = ["ModelStore", "Reign"]

CLUSTER: Final = "cluster-1"

SLOW_S: Final = (0.05, 4.0)
"""Of a commit that is slow, or whose outcome has to be looked up. Longer than heartbeats are apart."""

Done = Callable[[RotaError | None], None]
"""Is told how a commit went: ``None`` if it is on the record."""


class Reign(Struct, frozen=True):
    """What a leader is told when it begins: as `rota.store.base.Leadership`."""

    cluster: str
    epoch: int
    holder: str
    number: int
    last_seq: TaskSeq


class ModelStore:
    """Rows, a fence, and outcomes by lot. ``watch`` sees each commit, with the rows as they were before."""

    def __init__(self, world: World, record: Record, *, watch: Callable[[Record, Changes], None]) -> None:
        self.record = record
        self.number = 0
        self.last_seq = TaskSeq(0)
        self._slow_part = self._late_part = self._refusal_part = 0.0
        self._full_until = 0.0
        self._world = world
        self._watch = watch
        self._backup: tuple[Record, int, TaskSeq] | None = None
        self.is_cut_short = False
        self._epoch = 0
        self._holder = ""
        self._under_way: tuple[Changes, Fence, Planned] | None = None

    def get_worse(self, *, slow_part: float = 0.0, late_part: float = 0.0, refusal_part: float = 0.0) -> None:
        """From now on let so many of the commits be slow, be answered late, or be refused."""
        self._slow_part += slow_part
        self._late_part += late_part
        self._refusal_part = min(0.5, self._refusal_part + refusal_part)

    def fill_up(self, seconds: float) -> None:
        """Take nothing for a while."""
        self._full_until = self._world.now + seconds

    def get_well(self) -> None:
        """Nothing more goes wrong."""
        self._slow_part = self._late_part = self._refusal_part = self._full_until = 0.0
        self._backup = None

    def usurp(self) -> None:
        """Let somebody else begin a reign who then does nothing: whoever leads now can write no more.

        The seam for several coordinators: each would campaign here, and drive a turn of its own.
        """
        self._epoch += 1
        self._holder = f"somebody else/{self._epoch}"

    def back_up(self) -> None:
        """Remember the rows as they are, for `cut_short`."""
        self._backup = self.record.snapshot(), self.number, self.last_seq

    def cut_short(self) -> bool:
        """Come back as of the backup, as a replica does that was behind: whether that takes anything away."""
        if self._backup is None or self._backup[1] == self.number:
            return False
        rows, self.number, self.last_seq = self._backup
        self.record.overwrite(rows)
        self.is_cut_short = True
        self._world.note("store", f"comes back at commit {self.number}")
        return True

    def campaign(self, candidate: str) -> Reign:
        """Begin a reign."""
        self._epoch += 1
        self._holder = f"{candidate}/{self._epoch}"
        return Reign(CLUSTER, self._epoch, self._holder, self.number, self.last_seq)

    def commit(self, changes: Changes, fence: Fence, done: Done) -> None:
        """Write, at once or in a while, and say so, at once or in a while."""
        world = self._world
        assert self._under_way is None
        if world.now < self._full_until or world.chance(self._refusal_part):
            world.after(
                world.draw(world.pace.commit_s), lambda: self._report(done, StoreUnavailable("the store is full"))
            )
            return
        takes_s = world.draw(SLOW_S if world.chance(self._slow_part) else world.pace.commit_s)
        self._under_way = (changes, fence, world.after(takes_s, lambda: self._apply_and_report(changes, fence, done)))

    def abandon(self) -> None:
        """The writer has died: what is under way happens now or never."""
        if self._under_way is None:
            return
        changes, fence, event = self._under_way
        self._under_way = None
        event.cancel()
        if self._world.chance(0.5):
            self._world.note("store", f"commit {fence.number} happened, nobody was told")
            self._apply(changes, fence)

    def find_task(self, task_id: str) -> TaskRecord | None:
        """A task by its chosen id, as of the last commit."""
        seq = self.record.find_seq(task_id)
        return None if seq is None else self.record.task(seq)

    def _apply_and_report(self, changes: Changes, fence: Fence, done: Done) -> None:
        self._under_way = None
        error = self._apply(changes, fence)
        if not self._world.chance(self._late_part):
            self._report(done, error)
            return
        # The answer is lost: the store finds by the fence's number what became of it.
        self._world.note("store", f"the outcome of commit {fence.number} is unknown")
        late_s = self._world.between(*SLOW_S)
        self._world.after(late_s, lambda: self._report(done, None if self.number >= fence.number else error))

    def _apply(self, changes: Changes, fence: Fence) -> RotaError | None:
        if (fence.epoch, fence.holder, fence.number) != (self._epoch, self._holder, self.number + 1):
            return LostLeadership(epoch=fence.epoch, found=self._epoch)
        self._watch(self.record, changes)
        self.record.take(changes)
        self.number = fence.number
        self.last_seq = max(self.last_seq, *(facts.seq for facts in changes.accepted), TaskSeq(0))
        return None

    def _report(self, done: Done, error: RotaError | None) -> None:
        done(error)
