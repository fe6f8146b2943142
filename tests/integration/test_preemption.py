"""Preemption on real workers: the victim's process gets SIGTERM, ends, and runs again when the room is free."""

from __future__ import annotations

from pathlib import Path

from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until


def test_a_victim_is_told_to_end_and_runs_again(tmp_path: Path) -> None:
    told, starts = tmp_path / "told", tmp_path / "starts"
    script = f"echo start >> {starts}; trap 'touch {told}; exit 0' TERM; while [ ! -e {told} ]; do sleep 0.05; done"
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=1000,memory=1G")
        client = cluster.client
        client.shares.set_queue("urgent", {"preempts_by": 10})
        victim = client.submit({"shell": script, "priority": 10})
        cluster.wait_for_state(victim["id"], "running")
        wait_until(starts.exists, what="the victim to start")
        urgent = client.submit({"command": ["true"], "queue": "urgent", "priority": 90})
        assert cluster.wait_for_end(urgent["id"])["state"] == "completed"
        ended = cluster.wait_for_end(victim["id"])
        assert told.exists()
        assert starts.read_text().count("start") == 2
        assert (ended["state"], ended["attempt"], ended["retries_used"]) == ("completed", 2, 0)
        first, second = client.attempts(victim["id"])
        assert (first["cause"], second["cause"]) == ("preempted", None)
