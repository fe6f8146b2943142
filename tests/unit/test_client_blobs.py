"""Large values as a client on the coordinator's machine writes and reads them, without a coordinator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.client import blobs as blobs_module
from rota.client.blobs import BlobExchange
from rota.client.transport import Transport
from rota.core.errors import NoCoordinator, RotaError
from rota.functions.envelope import pack_blob
from rota.store.blobs import BlobStore

NOBODY_THERE = "http://127.0.0.1:9"


def give_up(error: RotaError) -> None:
    raise error


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[BlobExchange]:
    store = BlobStore(tmp_path / "blobs", durable=False)
    store.open()
    exchange = BlobExchange(Transport(NOBODY_THERE, token=None, ca_file=None), give_up)
    exchange.settle(store.home)
    yield exchange
    exchange.close()
    store.close()


def large(exchange: BlobExchange, content: bytes) -> bytes:
    envelope, digest = exchange.inlined([content], what="the arguments")
    assert digest is not None
    return envelope


def test_values_that_are_kept_hold_no_descriptors(exchange: BlobExchange) -> None:
    envelope = large(exchange, bytes(100_000))
    before = len(os.listdir("/proc/self/fd"))
    kept = [exchange.opened(envelope) for _ in range(100)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert {len(value) for value in kept} == {100_000}


@pytest.mark.parametrize("map_bytes_min", [1, 1 << 20])
def test_value_can_be_written_to_without_changing_it_for_others(
    map_bytes_min: int, exchange: BlobExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "MAP_BYTES_MIN", map_bytes_min)
    envelope = large(exchange, b"a" * 100_000)
    mine = exchange.opened(envelope)
    assert isinstance(mine, memoryview)
    mine[0] = ord("b")
    assert bytes(exchange.opened(envelope)) == b"a" * 100_000


@pytest.mark.parametrize("map_bytes_min", [1, 1 << 20])
@pytest.mark.parametrize("size", [99_999, 100_001])
def test_value_of_another_length_is_asked_of_the_coordinator(
    size: int, map_bytes_min: int, exchange: BlobExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "MAP_BYTES_MIN", map_bytes_min)
    _, digest = exchange.inlined([bytes(100_000)], what="the arguments")
    assert digest is not None
    with pytest.raises(NoCoordinator):
        exchange.opened(pack_blob(digest, size))
