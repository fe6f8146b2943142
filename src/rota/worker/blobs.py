"""The blobs of a worker: files that functions need and make, found on this machine or carried here.

A coordinator on the same machine offers its own directory (`BlobHome`): then nothing is carried at all. Otherwise
blobs lie in a folder of the worker's cache, named by their SHA-256, which is checked as they come. What was used least
recently makes room, but nothing that an attempt still needs. Where the coordinator is away, transfers are
tried again for as long as somebody wants them.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from rota.core.model import Cause
from rota.core.protocol import BlobHome
from rota.wire.backoff import reconnect_delay_s
from rota.worker.cache import CacheDir
from rota.worker.slots.base import SuppliesFailed
from rota.worker.transfer import BlobTransfer, TransferFailed, TransferRefused

__all__ = ["BlobFolder", "BlobShelf"]

TRANSFERS_MAX: Final = 4
"""At once: enough to fill a line."""

TRUST_S: Final = 1.0
"""How long a file that was seen is taken to be there: looking costs a microsecond, which short functions would feel."""

YOUNG_S: Final = 60.0
"""A file that a slot has just made or used again is not removed: its name may be on the way here."""

LEFTOVER_AFTER_S: Final = 3600.0
"""A file in ``incoming`` to which nobody has written for so long was left by a slot's process that was killed."""

PROBE_BYTES_MAX: Final = 1024

log = structlog.get_logger(__name__)


class BlobFolder:
    """Blobs as files, within a limit. One process has it at a time; its slots write to it, too.

    ```
    <folder>/ab/ab12…    a blob
    <folder>/incoming/   what is being written
    ```

    Args:
        path: The folder; leftovers in it are removed.
        bytes_max: Above which what was used least recently goes.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._incoming = path / "incoming"
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        self.remove_leftovers(after_s=0.0)
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        for _, name, size in sorted(_listed(path)):
            self._note(name, size)

    @property
    def bytes(self) -> int:
        """What its files take, those included that were removed by others since they were seen."""
        return self._bytes

    def path_of(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self.path / digest[:2] / digest

    def find(self, digest: str) -> Path | None:
        """A blob that is there; it counts as used."""
        path = self.path_of(digest)
        try:
            size = path.stat().st_size
        except OSError:
            self._drop(digest)
            return None
        self._note(digest, size)
        return path

    def new_file(self) -> Path:
        """A name for a file that is yet to become a blob."""
        self._incoming.mkdir(mode=0o700, exist_ok=True)  # those who clean up take empty folders away
        return self._incoming / secrets.token_hex(16)

    def adopt(self, file: Path, digest: str) -> Path:
        """Make a blob of a file that has been written and checked."""
        path = self.path_of(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        size = file.stat().st_size
        file.rename(path)
        self._note(digest, size)
        return path

    def remove_leftovers(self, *, after_s: float = LEFTOVER_AFTER_S) -> None:
        """Remove what never became a blob and was not written to for ``after_s`` seconds."""
        long_ago = time.time() - after_s
        for file in self._incoming.iterdir():
            with suppress(FileNotFoundError):  # it became a blob meanwhile
                if file.stat().st_mtime <= long_ago:
                    file.unlink()

    def make_room(self, in_use: AbstractSet[str]) -> list[str]:
        """Remove what was used least recently until the limit is kept; return the digests that are gone."""
        removed: list[str] = []
        if self._bytes <= self._bytes_max:
            return removed
        young = time.time() - YOUNG_S
        for digest in list(self._sizes):
            if self._bytes <= self._bytes_max:
                break
            path = self.path_of(digest)
            with suppress(OSError):  # gone already
                if digest in in_use or path.stat().st_mtime > young:
                    continue
                path.unlink()
            self._drop(digest)
            removed.append(digest)
        return removed

    def _note(self, digest: str, size: int) -> None:
        self._bytes += size - self._sizes.get(digest, 0)
        self._sizes[digest] = size
        self._sizes.move_to_end(digest)

    def _drop(self, digest: str) -> None:
        self._bytes -= self._sizes.pop(digest, 0)


class BlobShelf:
    """Where the slot pool finds blobs, and from where they go to the coordinator.

    Args:
        cache: Holds the worker's own folder, made when the first blob is not at home.
        bytes_max: Of that folder.
        transfer: To and from the coordinator.
    """

    def __init__(self, *, cache: CacheDir, bytes_max: int, transfer: BlobTransfer) -> None:
        self._cache = cache
        self._bytes_max = bytes_max
        self._transfer = transfer
        self._folder: BlobFolder | None = None
        self._home: Path | None = None
        self._former_homes: set[Path] = set()
        self._in_use: Callable[[], AbstractSet[str]] = set
        self._known: dict[str, str] = {}
        self._forget_at = 0.0
        self._slots = asyncio.Semaphore(TRANSFERS_MAX)
        self._rng = random.Random()

    def protect(self, in_use: Callable[[], AbstractSet[str]]) -> None:
        """Ask here what attempts need, before something is removed or tried again."""
        self._in_use = in_use

    async def use_transfer(self, transfer: BlobTransfer) -> None:
        """Carry blobs another way from now on: the token has changed. What breaks off thereby is tried again."""
        former, self._transfer = self._transfer, transfer
        await former.close()

    def use_home(self, home: BlobHome | None) -> None:
        """Use the coordinator's own directory, if this is its machine and its files are open to us."""
        path = Path(home.path) if home is not None and _is_ours(home) else None
        if path != self._home:
            log.info("blobs_at_home" if path is not None else "blobs_are_carried", path=str(path or ""))
            if self._home is not None:
                self._former_homes.add(self._home)
            self._home = path
            self._known.clear()

    @property
    def folder(self) -> str:
        return str(self._home or self._own.path)

    def find(self, digest: str) -> str | None:
        now = time.monotonic()
        if now >= self._forget_at:
            self._known.clear()
            self._forget_at = now + TRUST_S
        path = self._known.get(digest)
        if path is None:
            found = self._look(digest)
            if found is None:
                return None
            path = self._known[digest] = str(found)
        return path

    async def fetch(self, digest: str) -> None:
        tries = 0
        while self.find(digest) is None:
            try:
                async with self._slots:
                    await self._download(digest)
            except TransferRefused as refused:
                if refused.is_gone:
                    message = f"the coordinator no longer has blob {digest}"
                    raise SuppliesFailed(message, cause=Cause.LAUNCH_ERROR) from refused
                log.warning("transfer_refused", error=str(refused))
                raise SuppliesFailed(str(refused), cause=Cause.AGENT_ERROR) from refused
            except OSError as error:
                raise SuppliesFailed(f"blob {digest} can't be kept: {error}", cause=Cause.AGENT_ERROR) from error
            except TransferFailed as failed:
                tries += 1
                await self._pause(tries, failed)
                if digest not in self._in_use():
                    raise SuppliesFailed(f"nobody waits for blob {digest} any more", cause=Cause.RETURNED) from failed

    def must_upload(self, digests: Sequence[str]) -> bool:
        if self._home is None:
            return bool(digests)
        return not all(_blob_in(self._home, digest).exists() for digest in digests)

    async def upload(self, digest: str) -> None:
        tries = 0
        while True:
            try:
                async with self._slots:
                    await self._transfer.upload(digest, self._find_anywhere(digest))
                self._make_room()
                return
            except (TransferRefused, OSError) as error:
                log.warning("transfer_refused", error=str(error))
                raise SuppliesFailed(str(error), cause=Cause.AGENT_ERROR) from error
            except TransferFailed as failed:
                tries += 1
                await self._pause(tries, failed)

    async def close(self) -> None:
        """Let go of connections."""
        await self._transfer.close()

    @property
    def _own(self) -> BlobFolder:
        if self._folder is None or not self._folder.path.is_dir():  # somebody may have emptied the cache
            self._folder = BlobFolder(self._cache.take_own_folder("blobs"), bytes_max=self._bytes_max)
        return self._folder

    def _look(self, digest: str) -> Path | None:
        if self._home is not None and (path := _blob_in(self._home, digest)).exists():
            return path
        if self._home is not None and self._folder is None:
            return None
        try:
            return self._own.find(digest)
        except OSError:  # there can be no folder, as `fetch` will say
            return None

    def _find_anywhere(self, digest: str) -> Path:
        """Where a slot left a large result: in what is the folder now, or was when it began.

        Raises:
            FileNotFoundError: It is nowhere.
        """
        for path in (self._look(digest), *(_blob_in(home, digest) for home in self._former_homes)):
            if path is not None and path.exists():
                return path
        raise FileNotFoundError(f"blob {digest} was removed before the coordinator had it")

    async def _download(self, digest: str) -> None:
        if self.find(digest) is not None:  # while we waited for our turn
            return
        own = self._own
        file = own.new_file()
        try:
            await self._transfer.download(digest, file)
            own.adopt(file, digest)
        finally:
            with suppress(OSError):
                file.unlink()
        self._make_room()

    def _make_room(self) -> None:
        if self._folder is None:
            return
        with suppress(OSError):  # what can't be removed now is there the next time
            self._folder.remove_leftovers()
        if self._folder.bytes > self._bytes_max:
            for digest in self._folder.make_room(self._in_use()):
                self._known.pop(digest, None)

    async def _pause(self, tries: int, failed: TransferFailed) -> None:
        if tries == 1:
            log.warning("transfer_failed", error=str(failed))
        await asyncio.sleep(reconnect_delay_s(tries, self._rng))


def _blob_in(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / digest


def _is_ours(home: BlobHome) -> bool:
    """Whether the coordinator's directory is on this machine, and this user's.

    Root may write into anybody's, but the coordinator could not read what it writes.
    """
    path = Path(home.path)
    probe = path / home.probe
    if not path.is_absolute() or probe.parent != path:
        return False
    try:
        with open(probe, "rb") as file:
            told = file.read(PROBE_BYTES_MAX)
        is_this_users = path.stat().st_uid == os.geteuid()
    except OSError:
        return False
    is_told = secrets.compare_digest(told.strip(), home.secret.encode())
    return is_told and is_this_users and os.access(path, os.R_OK | os.W_OK | os.X_OK)


def _listed(folder: Path) -> list[tuple[float, str, int]]:
    """When each blob of a folder was written, its digest, and its size."""
    found: list[tuple[float, str, int]] = []
    for part in os.scandir(folder):
        if len(part.name) == 2 and part.is_dir():
            for entry in os.scandir(part):
                status = entry.stat()
                found.append((status.st_mtime, entry.name, status.st_size))
    return found
