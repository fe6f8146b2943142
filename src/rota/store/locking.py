"""Who has a state directory: a lock held for life, on a file that names its holder.

The lock is ``flock``'s, so it ends with the process however that dies, and is never left behind. Network
file systems are refused: their locks and shared memory don't hold between machines, and SQLite's WAL needs both.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import Final

from rota.core.errors import StoreHeld, StoreUnusable
from rota.store.failures import translated

__all__ = ["LOCK_NAME", "StateLock", "file_system_of", "make_state_dir", "refuse_network_file_system", "sync_directory"]

LOCK_NAME: Final = "rota.lock"
STATE_DIR_MODE: Final = 0o700
"""Specs and output may hold secrets of their users."""

CANDIDATE_BYTES_MAX: Final = 1_000

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_NETWORK: Final = re.compile(r"(nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|lustre|fuse|fuseblk|fuse\..*)\Z")


class StateLock:
    """The lock on a state directory, taken when this is made and held until `release`."""

    def __init__(self, state_dir: Path, candidate: str) -> None:
        """Take the lock, or raise `StoreHeld` with the sentence of whoever has it."""
        path = state_dir / LOCK_NAME
        with translated(path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._take(state_dir, candidate)
            except BaseException:
                os.close(self._fd)
                raise

    def release(self) -> None:
        """Let the next one in. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, state_dir: Path, candidate: str) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, CANDIDATE_BYTES_MAX, 0).decode(errors="replace").strip()
            who = holder or "another coordinator"
            raise StoreHeld(f"{state_dir} is held by {who}: stop it first, or name another --state-dir") from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, candidate.encode()[:CANDIDATE_BYTES_MAX], 0)


def make_state_dir(state_dir: Path) -> None:
    """Make the directory, for its owner alone, if it is not there; one that is there stays as it is."""
    with translated(state_dir):
        if not state_dir.is_dir():
            state_dir.mkdir(mode=STATE_DIR_MODE, parents=True)
            sync_directory(state_dir.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a file that was made is not there after a power cut until then."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refuse_network_file_system(state_dir: Path) -> None:
    """Raise `StoreUnusable` where locks and shared memory do not hold."""
    if not _MOUNTS.exists():
        return
    kind = file_system_of(state_dir.resolve(), _MOUNTS.read_text(errors="surrogateescape"))
    if _NETWORK.match(kind):
        raise StoreUnusable(
            f"{state_dir} is on a network file system ({kind}), where locks don't hold: "
            "name a directory on a local disk with --state-dir"
        )


def file_system_of(path: Path, mountinfo: str) -> str:
    r"""The type of the file system that holds an absolute path, by the text of ``/proc/self/mountinfo``.

    >>> table = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:3 / /mnt rw shared:1 - nfs4 host:/x rw"
    >>> file_system_of(Path("/mnt/state"), table), file_system_of(Path("/mnt2"), table)
    ('nfs4', 'ext4')
    """
    kind, longest = "", -1
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        mount_point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), head.split(" ")[4]))
        # The later of two mounts on the same point hides the earlier.
        if path.is_relative_to(mount_point) and len(mount_point.parts) >= longest:
            kind, longest = tail.split(" ", 1)[0], len(mount_point.parts)
    return kind
