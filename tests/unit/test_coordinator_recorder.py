"""What a recorder does when output and blobs fail together: it waits for both, and tells what ends the process."""

from __future__ import annotations

import asyncio
import hashlib
import os
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

DAY_S = 86_400.0


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


async def test_a_blob_that_a_turn_names_counts_as_used_though_it_was_there(tmp_path: Path) -> None:
    """What a task leaves each night may be the same each night."""
    now = 1_000_000.0
    blobs = BlobStore(tmp_path / "blobs", clock=lambda: now)
    blobs.open()
    store, logs = MemoryStore(), LogStore(tmp_path / "logs")
    recorder = Recorder(store, logs, await store.campaign("a test"), blobs=blobs)
    named, other = (hashlib.sha256(content).hexdigest() for content in (b"every night", b"once"))
    blobs.put([b"every night"], named)
    blobs.put([b"once"], other)
    blobs.make_durable([named, other])
    for path in (blobs.path(named), blobs.path(other)):
        os.utime(path, (now, now))
    now += 6 * DAY_S
    await recorder.save(Changes(accepted=[make_facts(1)], blobs={named: None}), number=1)
    now += 2 * DAY_S
    assert blobs.sweep(set(), wall=now, bytes_max=1 << 30, max_age_s=7 * DAY_S) == 1
    assert (blobs.has(named), blobs.has(other)) == (True, False)
    await recorder.close()
