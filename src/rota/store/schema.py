"""The file's schema: recognised by its application id, numbered by ``user_version``, led on by migrations.

Opening a file is one transaction: either it has today's schema afterwards, or it is as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import apsw

from rota.core.errors import StoreUnusable

__all__ = ["APPLICATION_ID", "MIGRATIONS", "check_schema", "current_schema", "prepare_schema"]

APPLICATION_ID: Final = 0x526F7461
"""``Rota`` in ASCII: how ``file`` and we tell our databases from others."""

_STEP_NAME: Final = re.compile(r"(\d{4})_\w+\.sql\Z")


@cache
def _read_migrations() -> Mapping[int, str]:
    steps = {
        int(match[1]): entry.read_text(encoding="utf-8")
        for entry in files("rota.store.migrations").iterdir()
        if (match := _STEP_NAME.match(entry.name))
    }
    assert sorted(steps) == list(range(1, len(steps) + 1)), f"migrations have gaps: {sorted(steps)}"
    return dict(sorted(steps.items()))


MIGRATIONS: Final = _read_migrations()
"""The steps by number: step n leads from version n - 1 to version n."""


def current_schema() -> str:
    """The statements that make today's schema in an empty file."""
    return files("rota.store").joinpath("schema.sql").read_text(encoding="utf-8")


def prepare_schema(connection: apsw.Connection, path: Path, *, migrations: Mapping[int, str] = MIGRATIONS) -> None:
    """Give an empty file the schema, and lead an older one on to it.

    Raises:
        StoreUnusable: The file is not Rota's, or a newer version has written it.
        apsw.Error: What SQLite says; the file is as it was.
    """
    newest = max(migrations)
    version = _number(connection, "PRAGMA user_version")
    _refuse_foreign(connection, path, version=version, newest=newest)
    if version == newest:
        return
    with connection:
        if version == 0 and migrations is MIGRATIONS:
            connection.execute(current_schema())
        else:
            for number in range(version + 1, newest + 1):
                connection.execute(migrations[number])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest}")


def check_schema(connection: apsw.Connection, path: Path, *, migrations: Mapping[int, str] = MIGRATIONS) -> None:
    """See that a file can be read that nobody has prepared: it may have been lying there for years.

    Raises:
        StoreUnusable: The file is not Rota's, or of another version; says what to do.
    """
    newest = max(migrations)
    version = _number(connection, "PRAGMA user_version")
    _refuse_foreign(connection, path, version=version, newest=newest)
    if version == 0:
        raise StoreUnusable(f"{path} is empty: no coordinator has ever used it")
    if version < newest:
        raise StoreUnusable(
            f"{path} was written by an older version of Rota (schema {version}; this one reads {newest}): "
            "start a coordinator on it once, which leads it on"
        )


def _refuse_foreign(connection: apsw.Connection, path: Path, *, version: int, newest: int) -> None:
    application = _number(connection, "PRAGMA application_id")
    is_empty = _number(connection, "SELECT count(*) FROM sqlite_schema") == 0
    if application != APPLICATION_ID and not (is_empty and application == 0 and version == 0):
        raise StoreUnusable(f"{path} is a database of another program: move it away, or name another --state-dir")
    if version > newest:
        raise StoreUnusable(
            f"{path} was written by a newer version of Rota (schema {version}; this one knows up to {newest}): "
            "install that version or a later one"
        )


def _number(connection: apsw.Connection, query: str) -> int:
    value = connection.execute(query).get
    assert isinstance(value, int)
    return value
