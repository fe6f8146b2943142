"""A token is changed under a cluster that works: nobody is restarted, and what runs runs on."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rota.client.http import HttpClient
from rota.core.errors import Unauthorized
from rota.wire.channel import Transport
from tests.support.processes import RunningProcess
from tests.support.real_cluster import Cluster, over_both
from tests.support.waiting import wait_until


def is_let_in(url: str, token: str) -> bool:
    with HttpClient(url, token=token) as client:
        try:
            client.stats()
        except Unauthorized:
            return False
        return True


@over_both
def test_a_worker_comes_back_with_the_new_token_and_what_it_runs_is_not_disturbed(
    tmp_path: Path, transport: Transport
) -> None:
    doors, keys, gate = tmp_path / "doors", tmp_path / "keys", tmp_path / "gate"
    doors.write_text("old\n")
    keys.write_text("old\n")
    with Cluster(tmp_path, f"--token-file={doors}", token="new", transport=transport) as cluster:
        cluster.start_coordinator()
        worker = cluster.start_worker("w1", f"--token-file={keys}", "--cache-dir", str(tmp_path / "cache"))
        with HttpClient(cluster.url, token="old") as client:
            task = client.submit({"shell": f"while [ ! -e {gate} ]; do sleep 0.05; done; head -c 100000 /dev/zero"})
        keys.write_text("new\n")
        doors.write_text("new\nold\n")
        wait_until(lambda: is_let_in(cluster.url, "new"), what="the new token to be taken")
        assert is_let_in(cluster.url, "old")
        doors.write_text("new\n")
        worker.wait_for_line("token_changed")
        cluster.wait_for_node("w1", "online")
        assert not is_let_in(cluster.url, "old")
        gate.touch()
        ended = cluster.wait_for_end(task["id"])
        assert (ended["state"], ended["attempt"], ended["losses_used"]) == ("completed", 1, 0)


def test_streams_that_were_opened_with_a_withdrawn_token_end(tmp_path: Path) -> None:
    doors = tmp_path / "doors"
    doors.write_text("new\nold\n")
    with Cluster(tmp_path, f"--token-file={doors}", token="new") as cluster, ThreadPoolExecutor(1) as pool:
        cluster.start_coordinator()
        cluster.start_worker("w1")
        task = cluster.client.submit({"shell": "echo begun; exec sleep 60"})
        with HttpClient(cluster.url, token="old") as client:
            events = client.events(None)
            assert next(events)["type"].startswith("task.")
            rest = pool.submit(lambda: list(events))
            follow = [sys.executable, "-m", "rota", "logs", "-f", task["id"], "--url", cluster.url]
            with RunningProcess(follow, log_path=tmp_path / "log", env={"ROTA_TOKEN": "new"}) as logs:
                logs.wait_for_line("begun")
                doors.write_text("new\n")
                rest.result(timeout=30.0)
                assert logs.wait_for_exit() == 125
                assert f"has ended the stream, and {task['id']} goes on: follow it again" in logs.output()
