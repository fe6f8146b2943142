"""Carries blobs between this machine and the coordinator over HTTP: the border to its library.

That blocks, so each transfer is done in a thread of its own, which keeps no process from ending.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from rota.process.threads import in_thread
from rota.worker.transfer import ArrivingBlob, TransferFailed, TransferRefused

__all__ = ["HttpTransfer"]

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 30.0
"""Without a byte."""

CHUNK_BYTES: Final = 1 << 20

CONNECTIONS_MAX: Final = 4

GONE: Final = 404

PASSING: Final = frozenset({408, 425, 429})
"""Refusals of the moment, besides those of the 500s."""

WORDS_MAX: Final = 500
"""Of an answer that refuses: enough for its sentence."""


class HttpTransfer:
    """The blobs of one coordinator.

    Args:
        server: Base URL.
        token: What the coordinator asks for, or ``None``.
        ca_file: The authority to trust for ``https``, instead of the system's.
    """

    def __init__(self, server: str, *, token: str | None, ca_file: Path | None) -> None:
        self._base = f"{server.rstrip('/')}/api/v1/blobs/"
        self._headers = {"User-Agent": "rota-worker"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            retries=False,
            maxsize=CONNECTIONS_MAX,
            block=True,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            ca_certs=str(ca_file) if ca_file is not None else None,
        )

    async def download(self, digest: str, path: Path) -> int:
        return await in_thread(partial(self._download, digest, path), name="blob-download")

    async def upload(self, digest: str, path: Path) -> None:
        await in_thread(partial(self._upload, digest, path), name="blob-upload")

    async def close(self) -> None:
        """Close the connections that are not in use. What is under way ends by itself."""
        self._pool.clear()

    def _download(self, digest: str, path: Path) -> int:
        with ArrivingBlob(digest, path) as blob:
            for chunk in self._chunks(self._ask("GET", digest)):
                blob.write(chunk)
            return blob.finish()

    def _upload(self, digest: str, path: Path) -> None:
        try:
            self._ask("HEAD", digest).release_conn()
        except TransferRefused as refused:
            if not refused.is_gone:
                raise
        else:
            return
        with open(path, "rb") as file:
            length = {"Content-Length": str(os.fstat(file.fileno()).st_size)}
            self._ask("PUT", digest, body=file, headers=length).release_conn()

    def _ask(
        self, method: str, digest: str, *, body: BinaryIO | None = None, headers: Mapping[str, str] | None = None
    ) -> BaseHTTPResponse:
        """Send a request; return the answer to a request that succeeds, with its body unread."""
        try:
            response = self._pool.request(
                method,
                self._base + digest,
                body=body,
                headers={**self._headers, **(headers or {})},
                preload_content=False,
                redirect=False,
            )
            if 200 <= response.status < 300:
                return response
            words = response.read(WORDS_MAX).decode(errors="replace").strip()
            response.close()
        except HTTPError as error:
            raise TransferFailed(f"{method} of blob {digest}: {error}") from error
        message = f"{method} of blob {digest} was answered with status {response.status}: {words}"
        if 400 <= response.status < 500 and response.status not in PASSING:
            raise TransferRefused(message, is_gone=response.status == GONE)
        raise TransferFailed(message)

    def _chunks(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from response.stream(CHUNK_BYTES, decode_content=False)
        except HTTPError as error:
            raise TransferFailed(f"a blob broke off: {error}") from error
        finally:
            response.release_conn()
