"""The blob store: functions and large values, as files named by the SHA-256 of their bytes.

Whoever shares the machine and its permissions may put files in place and read them there (`BlobHome`), so the
directory is the truth, and what is in memory is what was seen of it. A blob is brought to the disk when a task first
names it: before the turn with the task is written. It stays while a task that has not ended names it, and from then
on until it has not been used for long, or the room is needed. One that has just come stays for `YOUNG_S`
in any case: it is about to be named.

Everything here blocks, except what says otherwise, and may be called from several threads. No lock is held while the
disk is waited for.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Condition
from typing import BinaryIO, Final

import structlog
from msgspec import Struct

from rota.core.errors import StoreError
from rota.core.names import is_digest
from rota.core.protocol import BlobHome
from rota.store.blob_files import (
    BLOB_FOLDERS,
    INCOMING,
    IncomingBlob,
    blob_path,
    check_after_boot,
    check_digest,
    is_marked_durable,
    listed_blobs,
    remove_leftovers,
    replace_file,
    sync_blob,
)
from rota.store.failures import translated
from rota.store.locking import make_state_dir, sync_directory
from rota.store.temporary import TemporaryHome

__all__ = ["YOUNG_S", "BlobStore"]

YOUNG_S: Final = 600.0
"""A blob is not removed so soon after it came or was used: what names it is under way."""

STEP_BLOBS: Final = 200
"""Removed in one step: some milliseconds."""

LOOK_BLOBS: Final = 2_000
"""Looked at, or marked as used on the disk, in one step."""

SYNC_THREADS: Final = 4
"""Files that are brought to the disk at once: a disk takes several in the time of one."""

COARSE_S: Final = 1.0
"""More than the grain of a folder's time: one that changed just now may change again without showing it."""

PROBE: Final = "probe"

log = structlog.get_logger(__name__)


class _Blob(Struct, gc=False):
    """What is known of one blob. ``used_at`` is wall clock."""

    size: int
    used_at: float
    durable: bool


class BlobStore:
    """Blobs in a directory of their own, after `open`."""

    def __init__(self, directory: Path | None, *, durable: bool = True, clock: Callable[[], float] = time.time) -> None:
        """Touch nothing yet.

        Args:
            directory: For this store alone, made by `open`; ``None`` for a temporary one that goes with `close`.
            durable: Whether `make_durable` waits for the disk.
            clock: Tells the wall clock.
        """
        self._directory = Path() if directory is None else directory.absolute()
        self._is_temporary = directory is None
        self._temporary: TemporaryHome | None = None
        self._durable = durable
        self._clock = clock
        self._home: BlobHome | None = None
        self._syncing = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="blob-sync")
        self._free = Condition()
        # Guarded by the condition: what is there, used longest ago first, and what is being removed.
        self._known: OrderedDict[str, _Blob] = OrderedDict()
        self._going: set[str] = set()
        self._bytes = 0
        self._touched: set[str] = set()
        self._looked_at: dict[str, int] = {}

    @property
    def home(self) -> BlobHome:
        """Where the blobs are, for those who share the machine."""
        assert self._home is not None, "open the blob store first"
        return self._home

    @property
    def count(self) -> int:
        """How many blobs are known to be there."""
        return len(self._known)

    @property
    def total_bytes(self) -> int:
        """How much they hold."""
        return self._bytes

    def open(self) -> None:
        """Make the directory, look through it after a start of the machine, and write the probe.

        Raises:
            StoreError: The directory can't be used.
        """
        if self._is_temporary:
            with translated(Path(tempfile.gettempdir())):
                self._temporary = TemporaryHome("rota-blobs-")
            self._directory = self._temporary.path
        with translated(self._directory):
            make_state_dir(self._directory)
            for name in (INCOMING, *BLOB_FOLDERS):
                (self._directory / name).mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._directory)
            remove_leftovers(self._directory, self._clock())
            check_after_boot(self._directory)
            secret = secrets.token_hex(16)
            replace_file(self._directory / PROBE, secret)
        self._home = BlobHome(str(self._directory), PROBE, secret)

    def close(self) -> None:
        """Note what was used on the disk, and let go. Safe to call twice."""
        self._syncing.shutdown()
        if self._temporary is not None:
            self._temporary.remove()
        elif self._home is not None:
            self._write_touches(len(self._touched))
        self._home = None

    # Looking

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return Path(blob_path(self._directory, check_digest(digest)))

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.size(digest) is not None

    def size(self, digest: str) -> int | None:
        """How many bytes a blob has; ``None`` if it is not there."""
        check_digest(digest)
        with self._free:
            found = self._look(digest)
            return None if found is None else found.size

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those that are not there, in order. The others count as used now.

        Cheap enough for the event loop: what was seen once is not looked for again.
        """
        missing = []
        now = self._clock()
        with self._free:
            for digest in digests:
                found = self._look(digest)
                if found is None:
                    missing.append(digest)
                else:
                    self._touch(digest, found, now)
        return missing

    def open_blob(self, digest: str) -> tuple[BinaryIO, int] | None:
        """Open a blob for reading: the file, which its reader closes, and its size. ``None`` if it is not there.

        Raises:
            StoreError: It can't be read.
        """
        path = self.path(digest)
        with translated(path):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                self._forget(digest)
                return None
        self.missing([digest])
        return file, os.fstat(file.fileno()).st_size

    # Putting

    def begin(self, digest: str) -> IncomingBlob:
        """Begin a blob that comes in pieces; hand it to `finish`, and `IncomingBlob.drop` it in any case."""
        return IncomingBlob(self._directory, check_digest(digest))

    def finish(self, incoming: IncomingBlob) -> bool:
        """Put a blob that is whole in its place; return whether it is new.

        Raises:
            BadRequest: These are not the bytes that its digest names.
            StoreError: It can't be put there.
        """
        incoming.check()
        digest = incoming.digest
        while True:
            with self._free:
                self._free.wait_for(lambda: digest not in self._going)
                if not self.missing([digest]):
                    return False
            if incoming.take():
                break
            # Somebody was quicker, and their file may be old and about to go: look again.
        with self._free:
            self._add(digest, incoming.size, self._clock(), durable=False)
        return True

    def put(self, chunks: Iterable[bytes], digest: str) -> bool:
        """Take in a blob; return whether it is new.

        Raises:
            BadRequest: These are not the bytes that the digest names.
            TooLarge: There are more than one blob may have.
            StoreUnavailable: There is no room.
        """
        incoming = self.begin(digest)
        try:
            incoming.write(chunks)
            return self.finish(incoming)
        finally:
            incoming.drop()

    # Keeping

    def undurable(self, digests: Iterable[str]) -> list[str]:
        """Return those that `make_durable` would have to do something for. For the event loop."""
        known = self._known
        return [digest for digest in digests if (found := known.get(digest)) is None or not found.durable]

    def make_durable(self, digests: Iterable[str]) -> None:
        """Bring blobs to the disk, each once. One that is not there is logged: nobody can bring it any more.

        Raises:
            StoreUnavailable: The disk is full. What is not on the disk is gone.
            StoreBroken: The disk fails.
        """
        waiting = [digest for digest in self.undurable(digests) if is_digest(digest)]
        with translated(self._directory):
            synced = list(self._syncing.map(self._sync, waiting)) if len(waiting) > 1 else [*map(self._sync, waiting)]
            found = {digest: size for digest, size in zip(waiting, synced, strict=True) if size is not None}
            if self._durable:
                list(self._syncing.map(sync_directory, sorted({self._directory / digest[:2] for digest in found})))
        now = self._clock()
        with self._free:
            for digest, size in found.items():
                self._touch(digest, self._add(digest, size, now, durable=True), now)
        for digest in waiting:
            if digest not in found:
                log.warning("blob_missing", digest=digest)

    def _sync(self, digest: str) -> int | None:
        """Bring a blob to the disk, and return its size; ``None`` if it is not there."""
        found = None
        try:
            found = sync_blob(blob_path(self._directory, digest), wait=self._durable)
        finally:
            if found is None:
                self._forget(digest)
        return None if found is None else found.st_size

    # Removing

    def discover(self) -> None:
        """See what others have put in place: looks into folders that have changed since the last time."""
        now = self._clock()
        fresh: list[tuple[float, str, os.stat_result]] = []
        with translated(self._directory):
            for folder in BLOB_FOLDERS:
                changed_ns = os.stat(self._directory / folder).st_mtime_ns
                if self._looked_at.get(folder) == changed_ns:
                    continue
                for entry in listed_blobs(self._directory, folder):
                    if entry.name not in self._known:
                        with suppress(FileNotFoundError):
                            found = entry.stat(follow_symlinks=False)
                            fresh.append((min(found.st_mtime, now), entry.name, found))
                if changed_ns / 1e9 < now - COARSE_S:
                    self._looked_at[folder] = changed_ns
        # What is old goes to the front of the order, what is young to its end: right but for some minutes.
        fresh.sort(key=lambda one: one[:2])
        old = [one for one in fresh if now - one[0] > YOUNG_S]
        for one in fresh[len(old) :]:
            self._insert(*one, last=True)
        for one in reversed(old):
            self._insert(*one, last=False)

    def sweep(self, pinned: AbstractSet[str], *, wall: float, bytes_max: int, max_age_s: float) -> int:
        """Remove one step of what is kept no longer; return how many blobs went.

        Args:
            pinned: What must stay, however old.
            wall: The wall clock.
            bytes_max: Over it, those used longest ago go, too; never those used in the last `YOUNG_S`.
            max_age_s: Since they were last used.
        """
        self.discover()
        self._write_touches(LOOK_BLOBS)
        with translated(self._directory):
            remove_leftovers(self._directory, wall)
        with self._free:
            chosen = self._choose(pinned, wall=wall, bytes_max=bytes_max, max_age_s=max_age_s)
            self._going.update(chosen)
        try:
            kept = [digest for digest in chosen if not self._unlink(digest, wall)]
        finally:
            with self._free:
                self._going.difference_update(chosen)
                self._free.notify_all()
        return len(chosen) - len(kept)

    def _choose(self, pinned: AbstractSet[str], *, wall: float, bytes_max: int, max_age_s: float) -> Sequence[str]:
        """Take out of what is known what is to be removed. What is pinned moves on, so it is not met again soon."""
        chosen: list[str] = []
        for _ in range(min(LOOK_BLOBS, len(self._known))):
            digest, found = next(iter(self._known.items()))
            found.used_at = min(found.used_at, wall)  # else a clock that was set back stops the removal for as long
            unused_s = wall - found.used_at
            is_over = unused_s > max_age_s or self._bytes > bytes_max
            if unused_s < YOUNG_S or not is_over or len(chosen) == STEP_BLOBS:
                break
            if digest in pinned:
                self._touch(digest, found, wall)
            else:
                chosen.append(digest)
                self._drop(digest)
        return chosen

    def _unlink(self, digest: str, wall: float) -> bool:
        """Remove a file, unless somebody who shares the directory has just used it."""
        path = blob_path(self._directory, digest)
        try:
            with translated(self._directory):
                # One from the future is of a clock that was set back, longer ago than `YOUNG_S` by what we know of it.
                if abs(wall - os.stat(path).st_mtime) >= YOUNG_S:
                    os.unlink(path)
                    return True
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return True
            log.warning("blob_not_removed", digest=digest, error=str(error))
        self._looked_at.pop(digest[:2], None)  # it is found again
        return False

    def _insert(self, used_at: float, digest: str, found: os.stat_result, *, last: bool) -> None:
        """Know of a blob that was found, as the one used last or longest ago."""
        with self._free:
            self._add(digest, found.st_size, used_at, durable=is_marked_durable(found))
            self._known.move_to_end(digest, last=last)

    # What is known; all with the condition held

    def _look(self, digest: str) -> _Blob | None:
        found = self._known.get(digest)
        if found is not None or digest in self._going or not is_digest(digest):
            return found
        with translated(self._directory):
            try:
                there = os.lstat(blob_path(self._directory, digest))
            except FileNotFoundError:
                return None
        return self._add(digest, there.st_size, self._clock(), durable=is_marked_durable(there))

    def _add(self, digest: str, size: int, used_at: float, *, durable: bool) -> _Blob:
        found = self._known.get(digest)
        if found is None:
            found = self._known[digest] = _Blob(size, used_at, durable)
            self._bytes += size
        found.durable |= durable
        return found

    def _touch(self, digest: str, found: _Blob, now: float) -> None:
        found.used_at = now
        self._known.move_to_end(digest)
        self._touched.add(digest)

    def _drop(self, digest: str) -> None:
        self._bytes -= self._known.pop(digest).size
        self._touched.discard(digest)

    def _forget(self, digest: str) -> None:
        with self._free:
            if digest in self._known:
                self._drop(digest)

    def _write_touches(self, at_most: int) -> None:
        """Note on the disk what was used, for after a restart."""
        with self._free:
            noted = [(digest, self._known[digest].used_at) for digest in islice(self._touched, at_most)]
            self._touched.difference_update(digest for digest, _ in noted)
        for digest, used_at in noted:
            path = blob_path(self._directory, digest)
            with suppress(OSError):
                if os.stat(path).st_mtime < used_at:  # others touch, too, and maybe later
                    os.utime(path, (used_at, used_at))
