"""The limit of open files: a channel, a slot, a reader of output cost one or two; the usual 1,024 are soon gone."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

__all__ = ["raise_file_limit"]

FILES_MAX: Final = 1 << 20
"""Some machines allow a thousand million, and libraries walk through all that may be open."""


def raise_file_limit() -> int:
    """Let this process open as many files as it is allowed to.

    Returns:
        The limit as it was: programs that are started for others should have it again, because some break when
        ``select`` meets a number above 1,023.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may refuse it: then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft
