"""Gangs of real processes: all at once or none, with their ranks, and back again as a whole."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest

import rota
from rota import Client
from rota.client.http import Json
from rota.core.errors import RotaError
from rota.wire.channel import Transport
from tests.support.real_cluster import Cluster, over_both

TWO_CORES = "--resources=cpu=2000,memory=2G"


def meet(folder: Path, then: str) -> str:
    """A shell line that tells the other members that it is there, waits for all of them, and goes on."""
    where = shlex.quote(str(folder))
    here = f"touch {where}/$ROTA_GANG_RANK.$ROTA_ATTEMPT"
    all_there = f'[ "$(ls {where} | grep -c "[.]$ROTA_ATTEMPT$")" -ge "$ROTA_GANG_SIZE" ]'
    return f"{here}; until {all_there}; do sleep 0.05; done; {then}"


def submit_gang(cluster: Cluster, size: int, **fields: object) -> list[str]:
    spec = {"gang": {"id": "g", "size": size}, **fields}
    return [task["id"] for task in cluster.client.submit_many(msgspec.json.encode([spec] * size))]


def ended(cluster: Cluster, ids: list[str]) -> list[Json]:
    return [cluster.wait_for_end(task_id) for task_id in ids]


@over_both
def test_four_processes_on_two_workers_meet_and_know_their_ranks(tmp_path: Path, transport: Transport) -> None:
    folder = tmp_path / "meeting"
    folder.mkdir()
    with Cluster(tmp_path, transport=transport) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", TWO_CORES)
        ids = submit_gang(cluster, 4, shell=meet(folder, "echo $ROTA_GANG_RANK $ROTA_GANG_SIZE $ROTA_GANG_HOSTS"))
        waiting = cluster.client.task(ids[0])
        assert waiting["state"] == "pending"
        assert "needs room for all 4 at once" in waiting["reason_text"]
        cluster.start_worker("w2", TWO_CORES)
        tasks = ended(cluster, ids)
        said = [b"".join(cluster.client.logs(task_id, {})).decode().split() for task_id in ids]
        assert [task["state"] for task in tasks] == ["completed"] * 4
        assert [(rank, size) for rank, size, _ in said] == [(str(rank), "4") for rank in range(4)]
        [hosts] = {hosts for _, _, hosts in said}
        assert len(hosts.split(",")) == 4
        assert sorted(task["worker"] for task in tasks) == ["w1", "w1", "w2", "w2"]


def test_failure_of_one_lets_all_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "meeting"
    folder.mkdir()
    fails_once = "if [ $ROTA_ATTEMPT = 1 ]; then [ $ROTA_GANG_RANK = 1 ] && exit 7; sleep 60; fi"
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", TWO_CORES)
        cluster.start_worker("w2", TWO_CORES)
        ids = submit_gang(cluster, 3, shell=meet(folder, fails_once), retries=1, backoff=0)
        tasks = ended(cluster, ids)
        assert [(task["state"], task["attempt"]) for task in tasks] == [("completed", 2)] * 3
        assert [task["retries_used"] for task in tasks] == [0, 1, 0]
        assert [cluster.client.attempts(task_id)[0]["cause"] for task_id in ids] == ["gang", "exit", "gang"]


def test_retry_of_one_brings_all_back_and_one_too_many_is_refused(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", TWO_CORES)
        ids = submit_gang(
            cluster, 2, shell="if [ $ROTA_ATTEMPT = 1 ]; then [ $ROTA_GANG_RANK = 0 ] && exit 3; sleep 60; fi"
        )
        tasks = ended(cluster, ids)
        assert [task["cause"] for task in tasks] == ["exit", "gang"]
        assert tasks[1]["message"] == f"{ids[0]} (rank 0) of its gang failed (exit)"
        cluster.coordinator.kill()
        cluster.start_coordinator()
        cluster.client.retry(ids[1])
        assert [task["state"] for task in ended(cluster, ids)] == ["completed"] * 2

        with pytest.raises(RotaError, match="would have more than its 2 members"):
            cluster.client.submit_many(
                msgspec.json.encode([{"gang": {"id": "h", "size": 2}, "command": ["true"]} for _ in range(3)])
            )
        with pytest.raises(RotaError, match="it must be 1 to 1,000"):
            submit_gang(cluster, 1, command=["true"], gang={"id": "h", "size": 0})


def test_functions_know_their_gang() -> None:
    def told(_: int) -> tuple[str, int, int, int]:
        gang = rota.current().gang
        assert gang is not None
        return gang.id, gang.rank, gang.size, len(gang.hosts)

    with Client.local(workers=2) as client:
        assert list(client.map(rota.task(gang=("pair", 2))(told), range(2))) == [("pair", 0, 2, 2), ("pair", 1, 2, 2)]
