"""Tokens in a file: one a line, so that a new one can be taken before the old one is withdrawn.

Whoever shows a token shows the first; whoever asks for one takes any. The file is looked at again and
again, because a new token must not cost a restart: where workers are many and tasks long, it would never be changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["FILE_BYTES_MAX", "TOKENS_MAX", "TokenFile", "check_token", "read_tokens"]

FILE_BYTES_MAX: Final = 64 * 1024
"""Far over any list of tokens, far under what would hurt to read."""

TOKEN_CHARS_MAX: Final = 4096
"""What a header carries through every proxy."""

TOKENS_MAX: Final = 16
"""Each is compared with at each request."""


class TokenFile:
    """A file of tokens, and what was read of it last.

    Raises:
        OSError: It can't be read.
        ValueError: It has no token, or one that no header could carry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _mark_of(path)
        self.tokens = read_tokens(path)

    def look(self) -> bool:
        """Read the file again if it was changed; return whether there are other tokens now. Raises as when made."""
        mark = _mark_of(self._path)
        if mark == self._seen:
            return False
        tokens = read_tokens(self._path)
        self._seen = mark  # not before: what could not be read is tried again
        has_changed = tokens != self.tokens
        self.tokens = tokens
        return has_changed


def read_tokens(path: Path) -> tuple[str, ...]:
    """Return the tokens of a file, at least one. Empty lines, and those that begin with ``#``, are none.

    Raises:
        OSError: It can't be read.
        ValueError: It has none, too many, or one that no header could carry.
    """
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"token_file {str(path)!r} has more than {FILE_BYTES_MAX:,} bytes: put one token on a line")
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    tokens = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not tokens:
        raise ValueError(f"token_file {str(path)!r} has no token: put one on a line")
    if len(tokens) > TOKENS_MAX:
        raise ValueError(f"token_file {str(path)!r} has {len(tokens)} tokens: at most {TOKENS_MAX} are taken")
    for token in tokens:
        try:
            check_token(token)
        except ValueError as error:
            raise ValueError(f"token_file {str(path)!r}: a {error}") from None
    return tokens


def check_token(token: str) -> None:
    """Raise `ValueError` for a token that no header could carry."""
    if not token:
        raise ValueError("token is empty: give one, or none at all")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be printable ASCII without spaces")
    if len(token) > TOKEN_CHARS_MAX:
        raise ValueError(f"token must have at most {TOKEN_CHARS_MAX:,} characters, got {len(token):,}")


def _mark_of(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written, or another one is put in its place."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
