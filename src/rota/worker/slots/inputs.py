"""Puts the files that came with a task into its scratch directory, before it starts.

They are copied, because the task may write to them, and the blobs that they come from are everybody's.
"""

import os

from rota.core.filenames import find_flaw_in_name

__all__ = ["InputsFailed", "place_inputs"]

FILE_MODE = 0o600
PROGRAM_MODE = 0o700
FOLDER_MODE = 0o700

COPY_BYTES_MAX = 1 << 30
"""In one call; the kernel stops sooner by itself."""

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

InputFacts = tuple[str, str, str, bool]
"""A file that came with a task: (name, digest, path of the blob, executable)."""


class InputsFailed(Exception):
    """A file can't be put there; the text says which, and why."""


def place_inputs(inputs: list[InputFacts], folder: str) -> None:
    """Copy files into a directory that is new.

    Raises:
        InputsFailed: One can't be copied.
    """
    for name, _, path, executable in inputs:
        # Looked at again here, where a mistake of anybody before would write elsewhere.
        assert find_flaw_in_name(name) is None, name
        try:
            os.makedirs(f"{folder}/{name}".rpartition("/")[0], FOLDER_MODE, exist_ok=True)
            _copy(path, f"{folder}/{name}", mode=PROGRAM_MODE if executable else FILE_MODE)
        except OSError as error:
            raise InputsFailed(f"the file {name!r} could not be put there: {error.strerror or error}") from error


def _copy(path: str, target: str, *, mode: int) -> None:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fd = os.open(target, NEW_FILE, mode)
        try:
            while os.sendfile(fd, source, None, COPY_BYTES_MAX):
                pass
        finally:
            os.close(fd)
    finally:
        os.close(source)
