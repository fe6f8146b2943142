"""What SQLite and the file system say, in our words: the one place where foreign errors are translated.

full or locked        StoreUnavailable   nothing was written; worth trying again
an I/O error          StoreBroken        what is on disk is unknown; the process leaves
corrupt, read-only    StoreUnusable      says what to do
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from rota.core.errors import StoreBroken, StoreError, StoreUnavailable, StoreUnusable

__all__ = ["translate_os_error", "translate_sqlite_error", "translated"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_WRITE_FAILURES: Final = frozenset(
    {
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_TRUNCATE,
        apsw.SQLITE_IOERR_SHMOPEN,
        apsw.SQLITE_IOERR_SHMSIZE,
        apsw.SQLITE_IOERR_SHMMAP,
    }
)
"""I/O errors that a full disk causes too. A failed fsync is never among them: the kernel may have dropped the pages."""


_DAMAGED: Final = "is damaged: restore it from a backup, or move it away to start with an empty state"
_UNWRITABLE: Final = "can't be written to: make it writable, or name another folder with --state-dir"

_SENTENCES: Final[tuple[tuple[tuple[type[apsw.Error], ...], type[StoreError], str], ...]] = (
    ((apsw.BusyError, apsw.LockedError), StoreUnavailable, "is locked by another program: close what has it open"),
    ((apsw.CorruptError, apsw.NotADBError, apsw.FormatError), StoreUnusable, _DAMAGED),
    ((apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError), StoreUnusable, _UNWRITABLE),
    ((apsw.NoMemError,), StoreUnavailable, "can't be used: out of memory"),
    ((apsw.InterruptError,), StoreUnavailable, "was closed meanwhile"),
)
"""SQLite's error classes that need no second look: what each becomes, and what is said after the file's name."""


@contextmanager
def translated(path: Path, *, system_errno: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Run the block; errors of SQLite and of the system leave it as errors of the store.

    Args:
        path: The file or folder that the sentence names.
        system_errno: What the operating system said last, for SQLite's I/O errors.
    """
    try:
        yield
    except apsw.Error as error:
        raise translate_sqlite_error(error, path, system_errno=system_errno()) from error
    except OSError as error:
        raise translate_os_error(error, path) from error


def translate_sqlite_error(error: apsw.Error, path: Path, *, system_errno: int = 0) -> StoreError | AssertionError:
    """Return what to raise for an error of SQLite's; an `AssertionError` where the mistake is ours."""
    match error:
        case apsw.FullError():
            return _full(path)
        case apsw.IOError() if system_errno in _FULL and _extended_code(error) in _WRITE_FAILURES:
            return _full(path)
        case apsw.IOError():
            return StoreBroken(f"reading or writing {path} failed ({error}): check the disk, then start again")
        case apsw.CantOpenError():
            return _cannot_open(path, system_errno)
        case apsw.ConstraintError():
            return AssertionError(f"the changes contradict what {path} holds: {error}")
    for classes, error_class, problem in _SENTENCES:
        if isinstance(error, classes):
            return error_class(f"{path} {problem} ({error})")
    return AssertionError(f"{type(error).__name__} on {path}: {error}")


def translate_os_error(error: OSError, path: Path) -> StoreError:
    """Return what to raise for an error of the operating system's."""
    if error.errno in _FULL:
        return _full(path)
    if error.errno in _OUT_OF_FILES:
        return StoreUnavailable(f"{path} can't be opened: {error.strerror}")
    if error.errno in _READ_ONLY:
        return StoreUnusable(f"{path} {_UNWRITABLE}")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return StoreUnusable(f"{path} can't be used: {error.strerror}")
    return StoreBroken(f"reading or writing {path} failed ({error.strerror}): check the disk, then start again")


def _full(path: Path) -> StoreUnavailable:
    return StoreUnavailable(f"there is no room left for {path}: free some space on its disk")


def _cannot_open(path: Path, system_errno: int) -> StoreError:
    if system_errno in _FULL:
        return _full(path)
    if system_errno in _OUT_OF_FILES:
        return StoreUnavailable(f"{path} can't be opened: {os.strerror(system_errno)}")
    return StoreUnusable(f"{path} can't be opened: check that it is there and may be read and written")


def _extended_code(error: apsw.Error) -> int:
    code = getattr(error, "extendedresult", 0)  # set on every error that SQLite made, and not in the type stubs
    return code if isinstance(code, int) else 0
