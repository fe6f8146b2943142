"""The process around a coordinator: logs that nobody can take, and the status with which it leaves when it fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from rota.core.errors import Unavailable
from tests.support.processes import RunningProcess
from tests.support.real_cluster import QUICK, START_S_MAX, Cluster
from tests.support.waiting import wait_until

EXIT_STORE: Final = 75
ONE_CORE: Final = "--resources=cpu=1000,memory=1G"

DYING_DISK: Final = """
import asyncio, pathlib
from rota.core.errors import StoreBroken
from rota.store.sqlite import SqliteStore

commit = SqliteStore.commit

async def failing(self, changes, fence):
    if not changes.accepted:
        return await commit(self, changes, fence)
    print("a commit is under way", flush=True)
    while not pathlib.Path({go!r}).exists():
        await asyncio.sleep(0.01)
    raise StoreBroken("writing failed: check the disk")

SqliteStore.commit = failing
"""

FAILING_RETENTION: Final = """
from rota.store.sqlite import SqliteStore

async def failing(self, retention, *, wall, at_most):
    raise AssertionError("a mistake of ours")

SqliteStore.prune = failing
"""


def start_with_logs_to(target: Path, command: str, *options: str, cluster: Cluster) -> RunningProcess:
    """Start a process of the cluster whose standard error goes elsewhere."""
    argv = ["/bin/sh", "-c", 'exec "$@" 2> "$0"', str(target), sys.executable, "-m", "rota", command, *options]
    # Buffered, as people's processes are: what is left in a buffer must do no harm at the end either.
    return RunningProcess(argv, log_path=cluster.folder / f"{command}.out", env={"PYTHONUNBUFFERED": ""})


def coordinator_options(cluster: Cluster) -> list[str]:
    return [f"--port={cluster.port}", f"--state-dir={cluster.state_dir}", *QUICK]


class LogReader:
    """Reads what a process logs, until it leaves."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextmanager
def log_reader(path: Path) -> Iterator[LogReader]:
    reader = LogReader(path)
    try:
        yield reader
    finally:
        reader.leave()


def test_a_worker_whose_log_reader_has_left_comes_back_after_a_restart(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster, log_reader(tmp_path / "log") as reader:
        cluster.start_coordinator()
        worker = ["--id=w1", f"--server={cluster.url}", ONE_CORE]
        with start_with_logs_to(reader.path, "worker", *worker, cluster=cluster) as process:
            cluster.wait_for_node("w1", "online", timeout_s=START_S_MAX)
            reader.leave()
            cluster.coordinator.kill()
            cluster.start_coordinator()
            cluster.wait_for_node("w1", "online")
            task = cluster.client.submit({"shell": "echo heard"})
            assert cluster.wait_for_end(task["id"])["state"] == "completed"
            process.send_signal(signal.SIGTERM)
            assert process.wait_for_exit() == 0


def test_a_coordinator_whose_log_reader_has_left_goes_on_and_stops_in_order(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path) as cluster,
        log_reader(tmp_path / "log") as reader,
        start_with_logs_to(reader.path, "coordinator", *coordinator_options(cluster), cluster=cluster) as process,
    ):
        process.wait_for_line("^rota coordinator listening", timeout_s=START_S_MAX)
        reader.leave()
        cluster.start_worker("w1", ONE_CORE)  # a log line
        task = cluster.client.submit({"shell": "echo heard"})
        assert cluster.wait_for_end(task["id"])["state"] == "completed"
        process.send_signal(signal.SIGTERM)
        assert process.wait_for_exit() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no device that is always full")
def test_logs_on_a_full_disk_do_no_harm(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with (
        Cluster(tmp_path) as cluster,
        start_with_logs_to(full, "coordinator", *coordinator_options(cluster), cluster=cluster) as coordinator,
    ):
        coordinator.wait_for_line("^rota coordinator listening", timeout_s=START_S_MAX)
        worker_options = ["--id=w1", f"--server={cluster.url}", ONE_CORE]
        with start_with_logs_to(full, "worker", *worker_options, cluster=cluster) as worker:
            cluster.wait_for_node("w1", "online", timeout_s=START_S_MAX)
            task = cluster.client.submit({"shell": "echo heard"})
            assert cluster.wait_for_end(task["id"])["state"] == "completed"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait_for_exit() == 0
        coordinator.send_signal(signal.SIGTERM)
        assert coordinator.wait_for_exit() == 0


def test_a_stop_while_the_disk_dies_under_a_commit_leaves_with_the_status_of_the_store(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with Cluster(tmp_path) as cluster, ThreadPoolExecutor(1) as pool:
        coordinator = cluster.start_coordinator(prelude=DYING_DISK.format(go=str(go)))
        submit = pool.submit(cluster.client.submit, {"command": ["true"]})
        coordinator.wait_for_line("^a commit is under way")
        coordinator.send_signal(signal.SIGTERM)
        coordinator.wait_for_line("stopping")
        go.touch()
        assert coordinator.wait_for_exit() == EXIT_STORE
        with pytest.raises(Unavailable, match="check the disk") as refusal:
            submit.result(timeout=5.0)
        assert refusal.value.code == "store_broken"
        cluster.start_coordinator()
        assert not cluster.tasks()


def test_a_background_service_that_fails_ends_the_process(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        coordinator = cluster.launch_coordinator(prelude=FAILING_RETENTION)
        assert coordinator.wait_for_exit(timeout_s=START_S_MAX) == EXIT_STORE
        assert "a mistake of ours" in wait_until(coordinator.output, what="its last words")
