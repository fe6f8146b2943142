"""A store in a few dictionaries, which refuses what would break a promise."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from rota.core.changes import Changes
from rota.core.gangs import gang_name
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
)
from rota.core.protocol import OutputChunk

__all__ = ["LiveRecord", "Record"]


class Record:
    """A store in a few dictionaries, which refuses what would break a promise."""

    def __init__(self) -> None:
        self.facts: dict[TaskSeq, TaskFacts] = {}
        self.progress: dict[TaskSeq, Progress] = {}
        self.attempts: dict[TaskSeq, list[AttemptRecord]] = {}
        self.workers: dict[WorkerId, WorkerRecord] = {}
        self.clients: dict[str, ClientRecord] = {}
        self.settings: dict[tuple[str, str], Setting] = {}
        self.output: list[OutputChunk] = []
        self._chosen: dict[str, TaskSeq] = {}
        self._open: dict[TaskSeq, None] = {}

    def snapshot(self) -> Record:
        """The rows as they are now, whatever becomes of these."""
        other = Record()
        other.overwrite(self)
        return other

    def overwrite(self, other: Record) -> None:
        """Become what another is. Rows themselves never change, so they may be shared."""
        self.facts, self.progress = dict(other.facts), dict(other.progress)
        self.attempts = {seq: list(rows) for seq, rows in other.attempts.items()}
        self.workers, self.clients, self.settings = dict(other.workers), dict(other.clients), dict(other.settings)
        self.output = list(other.output)
        self._chosen, self._open = dict(other._chosen), dict(other._open)

    def take(self, changes: Changes) -> None:
        """Write the changes of one turn."""
        self._take_facts(changes)
        self._take_progress(changes)
        for row in changes.attempts:
            rows = self.attempts.setdefault(row.seq, [])
            assert not rows or rows[-1].number < row.number, (rows[-1], row)
            assert row.number <= self.progress[row.seq].attempt
            rows.append(row)
        self.output += changes.output
        self._take_others(changes)

    def _take_others(self, changes: Changes) -> None:
        for worker in changes.workers:
            self.workers[worker.id] = worker
        for worker_id in changes.workers_gone:
            self.workers.pop(worker_id, None)  # one that came and went in one turn was never on record
        for client_id in changes.clients_gone:
            self.clients.pop(client_id, None)
        self.clients |= {client.id: client for client in changes.clients}
        for key in changes.settings_gone:
            self.settings.pop(key, None)
        self.settings |= {(setting.kind, setting.name): setting for setting in changes.settings}

    def remove(self, seq: TaskSeq) -> None:
        """Forget a task that has ended, as retention does."""
        facts = self.facts.pop(seq)
        if facts.chosen_id is not None:
            del self._chosen[facts.chosen_id]
        del self.progress[seq]

    def task(self, seq: TaskSeq) -> TaskRecord:
        """A task as it was saved last."""
        return TaskRecord(self.facts[seq], self.progress[seq])

    def mates(self, seq: TaskSeq) -> list[TaskRecord]:
        """The other members of a task's gang, if it has one."""
        name = gang_name(self.facts[seq])
        if name is None:
            return []
        return [self.task(other) for other in self.facts if other != seq and gang_name(self.facts[other]) == name]

    def find_seq(self, task_id: str) -> TaskSeq | None:
        """The task whose chosen id this is."""
        return self._chosen.get(task_id)

    def open_seqs(self) -> Iterable[TaskSeq]:
        """What has not ended, in no particular order."""
        return self._open

    def unfinished(self) -> list[TaskRecord]:
        """What a start loads, in order."""
        return [self.task(seq) for seq in sorted(self._open)]

    def _take_facts(self, changes: Changes) -> None:
        for facts in changes.accepted:
            assert facts.seq not in self.facts
            if facts.chosen_id is not None:
                assert facts.chosen_id not in self._chosen
                self._chosen[facts.chosen_id] = facts.seq
            self.facts[facts.seq] = facts
        for facts in changes.revived:
            assert self.progress[facts.seq].state in (TaskState.FAILED, TaskState.CANCELLED)
            self.facts[facts.seq] = facts
        new = {facts.seq for facts in (*changes.accepted, *changes.revived)}
        assert len(new) == len(changes.accepted) + len(changes.revived)
        assert new <= {seq for seq, _ in changes.progress}

    def _take_progress(self, changes: Changes) -> None:
        assert len({seq for seq, _ in changes.progress}) == len(changes.progress)
        revived = {facts.seq for facts in changes.revived}
        for seq, progress in changes.progress:
            before = self.progress.get(seq)
            if before is not None:
                assert seq in revived or before.state not in ENDED_STATES, f"task {seq} ended before"
                assert progress.attempt >= before.attempt, f"task {seq} goes back to attempt {progress.attempt}"
            assert seq in self.facts
            # What is on disk does not change with what is in memory.
            self.progress[seq] = copy.copy(progress)
            if progress.state in ENDED_STATES:
                self._open.pop(seq, None)
            else:
                self._open[seq] = None


class LiveRecord(Record):
    """Keeps what has not ended and nothing else: for long runs, in which nobody asks for history."""

    def take(self, changes: Changes) -> None:
        facts, progress = self.facts, self.progress
        for new in (*changes.accepted, *changes.revived):
            facts[new.seq] = new
            self._open[new.seq] = None
        for seq, latest in changes.progress:
            if latest.state in ENDED_STATES:
                del facts[seq]
                progress.pop(seq, None)
                self._open.pop(seq, None)
            else:
                progress[seq] = latest
        self._take_others(changes)
