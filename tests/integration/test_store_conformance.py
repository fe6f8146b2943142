"""Every backend of ours passes the suite that others can run on theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota.store import MemoryShelf, MemoryStore, SqliteStore
from rota.store.conformance import StoreConformance, StoreFactory


class TestSqliteFull(StoreConformance):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        return lambda: SqliteStore(tmp_path / "state")


class TestSqliteRelaxed(StoreConformance):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        return lambda: SqliteStore(tmp_path / "state", durability="relaxed")


class TestMemory(StoreConformance):
    @pytest.fixture
    def store_factory(self) -> StoreFactory:
        shelf = MemoryShelf()
        return lambda: MemoryStore(shelf)
