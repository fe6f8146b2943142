"""One fault after another while tasks flow: whatever living workers had is neither lost nor run twice."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from rota.wire.channel import Transport
from tests.support.processes import RunningProcess
from tests.support.proxy import Proxy, running_proxy
from tests.support.real_cluster import ENDED, Cluster, Witness, check_record
from tests.support.waiting import wait_until

TASKS: Final = 1_000
FAULTS: Final = 6

PATIENT: Final = ("--grace=60s", "--offline-after=60s")
"""No worker dies in this storm, so none may be given up."""

FOUR_CORES: Final = "--resources=cpu=4000,memory=4G"


class Storm:
    """A cluster of two workers behind bad networks, and what can happen to it."""

    def __init__(self, cluster: Cluster, networks: dict[str, Proxy], rng: random.Random) -> None:
        self._cluster = cluster
        self._networks = networks
        self._rng = rng
        cluster.start_coordinator()
        self._workers = {name: self._start_worker(name) for name in networks}

    def strike(self) -> None:
        """Let one of the faults happen, chosen by chance."""
        faults: list[Callable[[], None]] = [self._kill, self._restart, self._cut, self._freeze, self._replace_worker]
        self._rng.choice(faults)()

    def _kill(self) -> None:
        self._cluster.coordinator.kill()
        self._cluster.start_coordinator()

    def _restart(self) -> None:
        assert self._cluster.coordinator.stop() == 0
        self._cluster.start_coordinator()

    def _cut(self) -> None:
        self._any_network().cut()

    def _freeze(self) -> None:
        name = self._rng.choice(list(self._networks))
        self._networks[name].freeze()
        wanted = self._cluster.count(*ENDED) + 30
        wait_until(lambda: self._has_gone_on(without=name, wanted=wanted), what="the other to go on")
        self._networks[name].heal()

    def _has_gone_on(self, *, without: str, wanted: int) -> bool:
        """Whether so many have ended, or all but those of a worker that can't tell."""
        ended, silent = self._cluster.count(*ENDED), self._cluster.node(without)
        assert silent is not None
        return bool(ended >= min(wanted, TASKS - silent["tasks"]))

    def _replace_worker(self) -> None:
        name = self._rng.choice(list(self._workers))
        self._workers[name].send_signal(signal.SIGTERM)
        assert self._workers[name].wait_for_exit(timeout_s=60.0) == 0
        self._workers[name] = self._start_worker(name)

    def _any_network(self) -> Proxy:
        return self._rng.choice(list(self._networks.values()))

    def _start_worker(self, name: str) -> RunningProcess:
        return self._cluster.start_worker(name, FOUR_CORES, through=self._networks[name])


def wait_for_ends(witness: Witness, more: int) -> None:
    wanted = min(TASKS, len(witness.ends()) + more)
    wait_until(lambda: len(witness.ends()) >= wanted, what=f"{wanted} ends", timeout_s=60.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed,transport", [(1, "websocket"), (2, "websocket"), (3, "grpc")])
def test_every_task_is_run_once_through_a_storm_of_faults(tmp_path: Path, seed: int, transport: Transport) -> None:
    rng = random.Random(seed)
    witness = Witness(tmp_path / "witness")
    work = (":", ":", "sleep 0.05", "yes | head -c 20000")
    with (
        Cluster(tmp_path, *PATIENT, transport=transport) as cluster,
        running_proxy(cluster.channel_port) as first,
        running_proxy(cluster.channel_port) as second,
    ):
        storm = Storm(cluster, {"w1": first, "w2": second}, rng)
        specs = [{"name": "flowing", "shell": witness.shell(rng.choice(work))} for _ in range(TASKS)]
        ids = [task["id"] for task in cluster.client.submit_many(msgspec.json.encode(specs))]
        for _ in range(FAULTS):
            wait_for_ends(witness, rng.randrange(20, TASKS // FAULTS // 2))
            storm.strike()
        cluster.wait_for_all(TASKS, timeout_s=60.0)
        tasks = check_record(cluster, ids)
        assert witness.starts() == dict.fromkeys(ids, 1)
        assert witness.ends() == dict.fromkeys(ids, 1)
        assert all(task["losses_used"] == task["retries_used"] == 0 for task in tasks.values())
        assert all(not node["used"].get("cpu") for node in cluster.client.nodes()), "a reservation is left behind"
