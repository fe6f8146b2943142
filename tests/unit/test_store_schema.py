"""The schema: migrations and the text that people read lead to the same tables, and steps are run once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import apsw
import pytest

from rota.core.errors import StoreUnusable
from rota.store.schema import APPLICATION_ID, MIGRATIONS, check_schema, current_schema, prepare_schema

PATH = Path("rota.db")


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    yield connection
    connection.close()


def shape(connection: apsw.Connection) -> set[tuple[str, str, str]]:
    """All tables and indexes as they were written, without comments and spaces."""
    rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema").fetchall()
    return {(str(kind), str(name), re.sub(r"\s+", " ", re.sub(r"--.*", "", str(sql)))) for kind, name, sql in rows}


def migrate(connection: apsw.Connection, migrations: Mapping[int, str]) -> None:
    prepare_schema(connection, PATH, migrations=migrations)


def test_migrated_schema_is_the_one_that_is_written_down(connection: apsw.Connection) -> None:
    migrate(connection, dict(MIGRATIONS))
    fresh = apsw.Connection(":memory:")
    fresh.execute(current_schema())
    assert shape(connection) == shape(fresh)
    fresh.close()


def test_new_file_is_marked_as_ours(connection: apsw.Connection) -> None:
    prepare_schema(connection, PATH)
    assert connection.execute("PRAGMA application_id").get == APPLICATION_ID
    assert connection.execute("PRAGMA user_version").get == max(MIGRATIONS)


def test_older_file_is_led_on_by_the_steps_that_it_lacks(connection: apsw.Connection) -> None:
    prepare_schema(connection, PATH)
    connection.execute("INSERT INTO worker VALUES ('w1', '{}')")
    later = {**MIGRATIONS, max(MIGRATIONS) + 1: "ALTER TABLE worker ADD COLUMN zone TEXT NOT NULL DEFAULT 'a'"}
    migrate(connection, later)
    migrate(connection, later)
    assert connection.execute("SELECT id, zone FROM worker").fetchall() == [("w1", "a")]
    assert connection.execute("PRAGMA user_version").get == max(later)


def test_step_that_fails_leaves_the_file_as_it_was(connection: apsw.Connection) -> None:
    prepare_schema(connection, PATH)
    before = shape(connection)
    newest = max(MIGRATIONS)
    broken = {**MIGRATIONS, newest + 1: "CREATE TABLE half (a)", newest + 2: "DROP TABLE nobody"}
    with pytest.raises(apsw.SQLError):
        migrate(connection, broken)
    assert shape(connection) == before
    assert connection.execute("PRAGMA user_version").get == newest


def test_file_of_a_newer_version_is_refused(connection: apsw.Connection) -> None:
    migrate(connection, {**MIGRATIONS, max(MIGRATIONS) + 1: "CREATE TABLE later (a)"})
    with pytest.raises(StoreUnusable, match="newer version"):
        prepare_schema(connection, PATH)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (a)", "PRAGMA application_id = 5", "PRAGMA user_version = 3"]
)
def test_file_of_another_program_is_refused(connection: apsw.Connection, statement: str) -> None:
    connection.execute(statement)
    with pytest.raises(StoreUnusable, match="another program"):
        prepare_schema(connection, PATH)


@pytest.mark.parametrize(
    "statement,says",
    [
        ("PRAGMA user_version = 99", "newer version of Rota .schema 99"),
        ("PRAGMA user_version = 1", "older version of Rota .schema 1.*start a coordinator on it once"),
        ("PRAGMA application_id = 5", "another program"),
    ],
)
def test_file_that_is_only_read_has_to_be_of_this_version(
    connection: apsw.Connection, statement: str, says: str
) -> None:
    prepare_schema(connection, PATH)
    check_schema(connection, PATH)
    connection.execute(statement)
    with pytest.raises(StoreUnusable, match=says):
        check_schema(connection, PATH)


def test_empty_file_has_nothing_to_read(connection: apsw.Connection) -> None:
    with pytest.raises(StoreUnusable, match="no coordinator has ever used it"):
        check_schema(connection, PATH)
