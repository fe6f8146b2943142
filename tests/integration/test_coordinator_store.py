"""A coordinator whose state can't be written or taken: a clear sentence, no hang, and nothing accepted is missing."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from pathlib import Path
from typing import Final

import apsw
import pytest

from rota.client.http import HttpClient
from rota.core.errors import Overloaded, Unavailable
from tests.support.disks import fill, make_read_only, small_disk
from tests.support.processes import RunningProcess, running_rota
from tests.support.real_cluster import Cluster, Gate, Witness, check_record
from tests.support.waiting import wait_until

EXIT_STORE: Final = 75
DATABASE: Final = "rota.db"
ONE_CORE: Final = "--resources=cpu=1000,memory=1G"

LOCKER: Final = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read() or __import__("time").sleep(600)
"""


LONG_PAUSES: Final = """
import rota.coordinator.loop as loop
loop.RETRY_S_MIN = loop.RETRY_S_MAX = 600.0
"""
"""Between two tries of a store that takes no writes."""


def expect_refusal(process: RunningProcess, sentence: str) -> None:
    """The process leaves with one line that people understand, and a status that a supervisor does."""
    assert process.wait_for_exit(timeout_s=60.0) == EXIT_STORE
    said = process.output()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("rota: ")]
    assert len(lines) == 1, said
    assert sentence in lines[0]


def try_to_submit(client: HttpClient) -> str | None:
    """Submit a task; return its id, or nothing if the store took none."""
    try:
        return str(client.submit({"command": ["true"], "env": {"FILLING": "x" * 2_000}})["id"])
    except Unavailable as error:
        if error.code != "store_unavailable":
            raise
        return None


def submit_until_refused(client: HttpClient) -> list[str]:
    """Submit tasks until the store takes none; return those that it took."""
    return list(itertools.takewhile(bool, (try_to_submit(client) or "" for _ in range(10_000))))


@pytest.mark.slow
def test_a_full_disk_refuses_new_tasks_and_loses_none(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    with (
        small_disk(tmp_path / "disk", size_mib=6) as disk,
        Cluster(tmp_path, state_dir=disk / "state") as cluster,
        Gate(tmp_path / "gate") as gate,
    ):
        coordinator = cluster.start_coordinator()
        cluster.start_worker("w1", ONE_CORE)
        accepted = [cluster.client.submit({"shell": witness.shell(gate.shell)})["id"] for _ in range(5)]
        witness.wait_for_starts(1)
        ballast = fill(disk)
        accepted += submit_until_refused(cluster.client)
        with pytest.raises(Unavailable, match=r"no room left .*: free some space"):
            cluster.client.submit({"command": ["true"]})
        assert cluster.tasks().keys() >= set(accepted), "reads go on"
        assert cluster.client.task(accepted[0])["id"] == accepted[0]
        assert cluster.client.stats()["tasks"]["pending"] >= 4
        (node,) = cluster.client.nodes()
        assert (node["id"], node["state"], node["last_seen"]) == ("w1", "suspicious", None)
        assert not cluster.client.is_ready()
        gate.open()  # what runs ends meanwhile, and is told of later
        wait_until(lambda: witness.ends()[accepted[0]] == 1, what="the end of what ran")

        ballast.unlink()
        wait_until(cluster.client.is_ready, what="the coordinator to serve again", timeout_s=60.0)
        cluster.wait_for_all(len(accepted), timeout_s=60.0)
        check_record(cluster, accepted)
        assert witness.starts() == dict.fromkeys(accepted[:5], 1)
        assert coordinator.is_running()
        known = cluster.tasks().keys()
        cluster.coordinator.kill()
        cluster.start_coordinator()
        assert cluster.tasks().keys() == known, "what was shown is on the disk"


def test_output_that_finds_no_room_is_there_when_there_is_room_again(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", size_mib=8) as disk,
        Cluster(tmp_path, state_dir=disk / "state") as cluster,
        Gate(tmp_path / "gate") as gate,
    ):
        coordinator = cluster.start_coordinator()
        cluster.start_worker("w1", ONE_CORE)
        task = cluster.client.submit({"shell": f"{gate.shell}; yes 0123456 | head -c 400000"})
        cluster.wait_for_state(task["id"], "running")
        ballast = fill(disk)
        gate.open()
        coordinator.wait_for_line("store_unavailable")
        assert cluster.client.wait(task["id"], timeout_s=0.1)["state"] == "running"
        ballast.unlink()
        ended = cluster.wait_for_end(task["id"])  # asked while nothing could be recorded, and answered after
        assert (ended["state"], ended["attempt"]) == ("completed", 1)
        assert b"".join(cluster.client.logs(task["id"], {})) == b"0123456\n" * 50_000


def test_a_stop_is_heeded_while_the_disk_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=6) as disk, Cluster(tmp_path, state_dir=disk / "state") as cluster:
        coordinator = cluster.start_coordinator(prelude=LONG_PAUSES)
        fill(disk)
        accepted = submit_until_refused(cluster.client)
        coordinator.wait_for_line("store_unavailable")
        coordinator.send_signal(signal.SIGTERM)
        assert coordinator.wait_for_exit() == 0
        (disk / "ballast").unlink()
        cluster.start_coordinator()
        assert cluster.tasks().keys() == set(accepted)


def test_a_foreign_lock_refuses_new_tasks_until_it_is_gone(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        (known,) = [cluster.client.submit({"command": ["true"]})["id"]]
        database = cluster.state_dir / DATABASE
        with RunningProcess([sys.executable, "-c", LOCKER, str(database)], log_path=tmp_path / "locker") as locker:
            locker.wait_for_line("locked")
            with pytest.raises(Unavailable, match="locked by another program"):
                cluster.client.submit({"command": ["true"]})
            assert cluster.tasks().keys() == {known}, "reads go on, and what was refused is not there"
            locker.kill()
        wait_until(lambda: try_to_submit(cluster.client), what="tasks to be taken again")


def test_a_lock_at_the_start_is_told(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator().stop()
        database = cluster.state_dir / DATABASE
        with RunningProcess([sys.executable, "-c", LOCKER, str(database)], log_path=tmp_path / "locker") as locker:
            locker.wait_for_line("locked")
            expect_refusal(cluster.launch_coordinator(), "locked by another program")


def test_a_read_only_state_directory_is_told_at_the_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=1) as disk:
        make_read_only(disk)
        with Cluster(tmp_path, state_dir=disk / "state") as cluster:
            expect_refusal(cluster.launch_coordinator(), "can't be written to: make it writable")


def test_a_state_that_became_read_only_is_told_at_the_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=6) as disk, Cluster(tmp_path, state_dir=disk) as cluster:
        cluster.start_coordinator().stop()
        make_read_only(disk)
        expect_refusal(cluster.launch_coordinator(), "can't be written to: make it writable")


def test_a_full_disk_at_the_start_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=1) as disk, Cluster(tmp_path, state_dir=disk / "state") as cluster:
        fill(disk)
        expect_refusal(cluster.launch_coordinator(), "no room left")


def test_a_damaged_database_is_told_at_the_start_and_left_alone(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator().stop()
        database = cluster.state_dir / DATABASE
        damaged = b"no database at all " * 1_000
        database.write_bytes(damaged)
        for name in ("-wal", "-shm"):
            database.with_name(database.name + name).unlink(missing_ok=True)
        expect_refusal(cluster.launch_coordinator(), "is damaged: restore it from a backup")
        assert database.read_bytes() == damaged


def test_a_second_coordinator_says_who_holds_the_state_and_leaves(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first = cluster.start_coordinator()
        arguments = ["coordinator", "--port=0", f"--state-dir={cluster.state_dir}"]
        with running_rota(*arguments, log_path=tmp_path / "second.log") as second:
            expect_refusal(second, f"pid {first.pid}: stop it first")
        assert cluster.client.is_ready(), "the first is not disturbed"


def test_a_state_directory_is_only_for_its_owner(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        assert cluster.state_dir.stat().st_mode & 0o777 == 0o700


def test_more_than_may_wait_is_refused_for_the_time_being(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--max-pending=3") as cluster:
        cluster.start_coordinator()
        for _ in range(3):
            cluster.client.submit({"command": ["true"]})
        with pytest.raises(Overloaded, match="3 tasks wait"):
            cluster.client.submit({"command": ["true"]})
        cluster.start_worker("w1", ONE_CORE)
        cluster.wait_for_all(3, timeout_s=60.0)
        assert cluster.client.submit({"command": ["true"]})["id"] == "t4"


def test_a_coordinator_without_a_disk_runs_tasks(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--store=memory") as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", ONE_CORE)
        task = cluster.client.submit({"shell": "echo hello"})
        assert cluster.wait_for_end(task["id"])["state"] == "completed"
        assert b"".join(cluster.client.logs(task["id"], {})) == b"hello\n"


def test_a_coordinator_whose_state_was_taken_stops_deciding_and_leaves(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        coordinator = cluster.start_coordinator()
        known = cluster.client.submit({"command": ["true"]})["id"]
        # What another leader does first, and what our lock prevents on a file system that keeps its promises.
        apsw.Connection(str(cluster.state_dir / DATABASE)).execute("UPDATE fence SET epoch = epoch + 1")
        asked = time.monotonic()
        with pytest.raises(Unavailable):
            cluster.client.submit({"command": ["true"]})
        assert time.monotonic() - asked < 4.0, "who waits is answered, not left hanging until the server is gone"
        assert coordinator.wait_for_exit() == EXIT_STORE
        cluster.start_coordinator()
        assert cluster.tasks().keys() == {known}
