"""A copy of the state, taken while the coordinator works, is one that a coordinator can be started from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rota.core.errors import StoreUnusable
from rota.store.backup import back_up
from rota.store.segments import segment_path
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


async def test_copies_of_two_clusters_are_not_mixed(tmp_path: Path) -> None:
    mine, theirs, copy = tmp_path / "mine", tmp_path / "theirs", tmp_path / "copy"
    for state in (mine, theirs):
        await make_state(state, tasks=1)
    back_up(mine, copy)
    before = (copy / DATABASE_NAME).read_bytes()
    with pytest.raises(StoreUnusable, match="is a copy of another cluster's state: name a folder for each"):
        back_up(theirs, copy)
    assert (copy / DATABASE_NAME).read_bytes() == before


async def test_output_that_goes_on_otherwise_after_a_way_back_is_copied_again(tmp_path: Path) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy"
    await make_state(state, tasks=1)
    logs = state / "logs"
    logs.mkdir()
    (logs / "cluster").write_text("c1")
    segment = segment_path(logs, 1)
    segment.write_bytes(b"as it was")
    assert back_up(state, copy).segments == 1
    unchanged = segment_path(copy / "logs", 1).stat().st_ino
    assert back_up(state, copy).segments == 1
    assert segment_path(copy / "logs", 1).stat().st_ino == unchanged, "what is the same is not copied again"
    segment.write_bytes(b"otherwise")
    os.utime(segment, ns=(0, 1))
    back_up(state, copy)
    assert segment_path(copy / "logs", 1).read_bytes() == b"otherwise"
