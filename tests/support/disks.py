"""Small disks of their own for tests of full and read-only ones. Needs root; skips where mounting is not allowed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["fill", "make_read_only", "small_disk"]


@contextmanager
def small_disk(directory: Path, *, size_mib: int) -> Iterator[Path]:
    """Mount an empty file system of so many MiB on a new directory while the block runs."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "rota-test", str(directory)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"this machine does not let us mount: {mounted.stderr.decode()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file that takes the room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    return ballast


def make_read_only(disk: Path) -> None:
    """Let nothing be written to it any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
