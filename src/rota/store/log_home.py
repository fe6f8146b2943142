"""Whose output a log directory holds: told from the name of the cluster in a file beside the segments.

Task numbers begin anew in a new cluster, so output of an old one would appear under new tasks. Where the cluster
differs, the directory is moved aside to ``<name>.<old cluster>`` and begun anew. Nothing is deleted: if the old
database is put back, its output is, too.

The name has a file of its own because the index is thrown away where it is damaged. Segments without it are
taken for this cluster's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from rota.core.errors import StoreUnusable
from rota.store.locking import make_state_dir, sync_directory

__all__ = ["OWNER_NAME", "claim_log_directory"]

OWNER_NAME: Final = "cluster"

log = structlog.get_logger(__name__)


def claim_log_directory(directory: Path, cluster: str) -> None:
    """Make the directory this cluster's, with the output that it left here before.

    Raises:
        StoreUnusable: What should be moved aside has nowhere to go.
        OSError: What the file system says.
    """
    owner = _owner_of(directory)
    if owner not in (None, cluster):
        aside = _aside(directory, str(owner))
        if aside.exists():
            raise StoreUnusable(f"{aside} is in the way of the output in {directory}: move one of them elsewhere")
        directory.rename(aside)
        log.warning("output_moved_aside", was=str(directory), now=str(aside), hint="another cluster's")
    if not directory.exists() and _aside(directory, cluster).exists():
        _aside(directory, cluster).rename(directory)
        log.info("output_moved_back", now=str(directory))
    make_state_dir(directory)
    if _owner_of(directory) is None:
        _write_owner(directory, cluster)
    sync_directory(directory.parent)


def _owner_of(directory: Path) -> str | None:
    try:
        return (directory / OWNER_NAME).read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _aside(directory: Path, cluster: str) -> Path:
    return directory.with_name(f"{directory.name}.{cluster}")


def _write_owner(directory: Path, cluster: str) -> None:
    """Whole or not at all, whenever the power goes."""
    draft = directory / f"{OWNER_NAME}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, cluster.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(directory / OWNER_NAME)
    sync_directory(directory)
