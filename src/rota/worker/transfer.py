"""The port through which a worker's blobs travel, and what its adapters share: a file that is checked as it comes.

Whatever goes wrong is either worth another try (`TransferFailed`), or final (`TransferRefused`): when to try again, and
for how long, is the caller's to decide. An adapter is `rota.worker.http_transfer` or `rota.worker.grpc_transfer`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

__all__ = ["ArrivingBlob", "BlobTransfer", "TransferFailed", "TransferRefused"]


class TransferFailed(Exception):
    """It did not come through: another try may."""


class TransferRefused(Exception):
    """The coordinator will never do it; ``is_gone`` if it does not have the blob."""

    def __init__(self, message: str, *, is_gone: bool = False) -> None:
        super().__init__(message)
        self.is_gone = is_gone


class BlobTransfer(Protocol):
    """Carries blobs between this machine and the coordinator; several at once, if it is asked to."""

    async def download(self, digest: str, path: Path) -> int:
        """Write a blob to ``path``; return its size in bytes. What is there after an error is to be removed.

        Raises:
            TransferFailed: It did not come, or what came is not what was asked for.
            TransferRefused: The coordinator does not give it.
            OSError: It can't be written.
        """

    async def upload(self, digest: str, path: Path) -> None:
        """Bring a blob to the coordinator, unless that has it.

        Raises:
            TransferFailed: It did not get there.
            TransferRefused: The coordinator does not take it.
            OSError: It can't be read.
        """

    async def close(self) -> None:
        """Let go of connections."""


class ArrivingBlob:
    """A file into which a blob is written, hashed on the way. To be closed; blocks.

    Raises:
        OSError: It can't be written.
    """

    def __init__(self, digest: str, path: Path) -> None:
        self._digest = digest
        self._hash = hashlib.sha256()
        self._file = open(path, "wb")  # noqa: SIM115 - closed by `__exit__`

    def write(self, chunk: bytes) -> None:
        """Append what comes next."""
        self._hash.update(chunk)
        self._file.write(chunk)

    def finish(self) -> int:
        """Return how many bytes have come.

        Raises:
            TransferFailed: They are not those that were asked for.
        """
        size, found = self._file.tell(), self._hash.hexdigest()
        self._file.close()  # what could not be written until now is told here
        if found != self._digest:
            raise TransferFailed(f"what came for blob {self._digest} are {size:,} bytes with the digest {found}")
        return size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
