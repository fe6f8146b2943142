"""A copy of a state directory that can be started from, taken while the coordinator works.

The database is read in one transaction, so it is as it was at one commit, however many follow meanwhile. (SQLite's
own ``.backup`` begins anew with each write of another process: it never ends on a busy cluster.) Blobs and output come
after it: what a row of it names was on the disk before that row. A copy can be brought up to date, which
costs a new database and what of the rest is new.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import apsw
from msgspec import Struct

from rota.core.errors import StoreUnusable
from rota.store.blob_files import BLOB_FOLDERS
from rota.store.failures import translated
from rota.store.locking import LOCK_NAME, make_state_dir, sync_directory
from rota.store.log_home import OWNER_NAME
from rota.store.reading import read_fence
from rota.store.schema import check_schema
from rota.store.segments import find_segments, segment_path
from rota.store.sqlite import DATABASE_MODE, DATABASE_NAME

__all__ = ["BackupReport", "back_up"]

PARTIAL: Final = ".partial"
"""What a file is called until it is whole."""

_Comparison = Callable[[os.stat_result, os.stat_result], bool]
"""Whether a file of an earlier copy, the first, is what it would be if it were copied again."""


class BackupReport(Struct, frozen=True):
    """What the copy has: the size of the database, and how many files of the rest."""

    database_bytes: int
    blobs: int
    segments: int


def back_up(state_dir: Path, target: Path) -> BackupReport:
    """Copy a state directory; blocks for as long as that takes.

    Args:
        state_dir: Of a coordinator that runs or not.
        target: Made if it is not there; an earlier copy is brought up to date.

    Raises:
        StoreError: There is no state, or somebody else's, or the copy can't be made; the sentence says what to do.
    """
    _check(state_dir, target)
    _refuse_another_cluster(state_dir, target)
    make_state_dir(target)
    with translated(target):
        size = _copy_database(state_dir / DATABASE_NAME, target / DATABASE_NAME)
        blobs = sum(
            _mirror(
                state_dir / "blobs" / folder,
                target / "blobs" / folder,
                _names_in(state_dir / "blobs" / folder),
                is_same=_is_same_blob,
            )
            for folder in BLOB_FOLDERS
        )
        logs = state_dir / "logs"
        names = [segment_path(logs, number).name for number in find_segments(logs)]
        kept = [OWNER_NAME, *names] if names else []
        segments = _mirror(logs, target / "logs", kept, is_same=_is_same_segment)
        sync_directory(target)
    return BackupReport(size, blobs, max(0, segments - 1))


def _check(state_dir: Path, target: Path) -> None:
    database = state_dir / DATABASE_NAME
    with translated(state_dir):
        if not database.is_file():
            raise StoreUnusable(f"{state_dir} is no state directory: there is no {DATABASE_NAME} in it")
        if database.stat().st_uid != os.geteuid():
            # Whoever opens it may have to make files beside it, which its owner could not open then.
            raise StoreUnusable(f"{database} belongs to {database.owner()}: make the copy as that user")
    with translated(target):
        if (target / LOCK_NAME).exists():
            raise StoreUnusable(f"{target} is a state directory itself: name another folder for the copy")
        if target.exists() and any(target.iterdir()) and not (target / DATABASE_NAME).is_file():
            raise StoreUnusable(f"{target} has other things in it: name a new folder for the copy, or an earlier one")


def _refuse_another_cluster(state_dir: Path, target: Path) -> None:
    """What is alike in an earlier copy is not copied again, which holds for copies of the same state alone."""
    if not (target / DATABASE_NAME).is_file():
        return
    if _cluster_of(state_dir) != _cluster_of(target):
        raise StoreUnusable(f"{target} is a copy of another cluster's state: name a folder for each")


def _cluster_of(state_dir: Path) -> str:
    path = state_dir / DATABASE_NAME
    with translated(state_dir), _reader(path) as reader:
        check_schema(reader, path)
        return read_fence(reader).cluster


def _reader(database: Path) -> closing[apsw.Connection]:
    """A reader: it makes no checkpoint, which only the coordinator may."""
    return closing(apsw.Connection(str(database.resolve()), flags=apsw.SQLITE_OPEN_READONLY))


def _copy_database(source: Path, target: Path) -> int:
    partial = target.with_name(target.name + PARTIAL)
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, DATABASE_MODE))
    with translated(source), _reader(source) as reader:
        check_schema(reader, source)
        with translated(target, system_errno=lambda: reader.system_errno):
            reader.execute("VACUUM INTO ?", (str(partial.resolve()),))
    _finish(partial, target)
    return target.stat().st_size


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _mirror(source: Path, target: Path, names: Iterable[str], *, is_same: _Comparison) -> int:
    """Make a folder hold these files of another one, and nothing else; return how many there are."""
    wanted = set(names)
    if not wanted and not target.exists():
        return 0
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in set(_names_in(target)) - wanted:
        (target / name).unlink()
    there = 0
    for name in sorted(wanted):
        with suppress(FileNotFoundError):  # retention has removed it meanwhile
            _copy(source / name, target / name, is_same=is_same)
            there += 1
    sync_directory(target)
    return there


def _is_same_blob(ours: os.stat_result, theirs: os.stat_result) -> bool:
    """Its name says what is in it. The time is when it was last wanted."""
    return ours.st_size == theirs.st_size


def _is_same_segment(ours: os.stat_result, theirs: os.stat_result) -> bool:
    """A segment only grows. But where a cluster went back to an earlier copy, it has grown otherwise since."""
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _copy(source: Path, target: Path, *, is_same: _Comparison) -> None:
    found = source.stat()
    with suppress(FileNotFoundError):
        if is_same(target.stat(), found):
            return
    partial = target.with_name(target.name + PARTIAL)
    # Without its mode: that would say of a blob that it has been brought to the disk.
    shutil.copyfile(source, partial)
    partial.chmod(0o600)
    os.utime(partial, ns=(found.st_atime_ns, found.st_mtime_ns))
    _finish(partial, target)


def _finish(partial: Path, target: Path) -> None:
    fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    partial.replace(target)
