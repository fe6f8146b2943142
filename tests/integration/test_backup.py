"""A copy of the state, taken while the coordinator works, is one that a coordinator can be started from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rota.core.errors import StoreUnusable
from rota.store.backup import back_up
from rota.store.sqlite import DATABASE_NAME
from tests.integration.test_store_faults import make_state
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

OUTPUT = "x" * 9_999 + "\n"


def backed_up(state_dir: Path, target: Path) -> str:
    command = [sys.executable, "-m", "rota", "backup", "--state-dir", str(state_dir), str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_cluster_goes_on_from_a_copy_that_was_taken_while_it_worked(tmp_path: Path) -> None:
    copy, talk = tmp_path / "copy", "head -c 9999 /dev/zero | tr '\\0' x; echo"
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        worker = cluster.start_worker("w1", "--cache-dir", str(tmp_path / "cache"))
        first = cluster.client.submit({"shell": f"{talk}; echo kept > out", "outputs": ["out"]})
        cluster.wait_for_end(first["id"])
        assert "1 blobs and 1 files of output" in backed_up(cluster.state_dir, copy)
        later = cluster.client.submit({"shell": talk})
        cluster.wait_for_end(later["id"])
        waiting = cluster.client.submit({"command": ["true"], "tags": ["none-has-it"]})
        backed_up(cluster.state_dir, copy)
        cluster.client.submit({"command": ["true"]})
        cluster.coordinator.kill()
        worker.kill()
        cluster.state_dir = copy
        cluster.start_coordinator()
        tasks = cluster.tasks()
        assert {name: task["state"] for name, task in tasks.items()} == {
            first["id"]: "completed",
            later["id"]: "completed",
            waiting["id"]: "pending",
        }
        for task in (first, later):
            assert b"".join(cluster.client.logs(task["id"], {})).decode() == OUTPUT
        cluster.start_worker("w1", "--cache-dir", str(tmp_path / "cache"))
        fresh = cluster.client.submit({"command": ["true"]})
        wait_until(lambda: cluster.client.task(fresh["id"])["state"] == "completed", what="a new task to run")


async def test_what_could_be_destroyed_by_a_copy_is_left_alone(tmp_path: Path) -> None:
    state, other = tmp_path / "state", tmp_path / "other"
    await make_state(state, tasks=1)
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    for source, target, words in (
        (other, tmp_path / "copy", "is no state directory"),
        (state, state, "is a state directory itself"),
        (state, other, "has other things in it"),
        (state, other / "thesis.tex", "can't be used"),
    ):
        with pytest.raises(StoreUnusable, match=words):
            back_up(source, target)
    assert sorted(os.listdir(other)) == ["thesis.tex"]


async def test_a_copy_is_for_its_owner_alone(tmp_path: Path) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy"
    await make_state(state, tasks=3)
    back_up(state, copy)
    assert (copy.stat().st_mode & 0o777, (copy / DATABASE_NAME).stat().st_mode & 0o777) == (0o700, 0o600)


async def test_a_copy_that_broke_off_is_made_anew(tmp_path: Path) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy"
    await make_state(state, tasks=3)
    back_up(state, copy)
    (copy / f"{DATABASE_NAME}.partial").write_bytes(b"half of it")
    back_up(state, copy)
    assert sorted(os.listdir(copy)) == [DATABASE_NAME]
