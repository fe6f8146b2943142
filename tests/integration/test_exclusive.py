"""An exclusive task and a network that breaks: its worker stops it before another starts it."""

from __future__ import annotations

import shlex
from pathlib import Path

from rota.wire.channel import Transport
from tests.support.proxy import running_proxy
from tests.support.real_cluster import Cluster, over_both
from tests.support.waiting import wait_until

TIMES = ("--lease=3s", "--lease-grace=500ms", "--exclusive-wait=5s")


@over_both
def test_exclusive_task_behind_a_partition_is_stopped_there_before_it_runs_elsewhere(
    tmp_path: Path, transport: Transport
) -> None:
    pids, overlaps = tmp_path / "pids", tmp_path / "overlaps"
    alive = f"kill -0 $pid && echo $pid >> {shlex.quote(str(overlaps))}"
    look = f"for pid in $(cat {shlex.quote(str(pids))}); do {alive}; done"
    pids.touch()
    with Cluster(tmp_path, *TIMES, transport=transport) as cluster, running_proxy(cluster.channel_port) as proxy:
        cluster.start_coordinator()
        cluster.start_worker("far", through=proxy)
        shell = f"{look}; echo $$ >> {shlex.quote(str(pids))}; exec sleep 60"
        task_id = cluster.client.submit({"shell": shell, "exclusive": True})["id"]
        wait_until(lambda: len(pids.read_text().split()) == 1, what="the first attempt")
        cluster.start_worker("near")
        proxy.freeze()
        cluster.wait_for_node("far", "offline")
        assert cluster.wait_for_state(task_id, "pending")["reason"] == "exclusive"  # from the commit on, a moment later
        wait_until(lambda: len(pids.read_text().split()) == 2, what="the second attempt", timeout_s=60.0)
        assert not overlaps.exists(), "the first attempt was still there"
        task = cluster.wait_for_state(task_id, "running")
        assert (task["worker"], task["losses_used"]) == ("near", 1)
        cluster.client.cancel(task_id)
