"""Synthetic work on a real worker: it does what it says, within its limits, and leaves nothing behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rota.client.http import Json
from tests.support.disks import small_disk
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("workloads")) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=8000,memory=2G")
        yield running


def submit(cluster: Cluster, mix: str, seconds: float, mib: int = 0, **spec: Any) -> str:
    work = {"mix": mix, "seconds": seconds, "mib": mib}
    return str(cluster.client.submit({"workload": work, **spec})["id"])


def run(cluster: Cluster, mix: str, seconds: float, mib: int = 0, **spec: Any) -> Json:
    """Submit a task and return it as it ended."""
    return cluster.wait_for_end(submit(cluster, mix, seconds, mib, **spec))


def output(cluster: Cluster, task: Json) -> bytes:
    return b"".join(cluster.client.logs(task["id"], {}))


def said(cluster: Cluster, task: Json) -> Json:
    assert task["state"] == "completed", (task, output(cluster, task))
    return json.loads(output(cluster, task))  # type: ignore[no-any-return]  # an object, by what it is called


def scratch_files(folder: Path) -> list[str]:
    """The files without a name, or that have lost it, which processes have open in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            files = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
        except OSError:
            continue
        found += [file for file in files if file.startswith(f"{folder}/")]
    return found


def test_a_worker_says_that_it_does_synthetic_work(cluster: Cluster) -> None:
    node = cluster.node("w1")
    assert node is not None
    assert "workload" in node["kinds"]


def test_cpu_work_uses_as_much_processor_time_as_it_was_asked_for(cluster: Cluster) -> None:
    task = run(cluster, "cpu", 0.4)
    assert 0.4 <= said(cluster, task)["cpu_seconds"] < 1.0
    assert 0.4 <= task["cpu_seconds"] < 1.0


def test_io_work_writes_and_reads_back_in_rounds_and_leaves_no_file(cluster: Cluster, tmp_path: Path) -> None:
    task = run(cluster, "io", 0.3, 4, env={"TMPDIR": str(tmp_path)})
    facts = said(cluster, task)
    assert facts["mib_written"] == facts["mib_read"] >= 4
    assert facts["mib_written"] % 4 == 0
    assert facts["seconds"] >= 0.3
    assert os.listdir(tmp_path) == []


def test_io_work_does_at_least_one_round_and_without_a_size_only_waits(cluster: Cluster) -> None:
    assert said(cluster, run(cluster, "io", 0.0, 2))["mib_read"] == 2
    waited = said(cluster, run(cluster, "io", 0.2))
    assert (waited["mib_written"], waited["seconds"] >= 0.2) == (0, True)


def test_memory_work_really_holds_it_within_its_limit(cluster: Cluster) -> None:
    task = run(cluster, "memory", 0.5, 96, resources={"memory": 160})
    assert said(cluster, task)["mib_held"] == 96
    assert 96 <= task["peak_memory"] < 160


def test_mixed_work_does_some_of_each(cluster: Cluster) -> None:
    facts = said(cluster, run(cluster, "mixed", 0.6, 8))
    assert facts["cpu_seconds"] >= 0.2
    assert facts["seconds"] >= 0.4
    assert facts["mib_written"] >= facts["mib_held"] == 8


def test_memory_work_over_its_limit_is_killed_as_oom(cluster: Cluster) -> None:
    task = run(cluster, "memory", 60, 256, resources={"memory": 64})
    assert (task["state"], task["cause"]) == ("failed", "oom")


def test_work_over_its_timeout_is_stopped(cluster: Cluster) -> None:
    task = run(cluster, "cpu", 60, timeout=0.3)
    assert (task["state"], task["cause"]) == ("failed", "timeout")


def test_cancelled_io_work_leaves_no_file_however_it_is_ended(cluster: Cluster, tmp_path: Path) -> None:
    task_id = submit(cluster, "io", 60, 2, env={"TMPDIR": str(tmp_path)})
    wait_until(lambda: scratch_files(tmp_path), what="the scratch file")
    cluster.client.cancel(task_id)
    assert cluster.wait_for_end(task_id)["state"] == "cancelled"
    wait_until(lambda: not scratch_files(tmp_path), what="the end of the scratch file")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_told_and_fails_the_task(cluster: Cluster, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=2) as disk:
        task = run(cluster, "io", 1, 64, env={"TMPDIR": str(disk)})
        assert (task["state"], task["cause"], task["exit_code"]) == ("failed", "exit", 1)
        text = output(cluster, task).decode()
        assert f"io of 64 MiB failed in {disk}" in text
        assert "No space left on device" in text


def test_a_missing_folder_is_told_and_fails_the_task(cluster: Cluster) -> None:
    task = run(cluster, "io", 1, 1, env={"TMPDIR": "/no/such/folder"})
    assert task["exit_code"] == 1
    assert "No such file or directory" in output(cluster, task).decode()
