"""`Program`: a command that a Python program has the cluster run, with files that go with it and come back.

Functions need none of this: they have arguments and results. What is already a program of its own has files. It is
submitted by REST, and the coordinator is asked how it is getting on; there is no channel to keep for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rota.core.errors import BadRequest, NotFound, RotaError, TaskFailed

if TYPE_CHECKING:
    from rota.client.files import Output
    from rota.client.http import HttpClient

__all__ = ["ENDED", "PAUSE_S", "Files", "Program", "chosen_outputs", "program_spec", "raise_unless_completed"]

Files = Mapping[str, str | os.PathLike[str]] | Iterable[str | os.PathLike[str]]
"""Paths by the names that they are to have in the scratch directory; or paths, by the last part of each."""

Paths = dict[str, str | os.PathLike[str]]
"""Of files, by the names that they are to have."""

ASK_S: Final = 30.0
"""How long the coordinator may hold back an answer: short of what proxies cut."""

PAUSE_S: Final = 0.5
"""Between questions to a coordinator that is away."""

ENDED: Final = frozenset({"completed", "failed", "cancelled"})


class Program:
    """A program on the cluster, submitted or found by its id. Made by `Client.program` and `Client.find_program`."""

    def __init__(self, rest: HttpClient, task_id: str) -> None:
        self._rest = rest
        self.id = task_id

    def info(self) -> dict[str, Any]:
        """The task as REST shows it."""
        return self._rest.task(self.id)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the task, as REST shows it, when it has ended, however it did; through restarts of the coordinator.

        Raises:
            TimeoutError: It has not ended after so many seconds.
        """
        ends_at = None if timeout is None else time.monotonic() + timeout
        while True:
            left_s = ASK_S if ends_at is None else min(ASK_S, max(0.0, ends_at - time.monotonic()))
            try:
                task = self._rest.wait(self.id, timeout_s=left_s)
                if task["state"] in ENDED:
                    return task
            except RotaError as error:
                if not error.retryable:
                    raise
                time.sleep(min(PAUSE_S, left_s))
            if ends_at is not None and time.monotonic() >= ends_at:
                raise TimeoutError(f"task {self.id} has not ended within {timeout:g} s")

    def check(self, timeout: float | None = None) -> dict[str, Any]:
        """As `wait`, for a program that must do well.

        Raises:
            TaskFailed: It has not.
        """
        task = self.wait(timeout)
        raise_unless_completed(task)
        return task

    def cancel(self) -> None:
        """Wish its end; `wait` tells when nothing of it is left."""
        self._rest.cancel(self.id)

    def logs(self) -> bytes:
        """What it has written so far."""
        return b"".join(self._rest.logs(self.id, {}))

    def outputs(self) -> list[Output]:
        """The files that it has left.

        Raises:
            Conflict: It has not ended.
        """
        return self._rest.files.outputs(self.id)

    def fetch(
        self, to: str | os.PathLike[str] = ".", names: Sequence[str] | None = None, *, overwrite: bool = False
    ) -> list[Path]:
        """Write the files that it has left below a folder, and nowhere else; return where they are.

        Args:
            to: The folder, which is made if it is not there.
            names: Only these.
            overwrite: Also over files of other content.

        Raises:
            Conflict: It has not ended, or another file is in the way: then nothing is written.
            NotFound: It has not left a file of one of the names.
            RotaError: One can't be written, or is no longer kept.
        """
        return self._rest.files.fetch(chosen_outputs(self.id, self.outputs(), names), to, overwrite=overwrite)

    def __repr__(self) -> str:
        return f"<rota.Program {self.id}>"


def program_spec(
    command: Sequence[str] | None, *, files: Files, outputs: Iterable[str], fields: Mapping[str, Any]
) -> tuple[dict[str, Any], Paths]:
    """What a user wrote as a spec of REST, and the files that are still to be sent, by name: see `Client.program`.

    Raises:
        BadRequest: Two files would have one name.
        TypeError: A command, files or outputs are one text instead of a list.
    """
    spec = dict(fields)
    if isinstance(command, str):
        raise TypeError(f"a command is a list, the program first; a line of shell is shell={command!r}")
    if command is not None:
        spec["command"] = [os.fspath(part) for part in command]
    if isinstance(outputs, str):
        raise TypeError(f"outputs are a list of patterns: [{outputs!r}]")
    if patterns := list(outputs):
        spec["outputs"] = patterns
    return spec, _by_name(files)


def chosen_outputs(task_id: str, outputs: list[Output], names: Sequence[str] | None) -> list[Output]:
    """Those of the files that a task has left which are wanted: all, or those of the names.

    Raises:
        NotFound: There is none of one of the names.
    """
    if names is None:
        return outputs
    by_name = {output.name: output for output in outputs}
    for name in names:
        if name not in by_name:
            raise NotFound(f"task {task_id} has not left a file {name!r}")
    return [by_name[name] for name in names]


def raise_unless_completed(task: Mapping[str, Any]) -> None:
    """See that a task which has ended, as REST shows it, has done well.

    Raises:
        TaskFailed: It has not.
    """
    if task["state"] == "completed":
        return
    why = task["message"] or (f"exit {task['exit_code']}" if task["cause"] == "exit" else task["cause"] or "")
    is_cancelled = task["state"] == "cancelled"
    raise TaskFailed(
        f"task {task['id']} was cancelled" if is_cancelled else f"task {task['id']} has failed: {why}",
        task_id=task["id"],
        cause=task["cause"],
        exit_code=task["exit_code"],
        signal=task["signal"],
        worker=task["worker"],
    )


def _by_name(files: Files) -> Paths:
    if isinstance(files, Mapping):
        return dict(files)
    if isinstance(files, str | os.PathLike):
        raise TypeError(f"files are a list of paths, or paths by their names: [{os.fspath(files)!r}]")
    by_name: Paths = {}
    for path in files:
        name = Path(os.path.abspath(path)).name
        if name in by_name:
            both = f"{os.fspath(by_name[name])} and {os.fspath(path)}"
            raise BadRequest(f"{both} would both be {name!r}: give them names in a dict")
        by_name[name] = path
    return by_name
