"""The port of everything that a slot can start: from a spec to a plain program."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from rota.core.spec import TaskSpec
from rota.worker.slots.base import Build, Work

__all__ = ["Executor", "Launch", "LaunchRefused", "ScratchUse"]


class ScratchUse(Struct, frozen=True):
    """A directory for one attempt alone. ``files``, names and contents, are in it when the program starts.

    Where the program is a snippet, ``language`` and the name of its ``source`` tell how to read what it says last.
    """

    path: str
    files: tuple[tuple[str, bytes], ...] = ()
    language: str = ""
    source: str = ""


class Launch(Struct, frozen=True):
    """A program to start. ``env`` comes on top of the worker's short base; ``stdin`` is empty if not given.

    ``cwd`` is, if not given, the scratch directory, or without one where the worker was started. The process tree is
    held under ``memory_mib``. With a ``build``, ``argv`` is what follows the program that is built.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str | None = None
    stdin: bytes | None = None
    timeout_s: float | None = None
    memory_mib: int | None = None
    scratch: ScratchUse | None = None
    build: Build | None = None


class LaunchRefused(Exception):
    """The task can't be started: ends it as ``launch-error``, with this sentence."""


class Executor(Protocol):
    """Turns specs of one kind into programs. Called once an attempt: it must be quick and wait for nothing."""

    def launch(self, spec: TaskSpec, work: Work) -> Launch:
        """Say what to start.

        Raises:
            LaunchRefused: It can't be started on this worker.
        """
        ...
