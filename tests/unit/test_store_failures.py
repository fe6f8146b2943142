"""Foreign errors become ours: what is worth trying again, what is not, and what was our mistake."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import apsw
import pytest

from rota.core.errors import RotaError, StoreBroken, StoreHeld, StoreUnavailable, StoreUnusable
from rota.store.failures import translate_os_error, translate_sqlite_error, translated
from rota.store.locking import StateLock, file_system_of, refuse_network_file_system

PATH = Path("state/rota.db")

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /proc rw - proc proc rw
30 22 0:44 / /data rw shared:5 master:1 - nfs4 host:/export rw,vers=4.2
31 30 8:17 / /data/fast\\040disk rw - xfs /dev/sdb1 rw
32 22 0:50 / /home/me/far rw - fuse.sshfs me@host: rw
33 22 0:51 / /twice rw - cifs //host/share rw
34 33 0:52 / /twice rw - tmpfs tmpfs rw
"""


def sqlite_error(code: int) -> apsw.Error:
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)
    return error


@pytest.mark.parametrize(
    "code,system_errno,expected",
    [
        (apsw.SQLITE_FULL, 0, StoreUnavailable),
        (apsw.SQLITE_BUSY, 0, StoreUnavailable),
        (apsw.SQLITE_BUSY_SNAPSHOT, 0, StoreUnavailable),
        (apsw.SQLITE_LOCKED, 0, StoreUnavailable),
        (apsw.SQLITE_IOERR_WRITE, errno.EIO, StoreBroken),
        (apsw.SQLITE_IOERR_WRITE, errno.ENOSPC, StoreUnavailable),
        (apsw.SQLITE_IOERR_SHMSIZE, errno.ENOSPC, StoreUnavailable),
        (apsw.SQLITE_IOERR_FSYNC, errno.EIO, StoreBroken),
        (apsw.SQLITE_IOERR_FSYNC, errno.ENOSPC, StoreBroken),
        (apsw.SQLITE_IOERR_READ, 0, StoreBroken),
        (apsw.SQLITE_CORRUPT, 0, StoreUnusable),
        (apsw.SQLITE_NOTADB, 0, StoreUnusable),
        (apsw.SQLITE_READONLY, 0, StoreUnusable),
        (apsw.SQLITE_READONLY_DIRECTORY, 0, StoreUnusable),
        (apsw.SQLITE_PERM, 0, StoreUnusable),
        (apsw.SQLITE_CANTOPEN, errno.ENOENT, StoreUnusable),
        (apsw.SQLITE_CANTOPEN, errno.ENOSPC, StoreUnavailable),
        (apsw.SQLITE_CANTOPEN, errno.EMFILE, StoreUnavailable),
        (apsw.SQLITE_NOMEM, 0, StoreUnavailable),
        (apsw.SQLITE_INTERRUPT, 0, StoreUnavailable),
        (apsw.SQLITE_CONSTRAINT_UNIQUE, 0, AssertionError),
        (apsw.SQLITE_ERROR, 0, AssertionError),
        (apsw.SQLITE_MISUSE, 0, AssertionError),
    ],
)
def test_sqlite_errors_are_told_apart(code: int, system_errno: int, expected: type[Exception]) -> None:
    result = translate_sqlite_error(sqlite_error(code), PATH, system_errno=system_errno)
    assert type(result) is expected
    assert str(PATH) in str(result)


@pytest.mark.parametrize(
    "number,expected",
    [
        (errno.ENOSPC, StoreUnavailable),
        (errno.EDQUOT, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
        (errno.EROFS, StoreUnusable),
        (errno.EACCES, StoreUnusable),
        (errno.ENOTDIR, StoreUnusable),
        (errno.EIO, StoreBroken),
    ],
)
def test_system_errors_are_told_apart(number: int, expected: type[RotaError]) -> None:
    assert type(translate_os_error(OSError(number, os.strerror(number)), PATH)) is expected


def test_cause_is_kept_for_the_log() -> None:
    with pytest.raises(StoreUnavailable) as caught, translated(PATH):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(caught.value.__cause__, OSError)


def test_errors_of_ours_pass_through() -> None:
    with pytest.raises(StoreHeld), translated(PATH):
        raise StoreHeld("held")


@pytest.mark.parametrize(
    "path,expected",
    [
        ("/var/lib/rota", "ext4"),
        ("/data/rota", "nfs4"),
        ("/data/fast disk/rota", "xfs"),
        ("/database", "ext4"),
        ("/home/me/far/away", "fuse.sshfs"),
        ("/twice/here", "tmpfs"),
    ],
)
def test_file_system_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == expected


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - {kind} somewhere rw\n")
    monkeypatch.setattr("rota.store.locking._MOUNTS", table)
    with pytest.raises(StoreUnusable, match="local disk"):
        refuse_network_file_system(tmp_path)


def test_local_file_systems_are_taken(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path)


def test_lock_names_its_newest_holder(tmp_path: Path) -> None:
    for holder in ("the first, with a long sentence about itself", "the second"):
        lock = StateLock(tmp_path, holder)
        with pytest.raises(StoreHeld, match=f"is held by {holder}:"):
            StateLock(tmp_path, "somebody else")
        lock.release()
        lock.release()
