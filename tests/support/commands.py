"""The installed ``rota`` command as a user types it, and clusters started with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.processes import RunningProcess

__all__ = ["BIN", "Rota", "running_cluster"]

BIN: Final = Path(sys.executable).parent
"""Where the environment has its commands."""

COMMAND_TIMEOUT_S: Final = 100.0
"""For one command: far more than any takes, so that a hang fails the test and not the whole run."""

START_S_MAX: Final = 60.0

GREETING: Final = r"^rota is up at (http://\S+) with \d+ worker"


class Rota:
    """The command with a coordinator to speak to, and a folder to stand in."""

    def __init__(self, url: str, folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.folder = folder
        self.env = {
            **os.environ,
            "ROTA_URL": url,
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            **(env or {}),
        }

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``rota`` with these arguments to its end, whatever that is."""
        return subprocess.run(
            [BIN / "rota", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.folder,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run ``rota`` and return what it wrote to stdout; it must exit with 0."""
        result = self.run(*arguments, stdin=stdin)
        assert result.returncode == 0, f"rota {' '.join(arguments)}: {result.stdout}{result.stderr}"
        return result.stdout

    def start(self, *arguments: str, name: str) -> RunningProcess:
        """Start ``rota`` and let it run; ``name`` is that of its log."""
        return RunningProcess(
            [BIN / "rota", *arguments], log_path=self.folder / f"{name}.log", env=self.env, cwd=self.folder
        )


@contextmanager
def running_cluster(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Rota, RunningProcess]]:
    """Run ``rota up`` on a free port while the block does; its state is ``folder/state``, which may exist.

    Yields:
        The command for its users, and the process of ``rota up``.
    """
    starter = Rota("", folder, env=env)
    command = ["up", "--port", "0", "--grpc-port", "off", "--state-dir", str(folder / "state"), *arguments]
    with starter.start(*command, name="up") as up:
        yield Rota(up.wait_for_line(GREETING, timeout_s=START_S_MAX)[1], folder, env=env), up
