"""Tasks that wait for a worker, grouped by stream and shape.

Within a group tasks are interchangeable but for who came first, so placing looks at the first
task of each group and never at the others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, nsmallest
from itertools import islice

from rota.core.cluster import Room
from rota.core.model import Reason, TaskSeq, TaskState
from rota.core.ordering import TaskStream
from rota.core.task import Task

__all__ = ["Group", "PendingTasks"]


class Group:
    """One line of pending tasks, by sequence number.

    New tasks come in order and join a plain queue. Those that come back (a retry, the end of a
    backoff or of a start time) go to a heap beside it, so that they keep the place their number gives them. Tasks
    that were cancelled stay inside until they come to the front, and are skipped there. ``block`` is why the last look
    passed it over, if that was no worker's doing.
    """

    __slots__ = ("_added", "_again", "_fresh", "block", "room", "size", "stream")

    def __init__(self, stream: TaskStream, room: Room) -> None:
        self.stream = stream
        self.room = room
        self.size = 0
        self.block: Reason | None = None
        self._added = 0
        self._fresh: deque[Task] = deque()
        self._again: list[tuple[TaskSeq, int, Task]] = []

    def add(self, task: Task) -> None:
        """Let a task wait here."""
        if not self._fresh or self._fresh[-1].seq < task.seq:
            self._fresh.append(task)
        else:
            # The counter decides between a revived task and its cancelled self, which have one number.
            self._added += 1
            heappush(self._again, (task.seq, self._added, task))
        self.size += 1

    def add_fresh(self, tasks: Sequence[Task]) -> None:
        """Let new tasks wait here, in order of their numbers, which are the highest there are."""
        self._fresh.extend(tasks)
        self.size += len(tasks)

    def head(self) -> Task | None:
        """Return the first task without taking it."""
        fresh, again = self._fresh, self._again
        while fresh and fresh[0].state is not TaskState.PENDING:
            fresh.popleft()
        while again and again[0][2].state is not TaskState.PENDING:
            heappop(again)
        if again and (not fresh or again[0][0] < fresh[0].seq):
            return again[0][2]
        return fresh[0] if fresh else None

    def first(self, count: int) -> list[Task]:
        """Return the first tasks without taking them, as many as wait at most. O(count), but for those passed over."""
        if not self._again:
            pending = TaskState.PENDING
            return list(islice((task for task in self._fresh if task.state is pending), count))
        if count == 1:
            head = self.head()
            return [] if head is None else [head]
        return nsmallest(count, self.tasks(), key=_seq_of)

    def take(self, count: int) -> list[Task]:
        """Remove and return the first tasks, of which so many must wait."""
        self.size -= count
        fresh, again = self._fresh, self._again
        taken: list[Task] = []
        while len(taken) < count:
            is_again = bool(again) and (not fresh or again[0][0] < fresh[0].seq)
            task = heappop(again)[2] if is_again else fresh.popleft()
            if task.state is TaskState.PENDING:
                taken.append(task)
        return taken

    def count_before(self, seq: TaskSeq) -> int:
        """How many of those that wait here came before a task. Cancelled ones may count until they are skipped."""
        return bisect_left(self._fresh, seq, key=_seq_of) + sum(again[0] < seq for again in self._again)

    def tasks(self) -> Iterator[Task]:
        """Yield what waits here, in no particular order. O(n): for slow paths only."""
        yield from (task for task in self._fresh if task.state is TaskState.PENDING)
        yield from (task for _, _, task in self._again if task.state is TaskState.PENDING)


class PendingTasks:
    """All groups, by room and stream. A group in which nothing waits is forgotten.

    ``waiting_for_room`` are those that the last look found blocked by full workers, and since when: nobody
    behind them may prolong a hold on what they wait for. ``streams`` are all that were ever seen.
    """

    def __init__(self) -> None:
        self.groups: dict[Room, dict[TaskStream, Group]] = {}
        self.waiting_for_room: dict[Group, float] = {}
        self.streams: dict[TaskStream, None] = {}
        self.size = 0

    def add(self, task: Task, stream: TaskStream, room: Room) -> None:
        """Let a task wait in its group."""
        self._group(stream, room).add(task)
        self.size += 1

    def add_fresh(self, tasks: Sequence[Task], stream: TaskStream, room: Room) -> None:
        """Let new tasks of one group wait, in order of their numbers, which are the highest there are."""
        self._group(stream, room).add_fresh(tasks)
        self.size += len(tasks)

    def take(self, group: Group, count: int) -> list[Task]:
        """Remove and return the first tasks of a group, in which so many must wait."""
        self.size -= count
        tasks = group.take(count)
        self._forget_if_empty(group)
        return tasks

    def dropped(self, stream: TaskStream, room: Room) -> None:
        """Note that a waiting task has ended by other ways: it is skipped when it comes to the front."""
        group = self.groups[room][stream]
        group.size -= 1
        self.size -= 1
        self._forget_if_empty(group)

    def find(self, room: Room, stream: TaskStream) -> Group | None:
        """The line of a stream in a room, if anything waits in it."""
        return self.groups.get(room, {}).get(stream)

    def of_room(self, room: Room) -> list[Group]:
        """Return the groups of one shape."""
        return list(self.groups.get(room, {}).values())

    def all_groups(self) -> Iterator[Group]:
        """Yield every group, in a stable order."""
        for groups in self.groups.values():
            yield from groups.values()

    def _group(self, stream: TaskStream, room: Room) -> Group:
        groups = self.groups.get(room)
        if groups is None:
            groups = self.groups[room] = {}
        group = groups.get(stream)
        if group is None:
            group = groups[stream] = Group(stream, room)
            self.streams[stream] = None
        return group

    def _forget_if_empty(self, group: Group) -> None:
        if group.size:
            return
        self.waiting_for_room.pop(group, None)
        groups = self.groups[group.room]
        del groups[group.stream]
        if not groups:
            del self.groups[group.room]
            group.room.index = None  # unless the pass keeps it, among those that are bounded


def _seq_of(task: Task) -> TaskSeq:
    return task.seq
