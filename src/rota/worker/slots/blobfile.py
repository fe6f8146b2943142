"""Writes a blob where its slot leaves it: under its digest, for the agent to find."""

import hashlib
import os
from collections.abc import Iterable

__all__ = ["INCOMING", "store_blob"]

INCOMING = "incoming"


def store_blob(pieces: Iterable[bytes | memoryview], folder: str) -> str:
    """Write a blob under its digest, hashed on the way, and not copied; return the digest.

    One that is there already stays: its bytes may be on the disk, and those of a new file may not. It is touched, so
    that who removes old blobs sees that it is in use.

    Raises:
        OSError: It can't be written.
    """
    temporary = f"{folder}/{INCOMING}/{os.urandom(16).hex()}"
    os.makedirs(f"{folder}/{INCOMING}", exist_ok=True)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            hasher = hashlib.sha256()
            for piece in pieces:
                hasher.update(piece)
                view = memoryview(piece).cast("B")
                while view:
                    view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        digest = hasher.hexdigest()
        os.makedirs(f"{folder}/{digest[:2]}", exist_ok=True)
        path = f"{folder}/{digest[:2]}/{digest}"
        try:
            os.link(temporary, path)
        except FileExistsError:
            os.utime(path)
    finally:
        _remove(temporary)
    return digest


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # if it can't even be removed, its age will
        return
