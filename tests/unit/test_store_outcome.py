"""A commit whose outcome is not known is looked up: written means done, anything else is told as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from rota.core.changes import Changes, Fence
from rota.core.errors import LostLeadership
from rota.store import rows
from rota.store.conformance import make_facts
from rota.store.queries import COMMIT_TURN, WRITER_TRIGGERS
from rota.store.schema import prepare_schema
from rota.store.writing import commit_turn, install_leader


class FailingConnection(apsw.Connection):
    """Fails a commit, before or after it is made, as if the answer had been lost."""

    failure: type[apsw.Error] | None = None
    is_written = False

    def execute(self, statements: str, *args: Any, **kwargs: Any) -> apsw.Cursor:
        if statements != COMMIT_TURN or self.failure is None:
            return super().execute(statements, *args, **kwargs)
        if self.is_written:
            super().execute(statements, *args, **kwargs)
        raise self.failure("failed as the test wants")


@pytest.fixture
def connection() -> Iterator[FailingConnection]:
    connection = FailingConnection(":memory:")
    prepare_schema(connection, Path("rota.db"))
    connection.execute(WRITER_TRIGGERS)
    yield connection
    connection.close()


def commit_one(connection: FailingConnection, *, number: int) -> None:
    reign = install_leader(connection)
    fence = Fence(reign.epoch, reign.holder, number)
    commit_turn(connection, rows.encode_turn(Changes(accepted=[make_facts(number)]), fence), fence)


def test_commit_that_failed_after_it_was_written_is_done(connection: FailingConnection) -> None:
    connection.failure, connection.is_written = apsw.FullError, True
    commit_one(connection, number=1)
    assert connection.execute("SELECT number FROM fence").get == 1


def test_commit_that_failed_before_it_was_written_is_told(connection: FailingConnection) -> None:
    connection.failure, connection.is_written = apsw.BusyError, False
    with pytest.raises(apsw.BusyError):
        commit_one(connection, number=1)
    connection.failure = None
    commit_one(connection, number=1)


def test_io_error_is_told_even_if_memory_says_that_it_was_written(connection: FailingConnection) -> None:
    connection.failure, connection.is_written = apsw.IOError, True
    with pytest.raises(apsw.IOError):
        commit_one(connection, number=1)


def test_store_that_went_back_in_time_is_noticed(connection: FailingConnection) -> None:
    commit_one(connection, number=1)
    connection.execute("UPDATE fence SET number = 0")
    with pytest.raises(LostLeadership):
        commit_one(connection, number=2)
