"""Remembers: rows of tasks, attempts and workers behind one small protocol, the log of what tasks wrote, and blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, assert_never

from rota.store.base import Leadership, Page, Retention, Store, TaskQuery
from rota.store.blobs import BlobStore
from rota.store.logs import LogPage, LogPiece, LogStore
from rota.store.memory import MemoryShelf, MemoryStore
from rota.store.sqlite import Durability, SqliteStore

__all__ = [
    "BlobStore",
    "Durability",
    "Leadership",
    "LogPage",
    "LogPiece",
    "LogStore",
    "MemoryShelf",
    "MemoryStore",
    "Page",
    "Retention",
    "SqliteStore",
    "Store",
    "StoreName",
    "TaskQuery",
    "open_store",
]

StoreName = Literal["sqlite", "memory"]


def open_store(name: StoreName, state_dir: Path, durability: Durability) -> Store:
    """Return a store, which touches nothing before its `campaign`."""
    match name:
        case "sqlite":
            return SqliteStore(state_dir, durability=durability)
        case "memory":
            return MemoryStore()
        case _:
            assert_never(name)
