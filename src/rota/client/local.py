"""A cluster of this program's own, for as long as it is wanted: ``rota up`` as a child process.

It lives as long as the pipe to its stdin: however this process ends, the kernel closes the pipe, and the cluster
stops. Its state is in a temporary directory, gone with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from rota.core.errors import NoCoordinator

__all__ = ["LocalCluster"]

START_S_MAX: Final = 60.0
"""Python starts three times or more, on a machine that may be busy."""

STOP_S_MAX: Final = 20.0
"""For workers to end what runs, and for all to leave; then they are killed."""

TAIL_LINES: Final = 20
"""Of what the cluster has written, shown if it does not come up."""

_UP = re.compile(rb"^rota is up at (\S+) ")

_PROGRAM: Final = """
import os, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD])
def watch():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from rota.cli.main import main
main()
"""
"""Runs ``rota`` until stdin ends. The thread holds no lock when the command forks, and leaves signals to the others."""


class LocalCluster:
    """A coordinator and workers on this machine.

    Args:
        workers: How many, at least 1.
        options: Of ``rota up``, such as ``--resources=cpu=4000``.

    Raises:
        TypeError: ``workers`` is no whole number, or ``options`` is a text.
        ValueError: ``workers`` is not at least 1: nothing would run, and ``with`` would wait for ever.
        NoCoordinator: It did not come up; says what it wrote.
    """

    def __init__(self, workers: int, options: Sequence[str] = ()) -> None:
        _check(workers, options)
        self._folder = Path(tempfile.mkdtemp(prefix="rota-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("ROTA_URL", "ROTA_TOKEN")}
        arguments = [
            "up",
            f"--workers={workers}",
            "--port=0",
            "--grpc-port=off",
            f"--state-dir={self._folder / 'state'}",
            *options,
        ]
        with (self._folder / "up.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                # Ctrl-C is this program's: it decides when the cluster ends.
                process_group=0,
            )
        self.url = self._wait_for_url()

    def why_gone(self) -> str | None:
        """What the cluster wrote last, if it has ended by itself."""
        if self._process.poll() is None:
            return None
        return f"the cluster of this program has ended; `rota up` wrote:\n{self._tail()}"

    def stop(self) -> None:
        """End the cluster and remove its state. Safe to call twice."""
        self._end(STOP_S_MAX)
        self._remove()

    def _end(self, seconds: float) -> None:
        process = self._process
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _wait_for_url(self) -> str:
        found: list[str] = []
        assert self._process.stdout is not None
        reader = threading.Thread(target=_read_url, args=(self._process.stdout, found), daemon=True)
        reader.start()
        reader.join(START_S_MAX)
        if found:
            return found[0]
        self._process.kill()
        self._end(STOP_S_MAX)
        tail = self._tail()
        self._remove()
        raise NoCoordinator(f"no cluster could be started on this machine; `rota up` wrote:\n{tail}")

    def _tail(self) -> str:
        return "\n".join((self._folder / "up.log").read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _read_url(pipe: IO[bytes], found: list[str]) -> None:
    """Read the greeting up to the address; what follows is short enough for the pipe."""
    for line in iter(pipe.readline, b""):
        match = _UP.match(line)
        if match is not None:
            found.append(match[1].decode())
            return


def _check(workers: int, options: Sequence[str]) -> None:
    """Refuse in a sentence what ``rota up`` would refuse as options that the caller never wrote."""
    if not isinstance(workers, int):
        raise TypeError(f"workers must be a whole number, got {workers!r}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if isinstance(options, str):
        raise TypeError(f"options must be a list of texts, such as ['--tags=ssd'], got {options!r}")
