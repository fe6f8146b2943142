"""Jobs: tasks that another process finds again by name."""

from __future__ import annotations

import operator
import subprocess
import sys
from collections.abc import Iterator

import pytest

import rota
from rota import Client
from tests.support.real_cluster import Cluster

SOON_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=8192")
        yield running


def test_job_is_found_by_name_from_another_client(cluster: Cluster) -> None:
    with Client(cluster.url, job="nightly") as first:
        futures = [first.submit(operator.neg, number) for number in range(20)]
        futures[-1].task_id(SOON_S)
    with Client(cluster.url) as second:
        job = second.job("nightly")
        assert list(job.results(SOON_S)) == [-number for number in range(20)]
        assert job.status() == {"completed": 20}
        assert [one.id for one in job.futures()] == [one.id for one in futures]


def test_job_of_many_is_listed_over_all_pages(cluster: Cluster) -> None:
    count = 2_300
    with Client(cluster.url) as client:
        job = client.job("many")
        futures = job.map(operator.neg, range(count))
        assert futures[-1].result(SOON_S) == 1 - count
        assert list(job.results(SOON_S)) == [-number for number in range(count)]


def test_job_outlives_the_process_that_submitted_it(cluster: Cluster) -> None:
    script = "import operator, rota; c = rota.Client(); [c.job('left').submit(operator.neg, n) for n in range(50)]"
    subprocess.run([sys.executable, "-c", script], env={"ROTA_URL": cluster.url}, check=True, timeout=SOON_S)
    with Client(cluster.url):
        assert list(rota.job("left").results(SOON_S)) == [-number for number in range(50)]


def test_failures_of_a_job_are_found_too(cluster: Cluster) -> None:
    with Client(cluster.url) as client:
        job = client.job("odd")
        job.submit(operator.truediv, 1, 0).exception(SOON_S)
        [found] = job.futures()
        with pytest.raises(ZeroDivisionError):
            found.result(SOON_S)
        assert job.status() == {"failed": 1}


def test_job_of_another_executor_gives_none(cluster: Cluster) -> None:
    cluster.client.submit({"command": ["true"], "labels": {"job": "shells"}})
    with Client(cluster.url) as client:
        assert list(client.job("shells").results(SOON_S)) == [None]


def test_job_that_nobody_submitted_is_empty(cluster: Cluster) -> None:
    with Client(cluster.url) as client:
        assert client.job("nothing").futures() == []
        assert client.job("nothing").status() == {}
        assert "nothing" in repr(client.job("nothing"))
        with pytest.raises(rota.RotaError, match="name"):
            client.job("")
