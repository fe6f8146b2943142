"""What a recorder does when output and blobs fail together: it waits for both, and tells what ends the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from rota.coordinator.recorder import Recorder
from rota.core.changes import Changes
from rota.core.errors import RotaError, StoreBroken, StoreUnavailable
from rota.core.model import TaskSeq
from rota.core.protocol import OutputChunk
from rota.store import BlobStore, LogStore, MemoryStore, TaskQuery
from rota.store.conformance import make_facts

FULL = StoreUnavailable("no room left")
BROKEN = StoreBroken("the disk fails")


class FailingLogs(LogStore):
    failure: RotaError | None = None

    def append(self, chunks: Sequence[OutputChunk]) -> None:
        if self.failure is not None:
            raise self.failure


class FailingBlobs(BlobStore):
    failure: RotaError | None = None
    may_go_on = threading.Event()

    def make_durable(self, digests: Iterable[str]) -> None:
        assert self.may_go_on.wait(10.0)
        if self.failure is not None:
            raise self.failure


@pytest.mark.parametrize(
    "of_logs,of_blobs,told",
    [(FULL, None, FULL), (None, FULL, FULL), (FULL, BROKEN, BROKEN), (BROKEN, FULL, BROKEN), (BROKEN, None, BROKEN)],
)
async def test_nothing_is_committed_and_the_worst_is_told_when_both_are_over(
    of_logs: RotaError | None, of_blobs: RotaError | None, told: RotaError, tmp_path: Path
) -> None:
    store, logs, blobs = MemoryStore(), FailingLogs(tmp_path / "logs"), FailingBlobs(tmp_path / "blobs")
    logs.failure, blobs.failure, blobs.may_go_on = of_logs, of_blobs, threading.Event()
    recorder = Recorder(store, logs, await store.campaign("a test"), blobs=blobs)
    output = [OutputChunk(TaskSeq(1), 1, "stdout", 0, b"data")]
    changes = Changes(accepted=[make_facts(1)], output=output, blobs={"ab" * 32: None})
    saving = asyncio.create_task(recorder.save(changes, number=1))
    done, _ = await asyncio.wait([saving], timeout=0.05)
    assert not done, "what is tried again must not meet itself"
    blobs.may_go_on.set()
    with pytest.raises(type(told)):
        await saving
    assert (await store.history(TaskQuery())).tasks == []
    await recorder.close()
