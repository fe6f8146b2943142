"""The worker's cache directory: private to its user, made when it is first needed, shared by no two processes at once.

```
<cache>/blobs-1/        the blobs of one worker; a second one on the same machine has blobs-2, and so on
<cache>/scratch-1/      scratch directories of the attempts of one worker, likewise
<cache>/environments/   virtual environments, for all of them
```

What is in it is loaded and run, so nobody else may be able to write there. It holds nothing that can't be
had again.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Final, Self

import structlog

__all__ = ["LOCK_NAME", "CacheDir", "CacheLock", "default_cache_dir"]

PRIVATE: Final = 0o700

LOCK_NAME: Final = "lock"
"""Of the file that whoever has a folder for itself keeps locked."""

OWN_FOLDERS_MAX: Final = 1000
"""Workers that share a cache directory."""

log = structlog.get_logger(__name__)


class CacheDir:
    """A cache directory.

    Args:
        path: Where it is said to be, or ``None`` for the user's own; where that can't be, a temporary one.
    """

    def __init__(self, path: Path | None) -> None:
        self._said = path
        self._path: Path | None = None
        self._temporary: Path | None = None
        self._locks: dict[str, CacheLock] = {}

    @property
    def path(self) -> Path:
        """The directory, which is made if it isn't there.

        Raises:
            OSError: It can't be made where it was said to be, or belongs to somebody else.
        """
        if self._path is None or not self._path.is_dir():  # somebody may have removed it
            self._path = self._make()
        return self._path

    def folder(self, name: str) -> Path:
        """A private folder in it.

        Raises:
            OSError: It can't be made.
        """
        return _private(self.path / name)

    def take_own_folder(self, kind: str) -> Path:
        """A folder for what this process has of a kind, for it alone until it ends.

        Raises:
            OSError: It can't be made.
        """
        for number in range(1, OWN_FOLDERS_MAX + 1):
            folder = self.folder(f"{kind}-{number}")
            lock = CacheLock.take(folder / LOCK_NAME, alone=True)
            if lock is not None:
                if (earlier := self._locks.get(kind)) is not None:  # of a folder that is gone
                    earlier.release()
                self._locks[kind] = lock
                return folder
        raise FileExistsError(f"{self.path}: {OWN_FOLDERS_MAX:,} workers use this cache directory")

    def free_folders(self, kind: str) -> Iterator[Path]:
        """The folders of a kind that no living process has, each kept from others while it is looked at.

        Nothing is made for it: there are none where there is no cache directory.

        Raises:
            OSError: One of them can't be looked at.
        """
        home = self._expected()
        for folder in sorted(home.glob(f"{kind}-*")) if home is not None else ():
            try:
                lock = CacheLock.take(folder / LOCK_NAME, alone=True)
            except (FileNotFoundError, NotADirectoryError):  # removed meanwhile, or no folder of ours
                continue
            if lock is not None:
                with lock:
                    yield folder

    def close(self) -> None:
        """Let others have its folders; remove it if it was a temporary one."""
        for lock in self._locks.values():
            lock.release()
        if self._temporary is not None:
            rmtree(self._temporary, ignore_errors=True)

    def _expected(self) -> Path | None:
        """Where it is, or would be made first."""
        try:
            return self._path or self._said or default_cache_dir()
        except RuntimeError:
            return None

    def _make(self) -> Path:
        if self._said is not None:
            return _private(self._said)
        with suppress(OSError, RuntimeError):  # no home, or none that can be written to
            return _private(default_cache_dir())
        self._temporary = Path(tempfile.mkdtemp(prefix="rota-cache-"))
        log.info("cache_is_temporary", path=str(self._temporary))
        return self._temporary


class CacheLock:
    """A lock between processes: a file that is locked for as long as somebody has it open."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._is_kept = False

    @classmethod
    def take(cls, path: Path, *, alone: bool) -> Self | None:
        """Take a lock, or return ``None`` if others have it. Whoever has it alone may remove its file.

        Raises:
            OSError: The file can't be made, or not be locked.
        """
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    return cls(fd)
            except BlockingIOError:
                os.close(fd)
                return None
            except OSError:  # there are file systems without locks, and we are asked again and again
                os.close(fd)
                raise
            os.close(fd)  # it was removed between our two calls

    def release(self) -> None:
        """Let others have it. Safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def kept(self) -> Self:
        """The lock itself, which the end of its ``with`` block does not release."""
        self._is_kept = True
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            self.release()


def default_cache_dir() -> Path:
    """Where the user's caches are, by the rules of XDG.

    Raises:
        RuntimeError: The user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "rota"


def _private(path: Path) -> Path:
    """Make a directory that is ours alone.

    Raises:
        OSError: It can't be made, or written to, or others could write there.
    """
    path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user: what is in it would be run here; use --cache-dir")
    if status.st_mode & 0o077:
        path.chmod(PRIVATE)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} can't be written to: use --cache-dir")
    return path.resolve()
