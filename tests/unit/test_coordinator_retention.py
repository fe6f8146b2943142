"""The removal of blobs: what tasks need stays, what is not known to be needless stays, and trouble ends nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rota.coordinator import retention
from rota.coordinator.retention import BlobRetention
from rota.core.errors import StoreBroken
from rota.store.blobs import YOUNG_S, BlobStore
from tests.support.waiting import wait_until_async

START = 1_800_000_000.0
LATER = START + YOUNG_S + 1.0


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = BlobStore(tmp_path / "blobs", clock=lambda: START)
    await asyncio.to_thread(store.open)
    yield store
    await asyncio.to_thread(store.close)


def put(blobs: BlobStore, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    blobs.put([data], digest)
    os.utime(blobs.path(digest), (START, START))
    return digest


async def test_over_the_bound_all_goes_but_what_tasks_need(blobs: BlobStore) -> None:
    needed, needless = put(blobs, b"needed"), put(blobs, b"needless")
    service = BlobRetention(blobs, pinned=lambda: {needed}, bytes_max=0, max_age_s=1e9)
    assert await service.run_once(wall=LATER) == 1
    assert (blobs.has(needed), blobs.has(needless)) == (True, False)
    assert await service.run_once(wall=LATER) == 0


async def test_all_stays_while_nobody_knows_what_is_needed(blobs: BlobStore) -> None:
    digest = put(blobs, b"data")
    assert await BlobRetention(blobs, pinned=lambda: None, bytes_max=0, max_age_s=0.0).run_once(wall=LATER) == 0
    assert blobs.has(digest)


async def test_trouble_is_logged_and_tried_again(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(blobs, b"data")
    monkeypatch.setattr(retention, "BLOBS_EVERY_S", 0.001)
    monkeypatch.setattr(retention, "wall_s", lambda: LATER)
    sweep, calls = blobs.sweep, 0

    def fail_at_first(*arguments: object, **named: object) -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise StoreBroken("the disk fails, says the test")
        return sweep(frozenset(), wall=LATER, bytes_max=0, max_age_s=1e9)

    monkeypatch.setattr(blobs, "sweep", fail_at_first)
    running = asyncio.create_task(BlobRetention(blobs, pinned=set, bytes_max=0, max_age_s=1e9).run())
    try:
        await wait_until_async(lambda: blobs.count == 0, what="the blob to go")
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()


async def test_what_is_there_at_the_start_is_counted_at_once(blobs: BlobStore, tmp_path: Path) -> None:
    put(blobs, b"data")
    again = BlobStore(tmp_path / "blobs")
    await asyncio.to_thread(again.open)
    running = asyncio.create_task(BlobRetention(again, pinned=set, bytes_max=1 << 40, max_age_s=1e9).run())
    try:
        await wait_until_async(lambda: (again.count, again.total_bytes) == (1, 4), what="the blob to be counted")
    finally:
        running.cancel()
        await asyncio.wait([running])
        await asyncio.to_thread(again.close)
