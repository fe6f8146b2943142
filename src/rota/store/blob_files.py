"""Blobs as files: where one lies, how one is written, and how it is told whether its bytes are on the disk.

A blob is named by the SHA-256 of its bytes and lies at ``<first two digits>/<digest>``. It is written under another
name in ``incoming/`` and gets its own when it is whole, so a file under a digest never changes. Whether its bytes
outlive a power cut is in its mode: once they are on the disk, nobody may write to it. A file that may still be written
to after the machine has started anew is looked through before it is believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from rota.core.errors import BadRequest, NotFound, TooLarge
from rota.core.names import DIGEST_RULE, is_digest
from rota.store.failures import translated
from rota.store.locking import sync_directory

__all__ = [
    "BLOB_BYTES_MAX",
    "BLOB_FOLDERS",
    "INCOMING",
    "IncomingBlob",
    "blob_path",
    "check_after_boot",
    "check_blob_size",
    "check_digest",
    "is_marked_durable",
    "listed_blobs",
    "no_blob",
    "remove_leftovers",
    "replace_file",
    "sync_blob",
]

BLOB_BYTES_MAX: Final = 1 << 30
"""Of one blob: more belongs in a file that the tasks read for themselves."""

INCOMING: Final = "incoming"
BOOT: Final = "boot"
"""A file that names the run of the machine in which blobs were last looked through."""

LEFTOVER_S: Final = 3600.0
"""What nobody has written to for so long in ``incoming/`` was left there by somebody who died."""

BLOB_FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))
"""So that no folder gets so long that to look into it takes its time."""

READ_BYTES: Final = 1 << 20

_NOT_OURS: Final = frozenset({errno.ENOENT, errno.EACCES, errno.ELOOP})
"""What is said of a file that is not there, may not be read, or is a link to somewhere else."""

log = structlog.get_logger(__name__)

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def check_digest(digest: str) -> str:
    """Return what can be the name of a blob.

    Raises:
        BadRequest: It can't.
    """
    if not is_digest(digest):
        raise BadRequest(
            f"{digest[:80]!r} is not the name of a blob: it is its SHA-256, {DIGEST_RULE}",
            code="bad_digest",
        )
    return digest


def check_blob_size(size: int) -> None:
    """Raise `TooLarge` if no blob may have so many bytes."""
    if size > BLOB_BYTES_MAX:
        raise TooLarge(
            f"a blob has at most {BLOB_BYTES_MAX:,} bytes: put more into a file that the tasks read themselves"
        )


def no_blob(digest: str) -> NotFound:
    """What is said to who asks for a blob that is not there."""
    return NotFound(f"there is no blob {digest}: it was never put here, or retention has removed it")


def blob_path(directory: Path, digest: str) -> str:
    """Where a blob lies. A text, because joining paths costs more than looking at the file."""
    return f"{directory}/{digest[:2]}/{digest}"


def listed_blobs(directory: Path, folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the blobs in one of the folders; a folder that is not there has none."""
    with suppress(FileNotFoundError), os.scandir(directory / folder) as entries:
        yield from (entry for entry in entries if entry.name[:2] == folder and is_digest(entry.name))


class IncomingBlob:
    """A blob that is being written, hashed on the way. `take` it in the end, and `drop` it in any case."""

    def __init__(self, directory: Path, digest: str) -> None:
        """Begin a file in ``incoming/``. Raises what `translated` does."""
        self.digest = digest
        self.size = 0
        self._directory = directory
        self._path = directory / INCOMING / f"{digest}.{secrets.token_hex(8)}"
        self._hash = hashlib.sha256()
        # A descriptor that is closed under a write may be another file's by then.
        self._lock = Lock()
        with translated(directory):
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, chunks: Iterable[bytes]) -> None:
        """Append bytes.

        Raises:
            TooLarge: With them it is over `BLOB_BYTES_MAX`.
            StoreUnavailable: There is no room for them.
        """
        for chunk in chunks:
            self.size += len(chunk)
            check_blob_size(self.size)
            self._hash.update(chunk)
            with self._lock, translated(self._directory):
                view = memoryview(chunk)
                while view and self._fd >= 0:
                    view = view[os.write(self._fd, view) :]

    def check(self) -> None:
        """Raise `BadRequest` if these are not the bytes that the digest names."""
        found = self._hash.hexdigest()
        if found != self.digest:
            raise BadRequest(
                f"the {self.size:,} bytes that came have the SHA-256 {found}, not {self.digest}: send them again",
                code="wrong_digest",
            )

    def take(self) -> bool:
        """Give the file its name; ``False`` if there is one of this name already, which stays.

        Not by renaming it: that would replace a file whose bytes are on the disk by one whose bytes may not be.
        """
        with translated(self._directory):
            try:
                os.link(self._path, blob_path(self._directory, self.digest))
            except FileExistsError:
                return False
        return True

    def drop(self) -> None:
        """Take the name in ``incoming/`` away. Safe to call twice."""
        with self._lock:
            if self._fd < 0:
                return
            os.close(self._fd)
            self._fd = -1
        with suppress(OSError):  # what is left is removed by age
            os.unlink(self._path)


def is_marked_durable(found: os.stat_result) -> bool:
    """Whether the bytes of this file are known to be on the disk."""
    return not found.st_mode & stat.S_IWUSR


def sync_blob(path: str, *, wait: bool = True) -> os.stat_result | None:
    """Bring a blob to the disk and mark it so; its folder is the caller's duty. ``None`` if it is not there.

    Without ``wait`` only look whether it is there.

    Raises:
        OSError: It could not be brought there. Then it is gone: the kernel may have dropped some of its bytes, and
            would say next time that all is well.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise
    try:
        found = os.fstat(fd)
        if wait and not is_marked_durable(found):
            os.fdatasync(fd)
            with suppress(PermissionError):  # another user's, who shares our folder: looked through after a power cut
                os.fchmod(fd, found.st_mode & 0o555)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)
    return found


def replace_file(path: Path, content: str) -> None:
    """Write a small file, whole or not at all, whenever the power goes."""
    draft = path.with_name(f"{path.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(path)
    sync_directory(path.parent)


def remove_leftovers(directory: Path, wall: float) -> None:
    """Remove what nobody goes on writing in ``incoming/``."""
    with os.scandir(directory / INCOMING) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if wall - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_S:
                    os.unlink(entry.path)


def check_after_boot(directory: Path) -> None:
    """Remove damaged files, if the machine has started anew: what was not synced may have been in memory alone."""
    marker, here = directory / BOOT, _boot_id()
    if marker.exists() and marker.read_text(encoding="utf-8", errors="replace") == here:
        return
    for folder in BLOB_FOLDERS:
        for entry in listed_blobs(directory, folder):
            is_believed = is_marked_durable(entry.stat(follow_symlinks=False))
            if not is_believed and not _has_bytes_of(entry.path, entry.name):
                log.warning("blob_damaged", digest=entry.name, hint="the machine went down before it was synced")
                os.unlink(entry.path)
    replace_file(marker, here)


def _has_bytes_of(path: str, digest: str) -> bool:
    """Whether a file holds what its name says: reads all of it, at about 1 GB/s. One that can't be read does not."""
    found = hashlib.sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return False
        raise
    try:
        while chunk := os.read(fd, READ_BYTES):
            found.update(chunk)
    finally:
        os.close(fd)
    return found.hexdigest() == digest


def _boot_id() -> str:
    """Name this run of the machine: another one than the last time means that what was not synced may be lost."""
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else secrets.token_hex(16)
