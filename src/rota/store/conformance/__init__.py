"""What every store must do, as tests that anyone can run on a backend of theirs.

Subclass `StoreConformance` in a test module and give it the fixture ``store_factory``::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store_factory(self, tmp_path: Path) -> StoreFactory:
            return lambda: MyStore(tmp_path)

Each call of the factory gives a new store on the same state; the suites close one before they open the next.
Coroutines are run by pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import pytest

from rota.store.conformance.cases import Leader, StoreFactory, leading, make_facts, make_progress
from rota.store.conformance.fences import FenceSuite
from rota.store.conformance.finding import FindingSuite
from rota.store.conformance.keeping import KeepingSuite
from rota.store.conformance.records import RecordSuite

__all__ = ["Leader", "StoreConformance", "StoreFactory", "leading", "make_facts", "make_progress"]


class StoreConformance(FenceSuite, RecordSuite, FindingSuite, KeepingSuite):
    """All suites in one. A backend is done when it passes."""

    @pytest.fixture
    def store_factory(self) -> StoreFactory:
        """Give the store under test; the subclass says how."""
        raise NotImplementedError("a subclass of StoreConformance must have the fixture `store_factory`")
