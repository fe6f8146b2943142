"""The coordinator dies or stands still: nothing is lost, nothing is run twice, nobody is disturbed."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import pytest

from rota.client.http import HttpClient, Json
from rota.core.errors import Conflict, NoCoordinator, RotaError, Unavailable
from rota.wire.channel import Transport
from tests.support.real_cluster import Cluster, Gate, Witness, check_record, over_both
from tests.support.waiting import wait_until

LONG_GRACE: Final = "--grace=60s"
"""As it is by default: workers come back well within it."""

SLEEPERS: Final = 120
BRIEF: Final = 400
"""They come and go on the lanes that the sleepers leave while the rest is submitted."""

SHORTS: Final = {"websocket": 10_000, "grpc": 2_000}
"""How many doesn't depend on the channel, so one of them shows it."""

WORDS: Final = ("start", "end")


def submit_all(client: HttpClient, specs: list[Json]) -> list[str]:
    return [task["id"] for task in client.submit_many(msgspec.json.encode(specs))]


@pytest.mark.slow
@over_both
def test_thousands_of_tasks_in_flight_outlive_a_kill_of_the_coordinator(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, LONG_GRACE, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        for name in ("w1", "w2"):
            cluster.start_worker(name, "--resources=cpu=62000,memory=8G")
        sleeper = {"name": "sleeper", "shell": witness.shell(gate.shell), "priority": 90}
        brief = {"name": "brief", "shell": witness.shell("sleep 0.05"), "priority": 50}
        short = {"name": "short", "shell": witness.shell(), "priority": 10}
        sleepers = submit_all(cluster.client, [sleeper] * SLEEPERS)
        witness.wait_for_starts(SLEEPERS)
        wait_until(lambda: cluster.count("running") >= SLEEPERS, what="all sleepers to run")
        ids = [
            *sleepers,
            *submit_all(cluster.client, [brief] * BRIEF),
            *submit_all(cluster.client, [short] * SHORTS[transport]),
        ]
        cluster.coordinator.kill()
        assert len(set(ids)) - len(witness.ends()) >= SHORTS[transport], "too few were in flight"

        cluster.start_coordinator()
        wait_until(lambda: cluster.client.stats()["nodes"] == {"online": 2}, what="both workers to be back")
        assert witness.ends().keys().isdisjoint(sleepers), "a running task was disturbed"
        gate.open()
        cluster.wait_for_all(len(ids), timeout_s=60.0)
        check_record(cluster, ids)
        assert witness.starts() == dict.fromkeys(ids, 1), "a task was run twice"
        assert witness.ends() == dict.fromkeys(ids, 1)
        began, finished = ({line.task: line.pid for line in witness.lines() if line.word == word} for word in WORDS)
        assert began == finished, "another process finished than the one that began"


@over_both
def test_coordinator_and_worker_die_together(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, LONG_GRACE, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        worker = cluster.start_worker("w1", "--resources=cpu=4000,memory=4G")
        ids = submit_all(cluster.client, [{"shell": witness.shell(gate.shell)}] * 12)
        witness.wait_for_starts(4)
        begun = set(witness.starts())
        cluster.coordinator.kill()
        worker.kill()
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=4000,memory=4G")
        gate.open()
        cluster.wait_for_all(12, timeout_s=60.0)
        tasks = check_record(cluster, ids)
        assert set(witness.ends().values()) == {1}
        assert {task_id for task_id in ids if tasks[task_id]["losses_used"]} == begun
        for task_id in begun:
            assert [attempt["cause"] for attempt in cluster.client.attempts(task_id)] == ["worker-lost", None]
        for task_id in set(ids) - begun:
            assert witness.starts()[task_id] == 1, "what had not started was charged with a second start"


class Storm(threading.Thread):
    """Submits tasks with chosen ids, one request after the other, until the coordinator is gone."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name)
        self._url = url
        self.sent: list[Json] = []
        self.acknowledged: list[str] = []

    def run(self) -> None:
        with HttpClient(self._url) as client:
            try:
                while True:
                    number = len(self.sent)
                    batch = [{"id": f"{self.name}-{number}-{n}", "shell": f"echo {number} {n}"} for n in range(3)]
                    self.sent += batch
                    self.acknowledged += [task["id"] for task in client.submit_many(msgspec.json.encode(batch))]
            except (NoCoordinator, Unavailable):
                return


def test_every_acknowledged_submit_outlives_a_kill_and_a_resend_makes_no_second_task(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        storms = [Storm(cluster.url, f"storm{n}") for n in range(4)]
        for storm in storms:
            storm.start()
        wait_until(lambda: sum(len(storm.acknowledged) for storm in storms) > 300, what="a storm")
        cluster.coordinator.kill()
        for storm in storms:
            storm.join(10.0)
        cluster.start_coordinator()
        recovered = cluster.tasks()
        for storm in storms:
            assert recovered.keys() >= set(storm.acknowledged), "an acknowledged task is missing"
            for start in range(0, len(storm.sent), 3):
                batch = [task["id"] for task in storm.sent[start : start + 3]]
                assert len(recovered.keys() & set(batch)) in (0, 3), "half of an array was recorded"
                cluster.client.submit_many(msgspec.json.encode(storm.sent[start : start + 3]))
        everything = cluster.tasks()
        assert everything.keys() == {task["id"] for storm in storms for task in storm.sent}
        assert all(everything[task_id]["created_at"] == task["created_at"] for task_id, task in recovered.items())


@over_both
def test_nobody_is_lost_because_the_coordinator_stood_still(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, "--grace=0s", transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        coordinator = cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=2000,memory=2G")
        ids = submit_all(cluster.client, [{"shell": witness.shell(gate.shell)}] * 2)
        witness.wait_for_starts(2)
        coordinator.send_signal(signal.SIGSTOP)
        time.sleep(3.5)  # the fault itself: longer than --offline-after
        coordinator.send_signal(signal.SIGCONT)
        cluster.wait_for_node("w1", "online")
        gate.open()
        cluster.wait_for_all(2, timeout_s=60.0)
        tasks = check_record(cluster, ids)
        assert [task["losses_used"] for task in tasks.values()] == [0, 0]
        assert "worker_offline" not in coordinator.output()
        assert witness.starts() == dict.fromkeys(ids, 1)


@over_both
def test_a_graceful_stop_leaves_running_tasks_alone_and_a_restart_finds_them(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, LONG_GRACE, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        coordinator = cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=2000,memory=2G")
        ids = submit_all(cluster.client, [{"shell": witness.shell(gate.shell)}] * 5)
        witness.wait_for_starts(2)
        refusals: list[RotaError] = []
        waiter = threading.Thread(target=lambda: cluster.client.wait(ids[0], timeout_s=60.0))
        waiter.start()  # an open request must not hold up the stop
        coordinator.send_signal(signal.SIGTERM)
        while coordinator.is_running():
            try:
                ids.append(cluster.client.submit({"shell": witness.shell()})["id"])
            except (Unavailable, NoCoordinator) as error:
                refusals.append(error)
        assert coordinator.wait_for_exit() == 0
        waiter.join(10.0)
        assert refusals
        assert len(witness.ends()) == 0
        cluster.start_coordinator()
        cluster.wait_for_node("w1", "online")
        gate.open()
        cluster.wait_for_all(len(ids), timeout_s=60.0)
        check_record(cluster, ids)
        assert witness.starts() == dict.fromkeys(ids, 1)


@over_both
def test_a_task_that_ended_while_the_coordinator_was_away_is_recorded_with_its_output(
    tmp_path: Path, transport: Transport
) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, LONG_GRACE, transport=transport) as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=1000,memory=1G")
        long_output = "yes 0123456 | head -c 200000"
        accepted = cluster.client.submit({"id": "away", "shell": f"{witness.shell(gate.shell)}; {long_output}; exit 3"})
        witness.wait_for_starts(1)
        cluster.coordinator.kill()
        gate.open()
        wait_until(lambda: witness.ends()["away"], what="its end")
        cluster.start_coordinator()
        task = cluster.wait_for_end(accepted["id"])
        assert (task["state"], task["cause"], task["exit_code"], task["attempt"]) == ("failed", "exit", 3, 1)
        assert b"".join(cluster.client.logs("away", {})) == b"0123456\n" * 25_000


def test_a_chosen_id_is_remembered_over_restarts(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        first = cluster.client.submit({"id": "only-once", "command": ["true"]})
        cluster.coordinator.kill()
        cluster.start_coordinator()
        assert cluster.client.submit({"id": "only-once", "command": ["true"]})["created_at"] == first["created_at"]
        with pytest.raises(Conflict):
            cluster.client.submit({"id": "only-once", "command": ["false"]})
