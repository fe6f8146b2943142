"""The store without a disk: the same promises for as long as the process lives.

For tests, and for ``--store memory`` where a cluster's work may be forgotten. Records are kept encoded, so that
nothing a caller changes later gets in. What is remembered is a `MemoryShelf`: stores that share one are
like coordinators on one directory, and the newest reign fences the others out.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from rota.core.changes import Changes, Fence
from rota.core.errors import LostLeadership, StoreUnavailable
from rota.core.model import (
    ENDED_STATES,
    AttemptRecord,
    ClientRecord,
    Progress,
    Setting,
    TaskFacts,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
    find_generated_seq,
)
from rota.store.base import Leadership, Page, Retention, TaskQuery
from rota.store.rows import decode_attempt, decode_progress, encode_attempt, encode_progress

__all__ = ["MemoryShelf", "MemoryStore"]

LOAD_ROWS: Final = 5_000

_labels_decoder: Final = msgspec.json.Decoder(dict[str, str])


class MemoryShelf:
    """What is remembered: facts, progress and attempts by seq, workers and sessions by id, and the fence."""

    def __init__(self) -> None:
        self.facts: dict[TaskSeq, TaskFacts] = {}
        self.progress: dict[TaskSeq, bytes] = {}
        self.states: dict[TaskSeq, TaskState] = {}
        self.by_chosen_id: dict[str, TaskSeq] = {}
        self.attempts: dict[TaskSeq, dict[int, bytes]] = {}
        self.workers: dict[WorkerId, WorkerRecord] = {}
        self.clients: dict[str, ClientRecord] = {}
        self.settings: dict[tuple[str, str], Setting] = {}
        self.fence = Leadership(uuid.uuid4().hex, 0, "", 0, TaskSeq(0))

    def record(self, seq: TaskSeq) -> TaskRecord:
        """Return a fresh copy of a task."""
        return TaskRecord(self.facts[seq], decode_progress(self.progress[seq]))

    def put_facts(self, facts: TaskFacts) -> None:
        """Add a task that is not there."""
        assert facts.seq not in self.facts, f"task {facts.seq} is there already"
        if facts.chosen_id is not None:
            assert facts.chosen_id not in self.by_chosen_id, f"the id {facts.chosen_id!r} is taken"
            self.by_chosen_id[facts.chosen_id] = facts.seq
        self.facts[facts.seq] = facts

    def put_progress(self, seq: TaskSeq, progress: Progress) -> None:
        """Replace what changes about a task."""
        self.progress[seq] = encode_progress(progress)
        self.states[seq] = progress.state

    def remove(self, seq: TaskSeq) -> None:
        """Forget a task and its attempts."""
        chosen_id = self.facts.pop(seq).chosen_id
        if chosen_id is not None:
            del self.by_chosen_id[chosen_id]
        del self.progress[seq], self.states[seq]
        self.attempts.pop(seq, None)


class MemoryStore:
    """`rota.store.base.Store` in dictionaries."""

    def __init__(self, shelf: MemoryShelf | None = None) -> None:
        self._shelf = shelf if shelf is not None else MemoryShelf()
        self._leader: Leadership | None = None
        self._closed = False

    async def campaign(self, candidate: str) -> Leadership:  # noqa: ARG002  # nobody else can hold a dictionary
        self._refuse_if_closed()
        fence = self._shelf.fence
        self._leader = self._shelf.fence = msgspec.structs.replace(
            fence, epoch=fence.epoch + 1, holder=uuid.uuid4().hex
        )
        return self._leader

    async def load_tasks(self) -> AsyncIterator[Sequence[TaskRecord]]:
        self._refuse_if_closed()
        unfinished = iter(sorted(seq for seq, state in self._shelf.states.items() if state not in ENDED_STATES))
        while batch := [self._shelf.record(seq) for seq in islice(unfinished, LOAD_ROWS)]:
            yield batch

    async def load_workers(self) -> list[WorkerRecord]:
        self._refuse_if_closed()
        return [worker for _, worker in sorted(self._shelf.workers.items())]

    async def load_clients(self) -> list[ClientRecord]:
        self._refuse_if_closed()
        return [client for _, client in sorted(self._shelf.clients.items())]

    async def load_settings(self) -> list[Setting]:
        self._refuse_if_closed()
        return [setting for _, setting in sorted(self._shelf.settings.items())]

    async def commit(self, changes: Changes, fence: Fence) -> None:
        self._refuse_if_closed()
        at = self._shelf.fence
        if (at.epoch, at.holder) != (fence.epoch, fence.holder) or at.number not in (fence.number - 1, fence.number):
            raise LostLeadership(epoch=fence.epoch, found=at.epoch)
        if at.number == fence.number:
            return
        self._check(changes)
        self._apply(changes)
        last_seq = max((facts.seq for facts in (*changes.accepted, *changes.revived)), default=TaskSeq(0))
        self._shelf.fence = msgspec.structs.replace(at, number=fence.number, last_seq=max(at.last_seq, last_seq))

    async def history(self, query: TaskQuery) -> Page:
        self._refuse_if_closed()
        found: list[TaskRecord] = []
        total = 0
        for record in self._matching(query):
            total += len(record.facts.spec) + len(self._shelf.progress[record.facts.seq])
            is_full = len(found) == query.limit or (query.bytes_max is not None and total > query.bytes_max)
            if found and is_full:
                return Page(found, found[-1].facts.seq)
            found.append(record)
        return Page(found, None)

    async def find_tasks(self, ids: Sequence[str]) -> dict[str, TaskRecord]:
        self._refuse_if_closed()
        shelf = self._shelf
        found = {}
        for task_id in ids:
            seq = shelf.by_chosen_id.get(task_id, find_generated_seq(task_id))
            if seq in shelf.facts and shelf.facts[seq].id == task_id:
                found[task_id] = shelf.record(seq)
        return found

    async def attempts(self, seq: TaskSeq) -> list[AttemptRecord]:
        self._refuse_if_closed()
        return [decode_attempt(data) for _, data in sorted(self._shelf.attempts.get(seq, {}).items())]

    async def count_by_state(self) -> dict[TaskState, int]:
        self._refuse_if_closed()
        states = list(self._shelf.states.values())
        return {state: states.count(state) for state in TaskState}

    async def prune(self, retention: Retention, *, wall: float, at_most: int) -> list[TaskSeq]:
        self._refuse_if_closed()
        assert at_most > 0
        assert self._leader is not None, "prune needs leadership: campaign first"
        at = self._shelf.fence
        if (at.epoch, at.holder) != (self._leader.epoch, self._leader.holder):
            raise LostLeadership(epoch=self._leader.epoch, found=at.epoch)
        removed = sorted(islice(self._disposable(retention, wall), at_most))
        for seq in removed:
            self._shelf.remove(seq)
        return removed

    async def close(self) -> None:
        self._closed = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _check(self, changes: Changes) -> None:
        """Find our mistakes before the first change is made: all of a turn is written, or nothing."""
        shelf = self._shelf
        for facts in (*changes.accepted, *(facts for facts in changes.revived if facts.seq not in shelf.facts)):
            assert facts.seq not in shelf.facts, f"task {facts.seq} is there already"
            assert facts.chosen_id not in shelf.by_chosen_id, f"the id {facts.chosen_id!r} is taken"
        chosen = [facts.chosen_id for facts in changes.accepted if facts.chosen_id is not None]
        assert len(chosen) == len(set(chosen)), "an id is taken twice in one turn"
        for attempt in changes.attempts:
            assert attempt.number not in shelf.attempts.get(attempt.seq, {}), (
                f"attempt {attempt.number} is there already"
            )

    def _apply(self, changes: Changes) -> None:
        shelf = self._shelf
        for facts in changes.accepted:
            shelf.put_facts(facts)
        for facts in changes.revived:
            if (kept := shelf.facts.get(facts.seq)) is None:
                shelf.put_facts(facts)
            else:  # a person's retry is not bound by the old times
                times = {"start_at": facts.start_at, "deadline_at": facts.deadline_at}
                shelf.facts[facts.seq] = msgspec.structs.replace(kept, **times)
        for seq, progress in changes.progress:
            shelf.put_progress(seq, progress)
        for attempt in changes.attempts:
            shelf.attempts.setdefault(attempt.seq, {})[attempt.number] = encode_attempt(attempt)
        shelf.workers |= {worker.id: worker for worker in changes.workers}
        for worker_id in changes.workers_gone:
            shelf.workers.pop(worker_id, None)
        for client_id in changes.clients_gone:  # first, as in SQL: one of them may come again in the same turn
            shelf.clients.pop(client_id, None)
        shelf.clients |= {client.id: client for client in changes.clients}
        for key in changes.settings_gone:  # likewise
            shelf.settings.pop(key, None)
        shelf.settings |= {(setting.kind, setting.name): setting for setting in changes.settings}

    def _matching(self, query: TaskQuery) -> Iterator[TaskRecord]:
        for seq in sorted(self._shelf.facts, reverse=True):
            if query.before is not None and seq >= query.before:
                continue
            record = self._shelf.record(seq)
            if _is_meant(record, query):
                yield record

    def _disposable(self, retention: Retention, wall: float) -> Iterator[TaskSeq]:
        """Yield what may go: the too old ones, then those over the count: failed ones last, else what ended first."""
        ended = sorted(seq for seq, state in self._shelf.states.items() if state in ENDED_STATES)
        ends = {seq: decode_progress(self._shelf.progress[seq]).ended_at for seq in ended}
        expired = [seq for seq in ended if (end := ends[seq]) is not None and end < wall - retention.max_age_s]
        yield from expired
        kept = set(ended) - set(expired)
        rest = sorted(kept, key=lambda seq: (self._shelf.states[seq] is TaskState.FAILED, ends[seq] or 0.0, seq))
        yield from rest[: max(0, len(rest) - retention.max_tasks)]


def _is_meant(record: TaskRecord, query: TaskQuery) -> bool:
    facts, progress = record.facts, record.progress
    labels = _labels_decoder.decode(facts.labels) if facts.labels else {}
    return (
        (query.states is None or progress.state in query.states)
        and (query.queue is None or facts.queue == query.queue)
        and (query.name is None or _has_name(facts.name, query.name))
        and query.labels.items() <= labels.items()
        and (query.worker is None or progress.worker == query.worker)
        and (query.since is None or facts.created_at >= query.since)
        and (query.until is None or facts.created_at < query.until)
    )


def _has_name(name: str | None, wanted: str) -> bool:
    if name is None:
        return False
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted
