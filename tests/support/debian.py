"""Programs of Debian's that a test needs and that may not be there."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import pytest

__all__ = ["require_program"]

INSTALL_TIMEOUT_S: Final = 300.0
"""For one package with its dependencies over a slow line."""

_LOCK_PATH: Final = Path(tempfile.gettempdir()) / f"rota-tests-apt-{os.getuid()}.lock"


def require_program(program: str, *, package: str) -> str:
    """Return the path of a program; without it, install its package if root, else skip the test.

    Args:
        program: Its name, as in ``unshare``.
        package: The Debian package that has it, as in ``util-linux``.
    """
    found = shutil.which(program) or _install(program, package)
    if found is None:
        pytest.skip(f"needs {program}, which can't be installed here: apt-get install {package}")
    return found


@cache
def _install(program: str, package: str) -> str | None:
    """Install a package, one process at a time; ``None`` where that isn't possible."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    with _LOCK_PATH.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side, and apt refuses a second one
        if shutil.which(program) is None:
            _run_apt("update")
            _run_apt("install", "--yes", "--no-install-recommends", package)
    return shutil.which(program)


def _run_apt(*arguments: str) -> None:
    """Run apt-get; its failure shows in what is missing afterwards."""
    subprocess.run(
        ["apt-get", "--quiet", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
