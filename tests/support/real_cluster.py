"""A whole cluster under test: a coordinator and workers as real processes, quick to notice a loss.

The coordinator keeps its port and its state directory over restarts, as a supervisor would start it
again. At the end everything is killed, which also shows that nothing needs a graceful stop.
A `Witness` is the file in which tasks themselves tell that they run: what really happened,
whatever the record says.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from rota.client.http import HttpClient, Json
from rota.core.errors import RotaError
from rota.wire.channel import Transport
from tests.support.network import free_port
from tests.support.processes import RunningProcess
from tests.support.proxy import Proxy
from tests.support.waiting import TIMEOUT_S, wait_until

__all__ = ["ENDED", "QUICK", "START_S_MAX", "Cluster", "Gate", "Line", "Witness", "check_record", "over_both"]

QUICK: Final = ("--heartbeat=250ms", "--suspicious-after=1200ms", "--offline-after=2500ms", "--grace=2s")
"""A tenth of the usual thresholds: a loss is noticed while a test waits for it, a busy machine is no loss."""

BACK_SOON: Final = "from rota.wire import backoff; backoff.RECONNECT_CAP_S = 0.5"
"""For workers: tests that restart a coordinator wait for them to come back, up to 5 s as they usually do."""

over_both: Final = pytest.mark.parametrize("transport", ["websocket", "grpc"])
"""For tests of what holds over whichever transport a worker has: pass it on to `Cluster`."""

ENDED: Final = ("completed", "failed", "cancelled")

START_S_MAX: Final = 60.0
"""For a process to import and listen, on a machine that runs other tests."""

PAGE: Final = 1000

GATE_USERS_MAX: Final = 4096
"""Tasks that one gate lets through: fewer bytes than a pipe holds."""


class Cluster:
    """One coordinator and its workers, gone when the ``with`` block ends.

    Args:
        folder: For the state, and for what the processes write.
        options: Of the coordinator, at every start.
        token: Asked for by the coordinator, sent by workers and `client`.
        state_dir: Where the state is, if not in ``folder``.
        transport: Of the channels of its workers.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        token: str | None = None,
        state_dir: Path | None = None,
        transport: Transport = "websocket",
    ) -> None:
        self.folder = folder
        self.state_dir = state_dir or folder / "state"
        self.transport = transport
        self.port = free_port()
        self._grpc_port = free_port() if transport == "grpc" else None
        self.channel_port = self._grpc_port or self.port
        """To which workers connect, or a proxy for them."""
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = HttpClient(self.url, token=token)
        self._options = (*QUICK, "--kill-grace=1s", *options)
        self._env = {"ROTA_TOKEN": token} if token is not None else {}
        self._coordinators: list[RunningProcess] = []
        self._workers: list[RunningProcess] = []

    @property
    def coordinator(self) -> RunningProcess:
        """The one that was started last."""
        return self._coordinators[-1]

    def launch_coordinator(self, *options: str, prelude: str = "") -> RunningProcess:
        """Start a coordinator and don't wait until it serves.

        Args:
            options: More than those of the cluster.
            prelude: Python that its process runs first, to let a test look inside.
        """
        arguments = [f"--port={self.port}", f"--grpc-port={self._grpc_port or 'off'}", f"--state-dir={self.state_dir}"]
        arguments += [*self._options, *options]
        script = f"{prelude}\nfrom rota.cli.main import main\nmain()"
        process = RunningProcess(
            [sys.executable, "-c", script, "coordinator", *arguments],
            log_path=self.folder / "coordinator.log",
            env=self._env,
        )
        self._coordinators.append(process)
        return process

    def start_coordinator(self, *options: str, prelude: str = "") -> RunningProcess:
        """Start a coordinator, on the port and the state of those before; see `launch_coordinator`."""
        process = self.launch_coordinator(*options, prelude=prelude)
        process.wait_for_line(r"^rota coordinator listening", timeout_s=START_S_MAX)
        if self._grpc_port is not None:
            self.wait_for_grpc()
        return process

    def wait_for_grpc(self) -> str:
        """Wait until the coordinator serves gRPC, which takes ``--grpc-port`` among its options; return its address."""
        line = self.coordinator.wait_for_line(r"^rota coordinator serving gRPC on (\S+)", timeout_s=START_S_MAX)
        return line[1]

    def launch_worker(
        self, name: str, *options: str, through: Proxy | None = None, prelude: str = ""
    ) -> RunningProcess:
        """Start a worker and don't wait until it is let in.

        Args:
            name: Its id.
            options: More than those.
            through: A bad network before the coordinator, if there is one.
            prelude: Python that its process runs first, to let a test look inside.
        """
        script = f"{BACK_SOON}\n{prelude}\nfrom rota.cli.main import main\nmain()"
        process = RunningProcess(
            [sys.executable, "-c", script, "worker", f"--id={name}", *self.addresses(through), *options],
            log_path=self.folder / f"{name}.log",
            env=self._env,
        )
        self._workers.append(process)
        return process

    def start_worker(self, name: str, *options: str, through: Proxy | None = None, prelude: str = "") -> RunningProcess:
        """Start a worker, and wait until the coordinator has let it in; see `launch_worker`."""
        process = self.launch_worker(name, *options, through=through, prelude=prelude)
        process.wait_for_line("registered", timeout_s=START_S_MAX)
        return process

    def addresses(self, through: Proxy | None = None) -> list[str]:
        """The options that tell a worker where the coordinator is."""
        if self.transport == "websocket":
            return [f"--server={through.url if through is not None else self.url}"]
        port = through.port if through is not None else self.channel_port
        return [f"--server={self.url}", "--transport=grpc", f"--grpc-server=127.0.0.1:{port}"]

    # What it says of itself

    def node(self, name: str) -> Json | None:
        """Return a worker as the coordinator sees it."""
        return next((node for node in self.client.nodes() if node["id"] == name), None)

    def wait_for_node(self, name: str, state: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until a worker is in a state."""
        wait_until(
            lambda: (node := self.node(name)) is not None and node["state"] == state,
            what=f"worker {name} to be {state}",
            timeout_s=timeout_s,
            ignoring=(RotaError,),
        )

    def tasks(self, **query: str | int) -> dict[str, Json]:
        """Return all tasks by their ids, and see that each is there once."""
        listed = [task for page in self.client.tasks({"limit": PAGE, **query}) for task in page]
        found = {task["id"]: task for task in listed}
        assert len(found) == len(listed), "a task is listed twice"
        return found

    def count(self, *states: str) -> int:
        """Return how many tasks are in these states."""
        by_state = self.client.stats()["tasks"]
        return sum(by_state.get(state, 0) for state in states)

    def wait_for_end(self, task_id: str, *, timeout_s: float = TIMEOUT_S) -> Json:
        """Return a task when it has ended."""
        task = self.client.wait(task_id, timeout_s=timeout_s)
        assert task["state"] in ENDED, task
        return task

    def wait_for_state(self, task_id: str, state: str, *, timeout_s: float = TIMEOUT_S) -> Json:
        """Return a task when it is in a state."""

        def look() -> Json | None:
            task = self.client.task(task_id)
            return task if task["state"] == state else None

        found = wait_until(look, what=f"task {task_id} to be {state}", timeout_s=timeout_s, ignoring=(RotaError,))
        assert found is not None
        return found

    def wait_for_all(self, count: int, *, timeout_s: float) -> None:
        """Wait until so many tasks have ended."""
        wait_until(
            lambda: self.count(*ENDED) >= count,
            what=f"the end of {count} tasks",
            timeout_s=timeout_s,
            ignoring=(RotaError,),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        for process in [*self._workers, *self._coordinators]:
            if error is not None:
                error.add_note(process.tail())
            process.kill()


@dataclass(frozen=True)
class Line:
    """What a task said: ``word`` is ``start`` or ``end``, ``pid`` its shell's."""

    task: str
    attempt: int
    pid: int
    word: str


class Witness:
    """A file to which tasks append a line when they begin and when they end, each in one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def shell(self, work: str = ":") -> str:
        """Return a command line that tells of its start, does some work, and tells of its end."""
        return f"{self._saying('start')}; {work}; {self._saying('end')}"

    def lines(self) -> list[Line]:
        """Return what was told so far, in order."""
        told = self._path.read_text(encoding="ascii").splitlines()
        return [Line(task, int(attempt), int(pid), word) for task, attempt, pid, word in map(str.split, told)]

    def starts(self) -> Counter[str]:
        """Return how often each task has begun."""
        return self._count("start")

    def ends(self) -> Counter[str]:
        """Return how often each task has come to its end."""
        return self._count("end")

    def wait_for_starts(self, count: int, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until so many tasks have begun."""
        wait_until(lambda: len(self.starts()) >= count, what=f"{count} tasks to begin", timeout_s=timeout_s)

    def _saying(self, word: str) -> str:
        return f'echo "$ROTA_TASK_ID $ROTA_ATTEMPT $$ {word}" >> {shlex.quote(str(self._path))}'

    def _count(self, word: str) -> Counter[str]:
        return Counter(line.task for line in self.lines() if line.word == word)


class Gate:
    """Holds tasks up, at no cost of processor, until it is opened. Use it in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        """For a task that reads a byte of it, and goes on when it has one."""
        # Open for writing, too: a task that opens it for reading then gets through, and blocks in its read.
        self._fd = os.open(path, os.O_RDWR)
        self.shell = f"read line < {shlex.quote(str(path))}"

    def open(self) -> None:
        """Let all through, those that come later too: each takes one of the lines."""
        os.write(self._fd, b"\n" * GATE_USERS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)


def check_record(cluster: Cluster, ids: Iterable[str], *, state: str = "completed") -> dict[str, Json]:
    """See that each task has exactly one end on the record, and is there once; return all tasks.

    Of a task's attempts only the last has ended it; the numbers of those before have no gap.
    """
    tasks = cluster.tasks()
    wanted = set(ids)
    assert wanted <= tasks.keys(), f"missing from the record: {sorted(wanted - tasks.keys())[:5]}"
    wrong = {task_id: tasks[task_id]["state"] for task_id in wanted if tasks[task_id]["state"] != state}
    assert not wrong, f"{len(wrong)} are not {state}: {list(wrong.items())[:5]}"
    for task_id in wanted:
        if tasks[task_id]["attempt"] > 1:
            _check_attempts(cluster.client.attempts(task_id))
    return tasks


def _check_attempts(attempts: Sequence[Json]) -> None:
    assert [attempt["number"] for attempt in attempts] == list(range(1, len(attempts) + 1)), attempts
    assert all(attempt["cause"] is not None for attempt in attempts[:-1]), "a success was superseded"
    assert all(attempt["ended_at"] is not None for attempt in attempts), attempts
