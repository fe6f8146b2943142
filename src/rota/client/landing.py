"""Writes files below one folder by names that somebody else gave: whole or not at all, and never anywhere else.

A name is checked, then walked part by part by descriptors: a link on the way is not followed, because whoever gave the
name may have counted on it. The content is written beside its place under another name, its digest is compared, and
only then is it put there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from rota.core.errors import Conflict, RotaError
from rota.core.filenames import find_flaw_in_name

__all__ = ["Landing"]

FILE_MODE: Final = 0o666
PROGRAM_MODE: Final = 0o777
"""Less what the user's umask takes, as for any file that a program of theirs writes."""

CHUNK_BYTES: Final = 1 << 20

NAMES_SHOWN: Final = 3

OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Landing:
    """A folder that files are written into; it is made if it is not there. Use it in a ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = -1

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._root = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RotaError(f"can't write into {self._folder}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def has(self, name: str, digest: str) -> bool:
        """Whether a file is there with just this content."""
        try:
            with self._parent_of(name, make=False) as (parent, last):
                file = os.open(last, OPEN_FILE, dir_fd=parent)
        except FileNotFoundError:
            return False
        except OSError:  # a link, say: it is in the way, and not what is wanted
            return False
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return False
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == digest

    def check_free(self, names: Sequence[str]) -> None:
        """See that nothing is in the way of these names.

        Raises:
            Conflict: Something is.
        """
        taken = [name for name in names if self._is_taken(name)]
        if taken:
            shown = ", ".join(str(self._folder / name) for name in taken[:NAMES_SHOWN])
            more = f" and {len(taken) - NAMES_SHOWN} more" if len(taken) > NAMES_SHOWN else ""
            raise Conflict(f"{shown}{more} would be overwritten: nothing was written")

    def write(self, name: str, chunks: Iterable[bytes], *, digest: str, executable: bool) -> None:
        """Write one file, in the place of what is there.

        Raises:
            RotaError: It can't be written, or these are not the bytes that its digest names.
        """
        with self._explained(name), self._parent_of(name, make=True) as (parent, last):
            written = f".{secrets.token_hex(8)}.rota"
            fd = os.open(written, NEW_FILE, PROGRAM_MODE if executable else FILE_MODE, dir_fd=parent)
            try:
                hashed = hashlib.sha256()
                with open(fd, "wb") as file:
                    for chunk in chunks:
                        hashed.update(chunk)
                        file.write(chunk)
                if hashed.hexdigest() != digest:
                    raise RotaError(f"{name!r} did not come as it was kept: it was not written; fetch it again")
                os.rename(written, last, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(OSError):
                    os.unlink(written, dir_fd=parent)
                raise

    def _is_taken(self, name: str) -> bool:
        try:
            with self._parent_of(name, make=False) as (parent, last):
                os.stat(last, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:  # a file where a folder should be: it is in the way
            return True
        return True

    @contextmanager
    def _parent_of(self, name: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """The folder that a name is in, and the last part of the name.

        Raises:
            RotaError: The name leads elsewhere.
            OSError: There is no such folder, or something else is in its place.
        """
        if (flaw := find_flaw_in_name(name)) is not None:
            raise RotaError(f"the coordinator names a file {name!r}, which {flaw}: it is not written anywhere")
        *folders, last = name.split("/")
        parent = os.dup(self._root)
        try:
            for folder in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=parent)
                inner = os.open(folder, OPEN_FOLDER, dir_fd=parent)
                os.close(parent)
                parent = inner
            yield parent, last
        finally:
            os.close(parent)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except NotADirectoryError as error:
            path = self._folder / name
            raise RotaError(f"can't write {path}: a file or a link is in the place of one of its folders") from error
        except OSError as error:
            raise RotaError(f"can't write {self._folder / name}: {error.strerror}") from error
