"""A store in a few dictionaries, which refuses what would break a promise."""

from __future__ import annotations

from msgspec.structs import asdict

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
            del self.workers[worker_id]
        for client_id in changes.clients_gone:
            self.clients.pop(client_id, None)
        self.clients |= {client.id: client for client in changes.clients}
        for key in changes.settings_gone:
            self.settings.pop(key, None)
        self.settings |= {(setting.kind, setting.name): setting for setting in changes.settings}

    def task(self, seq: TaskSeq) -> TaskRecord:
        """A task as it was saved last."""
        return TaskRecord(self.facts[seq], self.progress[seq])

    def mates(self, seq: TaskSeq) -> list[TaskRecord]:
        """The other members of a task's gang, if it has one."""
        name = gang_name(self.facts[seq])
        return [
            self.task(other) for other in self.facts if other != seq and name and gang_name(self.facts[other]) == name
        ]

    def unfinished(self) -> list[TaskRecord]:
        """What a start loads, in order."""
        return [self.task(seq) for seq in sorted(self.facts) if self.progress[seq].state not in ENDED_STATES]

    def _take_facts(self, changes: Changes) -> None:
        for facts in changes.accepted:
            assert facts.seq not in self.facts
            if facts.chosen_id is not None:
                assert facts.chosen_id not in {known.chosen_id for known in self.facts.values()}
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
            self.progress[seq] = Progress(**asdict(progress))


class LiveRecord(Record):
    """Keeps what has not ended and nothing else: for long runs, in which nobody asks for history."""

    def take(self, changes: Changes) -> None:
        facts, progress = self.facts, self.progress
        for new in (*changes.accepted, *changes.revived):
            facts[new.seq] = new
        for seq, latest in changes.progress:
            if latest.state in ENDED_STATES:
                del facts[seq]
                progress.pop(seq, None)
            else:
                progress[seq] = latest
        self._take_others(changes)
