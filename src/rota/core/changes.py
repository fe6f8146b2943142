"""What a turn of the core wants saved: the one write that makes it durable."""

from __future__ import annotations

from msgspec import Struct, field

from rota.core.model import (
    AttemptRecord,
    ClientRecord,
    Progress,
    Setting,
    TaskFacts,
    TaskSeq,
    WorkerId,
    WorkerRecord,
)
from rota.core.protocol import OutputChunk

__all__ = ["Changes", "Fence"]


class Fence(Struct, frozen=True):
    """Who writes, and the number of the write: checked and advanced with the changes.

    ``number`` is that of this commit: the store must be at ``number - 1``.
    """

    epoch: int
    holder: str
    number: int


class Changes(Struct):
    """All that one turn changed. A task, or a setting, is at most once in each list.

    ``accepted`` are new tasks; each is in ``progress`` too. ``revived`` are tasks that a person's
    retry brought back: like new ones, but their rows may exist (or may just have been
    removed by retention), so their facts are put in place whatever is there. ``attempts`` are
    superseded ones. ``chosen_ids`` names those of the tasks that have one, for whoever tells of
    the changes; a store has them already. ``output`` goes to the log store, before everything else.
    ``clients`` are sessions that submitted. ``blobs`` are digests that the tasks of the turn name: the blob
    store makes sure of them before anything is written. ``settings`` replace what had their kind and name,
    ``settings_gone`` names the kind and name of those that were removed.
    """

    accepted: list[TaskFacts] = field(default_factory=list)
    revived: list[TaskFacts] = field(default_factory=list)
    progress: list[tuple[TaskSeq, Progress]] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)
    chosen_ids: dict[TaskSeq, str] = field(default_factory=dict)
    workers: list[WorkerRecord] = field(default_factory=list)
    workers_gone: list[WorkerId] = field(default_factory=list)
    output: list[OutputChunk] = field(default_factory=list)
    clients: list[ClientRecord] = field(default_factory=list)
    clients_gone: list[str] = field(default_factory=list)
    blobs: dict[str, None] = field(default_factory=dict)
    settings: list[Setting] = field(default_factory=list)
    settings_gone: list[tuple[str, str]] = field(default_factory=list)

    def is_empty(self) -> bool:
        return not (
            self.accepted
            or self.revived
            or self.progress
            or self.attempts
            or self.workers
            or self.workers_gone
            or self.output
            or self.clients
            or self.clients_gone
            or self.settings
            or self.settings_gone
        )
