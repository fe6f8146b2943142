"""Large values: bytes that are kept once under their digest, beside the tasks that name them.

On the coordinator's machine they are written to and mapped from its directory; from elsewhere they go over HTTP.
Which of both, the coordinator's welcome tells: who can read a secret there, and write, may.
What is known to be there is remembered for a while that is shorter than the time for which the coordinator keeps
what no task names.

All methods block, and may be called from any thread.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

from rota.client.transport import Transport
from rota.core.errors import NotFound, RotaError, TooLarge
from rota.core.protocol import BlobHome
from rota.functions.envelope import INLINE_BYTES_MAX, blob_of, pack_blob, value_bytes

__all__ = ["BLOB_BYTES_MAX", "BlobExchange", "Patience", "Pieces"]

BLOB_BYTES_MAX: Final = 1 << 30
"""Of one value. More is a file that tasks should read themselves."""

KNOWN_MAX: Final = 10_000
KNOWN_S: Final = 300.0
"""How long a blob is taken to be where it was seen: half of what the coordinator promises to keep it."""

TRANSFER_S_MAX: Final = 300.0
"""For one blob to go over HTTP."""

MAP_BYTES_MIN: Final = 16 << 20
"""Smaller values are read, not mapped: each mapping takes a descriptor as long as the value lives, and a program may
have 1,024 of them. To read costs 0.1 ms a MiB."""

BLOBS_PATH: Final = "/api/v1/blobs/"

Pieces = Sequence[bytes | memoryview]
Patience = Callable[[RotaError], None]
"""Called with an error that may pass: waits a little, or raises it."""


class BlobExchange:
    """The blobs of one coordinator.

    Args:
        transport: How to reach it from afar.
        patience: What to do about errors that may pass.
    """

    def __init__(self, transport: Transport, patience: Patience) -> None:
        self._transport = transport
        self._patience = patience
        self._home: Path | None = None
        self._known: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close connections that are not in use."""
        self._transport.close()

    def settle(self, home: BlobHome | None) -> None:
        """The coordinator said where it keeps blobs: use that directory if it is here and ours to use."""
        self._home = Path(home.path) if home is not None and _is_ours(home) else None

    def is_known(self, digest: str) -> bool:
        """Whether the blob was seen there not long ago."""
        return self._known.get(digest, 0.0) > time.monotonic()

    def forget(self, digest: str) -> None:
        """The coordinator says that it does not have this one."""
        with self._lock:
            self._known.pop(digest, None)

    def put(self, pieces: Pieces, digest: str) -> None:
        """Have a blob there.

        Raises:
            TooLarge: Over `BLOB_BYTES_MAX`.
            RotaError: It could not be brought there.
        """
        if self.is_known(digest):
            return
        while True:
            home = self._home
            try:
                if home is None or not _write(home, digest, pieces):
                    self._upload(pieces, digest)
            except RotaError as error:
                if not error.retryable:
                    raise
                self._patience(error)
            else:
                break
        with self._lock:
            self._known[digest] = time.monotonic() + KNOWN_S
            self._known.move_to_end(digest)
            while len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def inlined(self, pieces: Pieces, *, what: str) -> tuple[bytes, str | None]:
        """Make an envelope small enough to travel with its task: as it is, or as the name of a blob.

        Args:
            pieces: The envelope.
            what: For errors: whose value it is.

        Returns:
            The envelope, and the digest if it is a blob's name.

        Raises:
            TooLarge: Over `BLOB_BYTES_MAX`.
        """
        size = value_bytes(pieces)
        if size <= INLINE_BYTES_MAX:
            return b"".join(pieces), None
        if size > BLOB_BYTES_MAX:
            raise TooLarge(
                f"{what} are {size:,} bytes when pickled: at most {BLOB_BYTES_MAX:,} are taken; "
                "put them into a file that the workers can read, and send its name"
            )
        hashed = hashlib.sha256()
        for piece in pieces:
            hashed.update(piece)
        digest = hashed.hexdigest()
        self.put(pieces, digest)
        return pack_blob(digest, size), digest

    def opened(self, envelope: bytes) -> bytes | memoryview:
        """The envelope that holds the value itself, for one that may name a blob.

        What comes from a blob can be written to without changing it.

        Raises:
            NotFound: The blob is gone.
            RotaError: It could not be fetched.
        """
        named = blob_of(envelope)
        if named is None:
            return envelope
        digest, size = named
        while True:
            home = self._home
            try:
                found = _read(home, digest, size) if home is not None else None
                return found if found is not None else self._download(digest, size)
            except RotaError as error:
                if not error.retryable:
                    raise
                self._patience(error)

    def _upload(self, pieces: Pieces, digest: str) -> None:
        path = BLOBS_PATH + digest
        if self._transport.send("HEAD", path).status == HTTPStatus.OK:
            return
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(value_bytes(pieces))}
        response = self._transport.send("PUT", path, body=pieces, headers=headers, read_timeout_s=TRANSFER_S_MAX)
        self._transport.raise_for_status(response)

    def _download(self, digest: str, size: int) -> memoryview:
        response = self._transport.send("GET", BLOBS_PATH + digest, read_timeout_s=TRANSFER_S_MAX, stream=True)
        if response.status == HTTPStatus.NOT_FOUND:
            response.close()
            raise NotFound(f"a value of {size:,} bytes is not kept any more: blob {digest}")
        self._transport.raise_for_status(response)
        content = bytearray()
        for chunk in self._transport.chunks(response):
            content += chunk
            if len(content) > size:
                break
        if len(content) != size:
            raise RotaError(f"blob {digest} came with {len(content):,} bytes instead of {size:,}")
        return memoryview(content)


def _is_ours(home: BlobHome) -> bool:
    """Whether it is on this machine, and this user's: root may write anywhere, but the coordinator not read it then."""
    folder = Path(home.path)
    try:
        is_same = secrets.compare_digest((folder / home.probe).read_bytes(), home.secret.encode())
        is_same = is_same and folder.stat().st_uid == os.geteuid()
    except OSError:
        return False
    return is_same and os.access(folder / "incoming", os.W_OK | os.X_OK)


def _write(home: Path, digest: str, pieces: Pieces) -> bool:
    """Put a blob into the directory; return whether that was possible."""
    path = home / digest[:2] / digest
    with suppress(OSError):
        os.utime(path)  # it is there: it counts as new for those who sweep
        return True
    written = home / "incoming" / f"{digest}.{secrets.token_hex(8)}"
    try:
        with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
            for piece in pieces:
                view = memoryview(piece).cast("B")
                while view:
                    view = view[file.write(view) :]
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):  # somebody was faster; renaming could replace what is durable already
            path.hardlink_to(written)
    except OSError:
        return False  # a full disk, say: the coordinator will say it better
    finally:
        with suppress(OSError):
            written.unlink()
    return True


def _read(home: Path, digest: str, size: int) -> memoryview | None:
    """A blob of the directory as memory of our own, or ``None`` if it is not there."""
    memory: mmap.mmap | bytearray
    try:
        with (home / digest[:2] / digest).open("rb", buffering=0) as file:
            if size >= MAP_BYTES_MIN:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            else:
                memory = bytearray(size + 1)  # one more: a file that is longer than it should be shows itself
                del memory[file.readinto(memory) :]
    except (OSError, ValueError):
        return None
    return memoryview(memory) if len(memory) == size else None
