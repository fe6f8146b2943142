"""Takes what a task wants back out of its scratch directory, once nothing of the attempt runs any more.

Only regular files are taken, and only what is really in the directory: no link is followed, neither of a file nor of a
folder on the way, and nothing is opened by a path of several parts. What matches and can't be taken is said, never
passed over.

A slot imports this when it first needs it: not all should have it in their memory.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator

from rota.core.filenames import FilePattern, find_flaw_in_name
from rota.worker.slots.blobfile import store_blob
from rota.worker.slots.frames import FreightOrder

__all__ = ["BYTES_MAX", "FILES_MAX", "harvested"]

FILES_MAX = 256
"""As many as an end may name (`rota.core.model.OUTPUT_FILES_MAX`)."""

BYTES_MAX = 1 << 30
"""Of all files of one attempt together, and so of one: as much as a blob may have."""

ENTRIES_MAX = 100_000
"""Names looked at: some hundred milliseconds."""

LOOK_S_MAX = 30.0
"""For looking at all of them: many odd names may match many odd patterns in many ways, and nobody can stop a slot
meanwhile."""

DEPTH_MAX = 64
"""Folders within each other: each is open while what is in it is looked at."""

CHUNK_BYTES = 1 << 20

NAMES_SHOWN = 3
NAME_CHARS_SHOWN = 100

KEPT_AFTER = (None, "exit", "signal", "timeout", "oom")
"""The causes after which there is something to take: the attempt has come to an end of its own."""

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Output = tuple[str, str, int, bool]
"""The fields of ``OutputFile``: (name, digest, bytes, executable)."""

_Walk = tuple[FilePattern, frozenset[int] | None]
"""A pattern, and where in it a folder is; ``None`` if all that is in the folder is meant."""


class HarvestFailed(Exception):
    """Not all that is wanted can be kept; the text completes "its outputs could not be kept:".

    ``cause`` is how an attempt ends that had done well.
    """

    def __init__(self, message: str, *, cause: str = "error") -> None:
        super().__init__(message)
        self.cause = cause


def harvested(
    ended: tuple[object, ...], path: str, freight: FreightOrder, *, own: list[tuple[str, bytes]]
) -> tuple[object, ...]:
    """Add to the fields of ``Ended`` what the attempt leaves behind.

    Args:
        ended: As `rota.worker.slots.attempt` gives it, up to ``message``.
        path: The scratch directory.
        freight: What came, what is wanted, and where blobs belong.
        own: What else was there before the attempt began: names and contents, such as its code.

    Returns:
        The fields up to ``outputs``. Where something could not be kept, ``message`` says so, and an attempt that had
        done well has failed; where a pattern matched nothing, ``message`` says that.
    """
    cause, message = ended[2], ended[14]
    assert message is None or isinstance(message, str)
    if cause not in KEPT_AFTER:
        return ended
    harvest = _Harvest(freight, {name: hashlib.sha256(content).hexdigest() for name, content in own})
    outputs: tuple[Output, ...] = ()
    try:
        outputs = harvest.run(path)
        note = harvest.note()
    except HarvestFailed as failed:
        note = f"its outputs could not be kept: {failed}"
        cause = cause or failed.cause
    said = "; ".join(part for part in (message, note) if part) or None
    return (*ended[:2], cause, *ended[3:14], said, b"", (), outputs)


class _Harvest:
    """One walk through a scratch directory, and what it finds."""

    def __init__(self, freight: FreightOrder, own: dict[str, str]) -> None:
        inputs, patterns, self._blob_dir = freight
        self._came = {**own, **{name: digest for name, digest, _, _ in inputs}}
        self._patterns = [FilePattern(pattern) for pattern in patterns]
        self._looked_at = 0
        self._look_until = time.monotonic() + LOOK_S_MAX
        self._found: dict[str, list[FilePattern]] = {}
        self._answered: set[FilePattern] = set()
        self._left_out: list[str] = []

    def run(self, path: str) -> tuple[Output, ...]:
        """Find all that is wanted, and store it."""
        try:
            root = os.open(path, OPEN_FOLDER)
        except OSError as error:
            raise HarvestFailed(f"the scratch directory is not there any more: {error.strerror}") from error
        try:
            self._look(root, "", [(pattern, pattern.start) for pattern in self._patterns], 0)
            left_bytes = BYTES_MAX
            outputs = []
            for name in sorted(self._found):
                output = self._take(root, name, left_bytes)
                left_bytes -= output[2]
                patterns = self._found[name]
                if self._came.get(name) != output[1] or any(pattern.is_plain for pattern in patterns):
                    outputs.append(output)
                    self._answered.update(patterns)
            return tuple(outputs)
        finally:
            os.close(root)

    def note(self) -> str | None:
        """What people should know who wanted something else than they got."""
        missing = [_quoted(pattern.text) for pattern in self._patterns if pattern not in self._answered]
        parts = []
        if missing:
            parts.append(f"no {'new ' if self._came else ''}file matched {_shown(missing)}")
        if self._left_out:
            parts.append(f"not brought back: {_shown(self._left_out)}")
        return "; ".join(parts) or None

    # Looking

    def _look(self, folder: int, prefix: str, walks: list[_Walk], depth: int) -> None:
        try:
            listing = os.scandir(folder)
        except OSError as error:
            raise HarvestFailed(f"{_quoted(prefix)} can't be read: {error.strerror}") from error
        with listing:
            for entry in listing:
                self._count()
                reached = [step for walk in walks if (step := _step(walk, entry.name)) is not None]
                if not reached:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self._enter(folder, prefix + entry.name, _below(reached), depth + 1)
                else:
                    self._note_file(prefix + entry.name, entry, reached)

    def _count(self) -> None:
        self._looked_at += 1
        if self._looked_at > ENTRIES_MAX:
            raise HarvestFailed(f"there are more than {ENTRIES_MAX:,} files to look through: name a folder")
        if time.monotonic() > self._look_until:
            what = f"{self._looked_at:,} files for {len(self._patterns)} patterns"
            raise HarvestFailed(f"to look through {what} takes more than {LOOK_S_MAX:g} s: name a folder")

    def _enter(self, parent: int, name: str, walks: list[_Walk], depth: int) -> None:
        if depth > DEPTH_MAX:
            self._left_out.append(f"{_quoted(name)}, which is more than {DEPTH_MAX} folders deep")
            return
        try:
            folder = os.open(name.rpartition("/")[2], OPEN_FOLDER, dir_fd=parent)
        except OSError as error:
            raise HarvestFailed(f"{_quoted(name)} can't be read: {error.strerror}") from error
        try:
            self._look(folder, name + "/", walks, depth)
        finally:
            os.close(folder)

    def _note_file(self, name: str, entry: os.DirEntry[str], reached: list[_Walk]) -> None:
        patterns = [pattern for pattern, places in reached if places is None or pattern.end in places]
        if not patterns:
            return
        flaw = find_flaw_in_name(name)
        if flaw is None and not entry.is_file(follow_symlinks=False):
            flaw = f"is {_kind_of(entry)}"
        if flaw is not None:
            self._left_out.append(f"{_quoted(name)}, which {flaw}")
            self._answered.update(patterns)
        elif len(self._found) == FILES_MAX:
            raise HarvestFailed(f"there are more than {FILES_MAX}: pack them into one archive")
        else:
            self._found[name] = patterns

    # Taking

    def _take(self, root: int, name: str, bytes_max: int) -> Output:
        file = _opened(root, name)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise HarvestFailed(f"{_quoted(name)} is no regular file any more")
            if found.st_size > bytes_max:
                raise HarvestFailed(
                    f"they are more than {BYTES_MAX:,} bytes together; let the task write large ones to a file "
                    "system that the workers share, or into an object store such as S3"
                )
            try:
                digest = store_blob(_chunks(file, name, found.st_size), self._blob_dir)
            except OSError as error:
                reason = error.strerror or error
                raise HarvestFailed(f"they can't be written on this worker: {reason}", cause="agent-error") from error
            return name, digest, found.st_size, bool(found.st_mode & stat.S_IXUSR)
        finally:
            os.close(file)


def _step(walk: _Walk, part: str) -> _Walk | None:
    """Where a walk is one part further; ``None`` if it leads to nothing."""
    pattern, places = walk
    if places is None:
        return walk
    reached = pattern.step(places, part)
    return (pattern, reached) if reached else None


def _below(reached: list[_Walk]) -> list[_Walk]:
    """The same for a folder: one that is named means all that is in it."""
    return [
        (pattern, None if places is None or (pattern.may_name_folder and pattern.end in places) else places)
        for pattern, places in reached
    ]


def _opened(root: int, name: str) -> int:
    """Open a file, folder by folder: a link anywhere on the way is an error."""
    folder = os.dup(root)
    try:
        *folders, last = name.split("/")
        for part in folders:
            inner = os.open(part, OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(last, OPEN_FILE, dir_fd=folder)
    except OSError as error:
        raise HarvestFailed(f"{_quoted(name)} can't be read: {error.strerror}") from error
    finally:
        os.close(folder)


def _chunks(file: int, name: str, size: int) -> Iterator[bytes]:
    """The bytes of a file, as many as it has been found to have."""
    left = size
    while left:
        try:
            chunk = os.read(file, min(left, CHUNK_BYTES))
        except OSError as error:
            raise HarvestFailed(f"{_quoted(name)} can't be read: {error.strerror}", cause="agent-error") from error
        if not chunk:
            raise HarvestFailed(f"{_quoted(name)} became shorter while it was read")
        left -= len(chunk)
        yield chunk


def _kind_of(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "a link"
    mode = entry.stat(follow_symlinks=False).st_mode
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def _quoted(name: str) -> str:
    """A name as people may see it, whatever is in it."""
    return repr(name if len(name) <= NAME_CHARS_SHOWN else name[:NAME_CHARS_SHOWN] + "…")


def _shown(items: list[str]) -> str:
    more = len(items) - NAMES_SHOWN
    return ", ".join(items[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
