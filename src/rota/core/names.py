"""Names of what lasts (queues, limits, reservations, calendars), and of blobs: one rule for each, at every edge.

Names of files have a module of their own: `rota.core.filenames`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DIGEST_RULE", "NAME_RULE", "is_digest", "is_name"]

NAME_RULE: Final = "1 to 100 letters, digits or ._-, a letter or a digit first"
DIGEST_RULE: Final = "64 hexadecimal digits in lower case"
"""For people, behind what is wrong."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")


def is_name(text: str) -> bool:
    """Whether something that lasts can be called so.

    >>> is_name("nightly-2.0"), is_name("-nightly"), is_name("a b"), is_name("a" * 101)
    (True, False, False, False)
    """
    return _NAME.match(text) is not None


def is_digest(text: str) -> bool:
    """Whether this can be the SHA-256 that names a blob.

    >>> is_digest("0a" * 32), is_digest("0A" * 32), is_digest("")
    (True, False, False)
    """
    return _DIGEST.match(text) is not None
