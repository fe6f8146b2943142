"""A worker dies, stands still, leaves or is cut off: its tasks end elsewhere or where they are, each once."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil

from rota.client.http import Json
from rota.wire.channel import Transport
from tests.support.proxy import Proxy, running_proxy
from tests.support.real_cluster import Cluster, Gate, Witness, check_record, over_both
from tests.support.waiting import wait_until

TWO_CORES: Final = "--resources=cpu=2000,memory=2G"


def submit_all(cluster: Cluster, specs: list[Json]) -> list[str]:
    return [task["id"] for task in cluster.client.submit_many(msgspec.json.encode(specs))]


def causes(cluster: Cluster, task_id: str) -> list[str | None]:
    return [attempt["cause"] for attempt in cluster.client.attempts(task_id)]


def wait_for_start(witness: Witness, task_id: str, count: int) -> None:
    wait_until(lambda: witness.starts()[task_id] == count, what=f"start {count} of {task_id}")


def wait_for_connection(proxy: Proxy, count: int) -> None:
    wait_until(lambda: proxy.accepted >= count, what=f"connection {count} through the proxy")


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@over_both
def test_tasks_of_a_killed_worker_run_elsewhere_and_only_what_had_begun_is_charged(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        doomed = cluster.start_worker("doomed", TWO_CORES)
        # The class is known to be quick: then lines are made, and what stands in one behind another has not begun.
        submit_all(cluster, [{"name": "quick", "shell": "true"}] * 20)
        cluster.wait_for_all(20, timeout_s=60.0)
        ids = submit_all(cluster, [{"name": "quick", "shell": witness.shell(gate.shell)}] * 8)
        witness.wait_for_starts(2)
        begun = set(witness.starts())
        pids = [line.pid for line in witness.lines()]
        doomed.kill()
        killed_at = time.monotonic()
        wait_until(lambda: all(map(is_gone, pids)), what="the death of its tasks with it")
        cluster.start_worker("other", TWO_CORES)
        gate.open()
        cluster.wait_for_all(28, timeout_s=60.0)
        assert time.monotonic() - killed_at >= 2.0, "nobody is given up before the threshold"
        tasks = check_record(cluster, ids)
        assert witness.ends() == dict.fromkeys(ids, 1)
        for task_id in ids:
            assert tasks[task_id]["worker"] == "other"
            assert tasks[task_id]["losses_used"] == (task_id in begun)
            assert tasks[task_id]["retries_used"] == 0
            assert witness.starts()[task_id] == 1 + (task_id in begun)
            assert causes(cluster, task_id).count("worker-lost") == (task_id in begun)
        cluster.wait_for_node("doomed", "offline")


@over_both
def test_a_task_whose_workers_keep_dying_fails_when_its_losses_are_used_up(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        worker = cluster.start_worker("w1", TWO_CORES)
        (task_id,) = submit_all(cluster, [{"shell": witness.shell(gate.shell), "losses": 1}])
        for starts in (1, 2):
            wait_for_start(witness, task_id, starts)
            cluster.wait_for_state(task_id, "running")
            worker.kill()
            worker = cluster.start_worker("w1", TWO_CORES)  # a new instance: what the old one had is lost at once
        task = cluster.wait_for_end(task_id)
        assert (task["state"], task["cause"], task["losses_used"]) == ("failed", "worker-lost", 2)
        assert causes(cluster, task_id) == ["worker-lost", "worker-lost"]


@over_both
def test_a_worker_that_stood_still_past_offline_stops_what_went_elsewhere(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        frozen = cluster.start_worker("frozen", TWO_CORES)
        (task_id,) = submit_all(cluster, [{"shell": witness.shell(gate.shell)}])
        witness.wait_for_starts(1)
        old_pid = witness.lines()[0].pid
        cluster.wait_for_state(task_id, "running")
        frozen.send_signal(signal.SIGSTOP)
        cluster.wait_for_node("frozen", "suspicious")
        cluster.wait_for_node("frozen", "offline")
        cluster.start_worker("other", TWO_CORES)
        wait_for_start(witness, task_id, 2)
        frozen.send_signal(signal.SIGCONT)
        cluster.wait_for_node("frozen", "online")
        wait_until(lambda: is_gone(old_pid), what="the end of the superseded attempt")
        gate.open()
        task = cluster.wait_for_end(task_id)
        check_record(cluster, [task_id])
        assert (task["worker"], task["attempt"]) == ("other", 2)
        assert causes(cluster, task_id) == ["worker-lost", None]
        assert witness.ends()[task_id] == 1


@over_both
def test_a_late_result_of_a_superseded_attempt_changes_nothing(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with (
        Cluster(tmp_path, transport=transport) as cluster,
        Gate(tmp_path / "gate") as gate,
        running_proxy(cluster.channel_port) as proxy,
    ):
        cluster.start_coordinator()
        cluster.start_worker("cut-off", TWO_CORES, through=proxy)
        shell = f"{witness.shell(gate.shell)}; exit $ROTA_ATTEMPT"
        (task_id,) = submit_all(cluster, [{"shell": shell, "retries": 0}])
        witness.wait_for_starts(1)
        cluster.wait_for_state(task_id, "running")
        proxy.freeze()
        cluster.wait_for_node("cut-off", "offline")
        gate.open()  # it ends on the worker that can't tell
        wait_until(lambda: witness.ends()[task_id] == 1, what="its end on the other side of the cut")
        cluster.start_worker("other", TWO_CORES)
        task = cluster.wait_for_end(task_id)
        assert (task["state"], task["exit_code"], task["worker"]) == ("failed", 2, "other")
        proxy.heal()
        cluster.wait_for_node("cut-off", "online")
        (probe,) = submit_all(cluster, [{"shell": "true", "tags": []}])
        cluster.wait_for_end(probe)
        assert cluster.client.task(task_id) == task


@over_both
def test_a_cut_that_is_mended_in_time_disturbs_nothing(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with (
        Cluster(tmp_path, "--offline-after=30s", transport=transport) as cluster,
        Gate(tmp_path / "gate") as gate,
        running_proxy(cluster.channel_port) as proxy,
    ):
        cluster.start_coordinator()
        cluster.start_worker("w1", TWO_CORES, through=proxy)
        ids = submit_all(cluster, [{"shell": witness.shell(gate.shell)}] * 4)
        witness.wait_for_starts(2)
        for _ in range(3):
            seen = proxy.accepted
            proxy.cut()
            wait_for_connection(proxy, seen + 1)
            cluster.wait_for_node("w1", "online")
        proxy.freeze()  # half-open: both sides must find out by the silence
        cluster.wait_for_node("w1", "suspicious")
        proxy.heal()
        cluster.wait_for_node("w1", "online")
        gate.open()
        cluster.wait_for_all(4, timeout_s=60.0)
        tasks = check_record(cluster, ids)
        assert witness.starts() == dict.fromkeys(ids, 1)
        assert all(task["losses_used"] == 0 for task in tasks.values())


@over_both
def test_garbage_on_the_way_to_a_worker_ends_only_the_channel(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with (
        Cluster(tmp_path, transport=transport) as cluster,
        Gate(tmp_path / "gate") as gate,
        running_proxy(cluster.channel_port) as proxy,
    ):
        cluster.start_coordinator()
        worker = cluster.start_worker("w1", TWO_CORES, through=proxy)
        (task_id,) = submit_all(cluster, [{"shell": witness.shell(gate.shell)}])
        witness.wait_for_starts(1)
        proxy.say_downstream(b"\xff\xfe no frame of anything \x00" * 40)
        wait_for_connection(proxy, 2)
        cluster.wait_for_node("w1", "online")
        gate.open()
        cluster.wait_for_end(task_id)
        check_record(cluster, [task_id])
        assert worker.is_running()
        assert witness.starts()[task_id] == 1


@over_both
def test_a_worker_that_is_told_to_leave_finishes_what_runs_and_hands_back_the_rest(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        leaver = cluster.start_worker("leaver", TWO_CORES)
        submit_all(cluster, [{"name": "quick", "shell": "true"}] * 20)
        cluster.wait_for_all(20, timeout_s=60.0)
        ids = submit_all(cluster, [{"name": "quick", "shell": witness.shell(gate.shell)}] * 6)
        witness.wait_for_starts(2)
        begun = set(witness.starts())
        leaver.send_signal(signal.SIGTERM)
        wait_until(lambda: cluster.count("assigned") == 0, what="its line to be handed back")
        assert leaver.is_running()
        gate.open()
        assert leaver.wait_for_exit(timeout_s=60.0) == 0
        wait_until(lambda: cluster.count("completed") == 22, what="the end of what ran")
        cluster.start_worker("other", TWO_CORES)
        cluster.wait_for_all(26, timeout_s=60.0)
        tasks = check_record(cluster, ids)
        assert witness.starts() == dict.fromkeys(ids, 1)
        assert all(tasks[task_id]["losses_used"] == 0 for task_id in ids)
        assert {task_id for task_id in ids if tasks[task_id]["worker"] == "leaver"} == begun


@over_both
def test_a_worker_that_is_told_twice_to_leave_stops_what_runs_at_nobodys_charge(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        leaver = cluster.start_worker("leaver", TWO_CORES)
        ids = submit_all(cluster, [{"shell": witness.shell(gate.shell)}] * 2)
        witness.wait_for_starts(2)
        cluster.wait_for_state(ids[1], "running")
        leaver.send_signal(signal.SIGTERM)
        leaver.wait_for_line("leaving")
        leaver.send_signal(signal.SIGTERM)
        assert leaver.wait_for_exit(timeout_s=60.0) == 0
        cluster.start_worker("other", TWO_CORES)
        gate.open()
        cluster.wait_for_all(2, timeout_s=60.0)
        tasks = check_record(cluster, ids)
        for task_id in ids:
            assert causes(cluster, task_id) == ["preempted", None]
            assert (tasks[task_id]["losses_used"], tasks[task_id]["retries_used"]) == (0, 0)
            assert tasks[task_id]["worker"] == "other"


@over_both
def test_a_worker_started_anew_under_its_id_is_let_in_and_its_tasks_run_again_at_once(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with (
        Cluster(tmp_path, "--suspicious-after=20s", "--offline-after=60s", transport=transport) as cluster,
        Gate(tmp_path / "g") as gate,
    ):
        cluster.start_coordinator()
        first = cluster.start_worker("w1", TWO_CORES)
        (task_id,) = submit_all(cluster, [{"shell": witness.shell(gate.shell)}])
        witness.wait_for_starts(1)
        first.kill()
        cluster.start_worker("w1", TWO_CORES)
        wait_for_start(witness, task_id, 2)
        gate.open()
        assert cluster.wait_for_end(task_id)["losses_used"] == 1
        check_record(cluster, [task_id])
