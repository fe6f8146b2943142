"""Files of tasks, from this machine to the coordinator and back: the part of `rota.client.http` that carries them.

What goes is read once, so that what is named is what is sent, and only what the coordinator lacks is sent. What comes
back is written below one folder and nowhere else, whatever the coordinator says: see `rota.client.landing`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from rota.client.landing import Landing
from rota.client.transport import READ_TIMEOUT_S, Transport
from rota.core.errors import BadRequest, ClientClosed, Gone, NotFound, RotaError, TooLarge
from rota.core.filenames import find_flaw_in_name
from rota.core.files import FILES_BYTES_MAX, FILES_MAX, sentence_of_too_much

__all__ = ["FileCalls", "Output"]

TRANSFER_S_MAX: Final = 300.0
"""For one file to go over HTTP."""

Shipped = dict[str, str | dict[str, Any]]
"""The field ``files`` of a spec."""


class Output(Struct, frozen=True):
    """A file that a task brought back, as the coordinator says it: believed where it has been looked at."""

    name: str
    bytes: int
    digest: str
    executable: bool = False


class FileCalls:
    """Sends files of tasks, and brings them back.

    Args:
        transport: How to reach the coordinator.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def ship(self, paths: Mapping[str, str | os.PathLike[str]]) -> Shipped:
        """Have files at the coordinator; return what the ``files`` of a spec say of them.

        Args:
            paths: By the names that they are to have. Links are followed; of a folder all files in it go, with its
                name before theirs.

        Raises:
            BadRequest: A name can't be, or is there twice, or there are too many.
            TooLarge: Together they are too large.
            RotaError: One can't be read, or be brought there.
        """
        found: dict[str, Path] = {}
        for name, path in _expanded(paths):
            if name in found:
                raise BadRequest(f"{found[name]} and {path} would both be {name!r}: give one another name")
            found[name] = path
        if len(found) > FILES_MAX:
            raise BadRequest(f"there are {len(found)} files: at most {FILES_MAX} go with a task; pack them into one")
        for name in found:
            if (flaw := find_flaw_in_name(name)) is not None:
                raise BadRequest(f"the name of a file, {name!r}, {flaw}")
        total_bytes = sum(_size_of(path) for path in found.values())
        if total_bytes > FILES_BYTES_MAX:
            raise TooLarge(f"the files {sentence_of_too_much(total_bytes)}")
        return {name: self._ship_one(path) for name, path in found.items()}

    def outputs(self, task_id: str, *, wait_s: float = 0.0) -> list[Output]:
        """Return what a task that has ended brought back.

        Args:
            task_id: The task.
            wait_s: How long to wait for its end.

        Raises:
            Conflict: It has not ended.
        """
        path = f"/api/v1/tasks/{quote(task_id, safe='')}/outputs?wait={wait_s:g}"
        response = self._transport.send("GET", path, read_timeout_s=wait_s + READ_TIMEOUT_S)
        answer = self._transport.decode(response)
        try:
            return msgspec.convert(answer, list[Output])
        except msgspec.ValidationError:
            raise self._transport.foreign(response) from None

    def fetch(
        self,
        outputs: Iterable[Output],
        folder: str | os.PathLike[str] = ".",
        *,
        overwrite: bool = False,
        is_stopped: Callable[[], bool] = bool,
    ) -> list[Path]:
        """Write files that a task brought back into a folder; return where they are.

        One that is there already with the same content is left as it is. Each is whole under its name or not there.

        Args:
            outputs: The files.
            folder: Made if it is not there.
            overwrite: Also over files of other content.
            is_stopped: Asked before each piece; once it says so, nothing more is written.

        Raises:
            Conflict: Another file is in the way of one: then none is written. Not with ``overwrite``.
            Gone: One is no longer kept.
            ClientClosed: It was stopped.
            RotaError: A name leads elsewhere, one can't be written, or did not come as it should.
        """
        wanted = list(outputs)
        with Landing(Path(folder)) as landing:
            left = [output for output in wanted if not landing.has(output.name, output.digest)]
            if not overwrite:
                landing.check_free([output.name for output in left])
            for output in left:
                chunks = _until(is_stopped, self._chunks(output))
                landing.write(output.name, chunks, digest=output.digest, executable=output.executable)
        return [Path(folder, output.name) for output in wanted]

    def _ship_one(self, path: Path) -> str | dict[str, Any]:
        content, executable = _read(path)
        digest = hashlib.sha256(content).hexdigest()
        url = f"/api/v1/blobs/{digest}"
        if self._transport.send("HEAD", url).status != HTTPStatus.OK:
            headers = {"Content-Type": "application/octet-stream"}
            response = self._transport.send("PUT", url, body=content, headers=headers, read_timeout_s=TRANSFER_S_MAX)
            self._transport.raise_for_status(response)
        return {"digest": digest, "executable": True} if executable else digest

    def _chunks(self, output: Output) -> Iterator[bytes]:
        """The bytes of a file, asked for by its digest, which is looked at when they are all there."""
        url = f"/api/v1/blobs/{quote(output.digest, safe='')}"
        response = self._transport.send("GET", url, read_timeout_s=TRANSFER_S_MAX, stream=True)
        try:
            self._transport.raise_for_status(response)
        except NotFound as error:
            raise Gone(f"{output.name!r} is no longer kept (--blob-retention): run the task again") from error
        yield from self._transport.chunks(response)


def _until(is_stopped: Callable[[], bool], chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if is_stopped():
            raise ClientClosed("nobody waits for these files any longer")
        yield chunk


def _expanded(paths: Mapping[str, str | os.PathLike[str]]) -> Iterator[tuple[str, Path]]:
    """Files by their names, with those in folders."""
    for name, given in paths.items():
        path = Path(given)
        if not path.is_dir():
            yield name, path
            continue
        count = 0
        for folder, folders, files in os.walk(path):
            folders.sort()
            for inner in [*files, *(inner for inner in folders if Path(folder, inner).is_symlink())]:
                count += 1
                if count > FILES_MAX:
                    raise BadRequest(
                        f"{os.fspath(path)} has more than {FILES_MAX} files in it: pack them into one archive (tar)"
                    )
                relative = Path(folder, inner).relative_to(path).as_posix()
                yield f"{name}/{relative}", Path(folder, inner)
        if not count:
            raise BadRequest(f"{os.fspath(path)} is an empty folder: there is nothing to send")


def _size_of(path: Path) -> int:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a link to a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise BadRequest(f"{os.fspath(path)} is {kind}: only regular files go with a task")
    return found.st_size


def _read(path: Path) -> tuple[bytes, bool]:
    """The content of a file and whether it is a program, of one and the same file: it may be replaced meanwhile."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(FILES_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > FILES_BYTES_MAX:
        raise TooLarge(f"{os.fspath(path)} has grown to more than {FILES_BYTES_MAX:,} bytes while it was read")
    return content, bool(found.st_mode & stat.S_IXUSR)


def _unreadable(path: Path, error: OSError) -> RotaError:
    return BadRequest(f"can't read {os.fspath(path)}: {error.strerror}")
