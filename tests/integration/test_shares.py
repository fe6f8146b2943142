"""Queues and limits over REST and the command line, on a real coordinator that is started again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rota.core.errors import BadRequest, Conflict, NotFound
from tests.support.real_cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, "--ordering=fair") as cluster:
        cluster.start_coordinator()
        yield cluster


def test_settings_are_kept_over_a_restart(cluster: Cluster) -> None:
    shares = cluster.client.shares
    shares.set_queue("batch", {"weight": 2.5, "max_running": 3, "max_resources": {"memory": 4096}})
    shares.set_limit("licence-x", 2)
    shares.set_limit("gone", 1)
    shares.remove_limit("gone")
    cluster.coordinator.kill()
    cluster.start_coordinator()
    batch, default = shares.queues()
    assert (batch["name"], batch["weight"], batch["max_running"]) == ("batch", 2.5, 3)
    assert default["name"] == "default"
    assert shares.limits() == [{"name": "licence-x", "size": 2, "used": 0, "pending": 0}]


def test_a_limit_bounds_what_runs_and_a_killed_worker_gives_it_back(cluster: Cluster) -> None:
    shares, client = cluster.client.shares, cluster.client
    shares.set_limit("licence-x", 1)
    worker = cluster.start_worker("w1", "--resources=cpu=4000,memory=1G")
    spec = {"command": ["sleep", "60"], "limits": {"licence-x": 1}, "losses": 5}
    first, second = client.submit(spec), client.submit(spec)
    cluster.wait_for_state(first["id"], "running")
    waiting = client.task(second["id"])
    assert (waiting["state"], waiting["reason"]) == ("pending", "limit")
    assert waiting["reason_text"] == "waits for the limit licence-x: 1 of 1 are in use"
    with pytest.raises(Conflict, match="2 unfinished tasks name it"):
        shares.remove_limit("licence-x")
    worker.kill()
    cluster.start_worker("w2", "--resources=cpu=4000,memory=1G")
    cluster.wait_for_state(first["id"], "running", timeout_s=60.0)
    assert client.task(second["id"])["state"] == "pending"
    client.cancel(first["id"])
    cluster.wait_for_state(second["id"], "running", timeout_s=60.0)
    client.cancel(second["id"])


@pytest.mark.parametrize(
    "limits,sentence",
    [
        ({"licence-y": 1}, "there is no limit 'licence-y'; there are licence-x"),
        ({"licence-x": 3}, "3 of licence-x were asked for: there are 2"),
        ({"licence-x": -1}, "it must be 0 to"),
        ({"": 1}, "can't be the name of a limit"),
    ],
)
def test_a_task_that_could_never_hold_its_limits_is_refused(
    cluster: Cluster, limits: dict[str, int], sentence: str
) -> None:
    cluster.client.shares.set_limit("licence-x", 2)
    with pytest.raises(BadRequest, match=sentence):
        cluster.client.submit({"command": ["true"], "limits": limits})


@pytest.mark.parametrize(
    "method,path,body,status,sentence",
    [
        ("PUT", "queues/batch", {"weigth": 2}, 400, "the fields are weight"),
        ("PUT", "queues/batch", {"weight": 0}, 400, "weight is 0"),
        ("PUT", "queues/batch", {"max_running": -1}, 400, "max_running is -1"),
        ("PUT", "queues/batch", {"ordering": "lifo"}, 400, "must be fcfs or priority"),
        ("PUT", "queues/batch", {"placement": "binpak"}, 400, "did you mean `binpack`"),
        ("PUT", "queues/b%20d", {}, 400, "can't be such a name"),
        ("PUT", "limits/x", {"size": -1}, 400, "size is -1"),
        ("PUT", "limits/x", {"size": "many"}, 400, "Expected `int`"),
        ("PUT", "limits/x", [], 400, "Expected `object`"),
        ("GET", "queues/unknown", None, 404, "there is no queue 'unknown'"),
        ("POST", "queues/unknown/pause", None, 404, "there is no queue 'unknown'"),
        ("DELETE", "limits/unknown", None, 404, "there is no limit 'unknown'"),
        ("POST", "limits/x", {}, 405, ""),
    ],
)
def test_bad_settings_are_named(
    cluster: Cluster, method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    answer = httpx.request(method, f"{cluster.url}/api/v1/{path}", json=body)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


def test_a_paused_queue_waits_and_goes_on(cluster: Cluster) -> None:
    client = cluster.client
    client.shares.set_queue("batch", {"paused": True})
    cluster.start_worker("w1", "--resources=cpu=1000,memory=1G")
    task = client.submit({"command": ["true"], "queue": "batch"})
    assert client.task(task["id"])["reason"] == "paused"
    assert client.shares.queues()[0]["pending"] == 1
    client.shares.set_queue("batch", {"paused": False})
    assert cluster.wait_for_end(task["id"])["state"] == "completed"
    with pytest.raises(NotFound):
        client.shares.forget_queue("unknown")
