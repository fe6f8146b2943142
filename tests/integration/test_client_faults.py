"""A client whose connection, coordinator and workers break in the middle: each result once, in order."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rota import Client, NoCoordinator, RotaError, task
from rota.core.errors import BadRequest, ClientClosed, Unauthorized
from tests.support.network import free_port
from tests.support.proxy import Proxy, running_proxy
from tests.support.real_cluster import Cluster, Gate
from tests.support.waiting import wait_until

SOON_S = 30.0

WORKER = ("--resources=cpu=4000,memory=8192",)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        made.start_coordinator()
        yield made


def double_slowly(number: int) -> int:
    time.sleep(0.0005)
    return 2 * number


def completed_at_least(cluster: Cluster, count: int) -> None:
    wait_until(
        lambda: cluster.count("completed") >= count,
        what=f"{count} tasks to be completed",
        timeout_s=SOON_S,
        ignoring=(RotaError,),
    )


def back_again(proxy: Proxy, times: int) -> None:
    wait_until(lambda: proxy.accepted >= times, what="the client to come through the proxy again")


def test_connection_that_is_cut_again_and_again_costs_nothing(cluster: Cluster) -> None:
    cluster.start_worker("w1", *WORKER)
    count = 6_000
    with running_proxy(cluster.port) as proxy, Client(proxy.url) as client:
        results = client.map(double_slowly, range(count))
        for share in (1, 2, 3):
            back_again(proxy, share)
            completed_at_least(cluster, share * count // 5)
            proxy.cut()
        assert list(results) == [2 * number for number in range(count)]
    assert cluster.count("completed") == count  # none was submitted twice


def test_what_is_submitted_into_a_frozen_connection_is_sent_again_on_the_next(cluster: Cluster) -> None:
    cluster.start_worker("w1", *WORKER)
    with running_proxy(cluster.port) as proxy, Client(proxy.url) as client:
        assert client.submit(operator.neg, 1).result(SOON_S) == -1
        proxy.freeze()
        futures = [client.submit(operator.neg, number) for number in range(100)]
        proxy.heal()
        assert [future.result(SOON_S) for future in futures] == [-number for number in range(100)]


def test_coordinator_that_is_killed_in_the_middle_comes_back_and_all_goes_on(
    cluster: Cluster,
) -> None:
    cluster.start_worker("w1", *WORKER)
    count = 6_000
    with Client(cluster.url) as client:
        results = client.map(double_slowly, range(count))
        for share in (1, 2):
            completed_at_least(cluster, share * count // 4)
            cluster.coordinator.kill()
            cluster.start_coordinator()
        assert list(results) == [2 * number for number in range(count)]
        assert client.submit(operator.neg, 5).result(SOON_S) == -5
    assert cluster.count("completed") == count + 1


def test_what_is_submitted_while_the_coordinator_is_away_runs_when_it_is_back(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.start_worker("w1", *WORKER)
    with Client(cluster.url) as client, caplog.at_level(logging.WARNING, logger="rota"):
        client.submit(operator.neg, 1).result(SOON_S)
        cluster.coordinator.kill()
        futures = [client.submit(operator.neg, number) for number in range(5_000)]
        cancelled = futures.pop()
        assert cancelled.cancel()
        assert not futures[0].done()
        wait_until(lambda: "trying again" in caplog.text, what="a word of the outage")
        cluster.start_coordinator()
        assert [future.result(SOON_S) for future in futures] == [-number for number in range(4_999)]
    assert cluster.count("completed") == 5_000
    told = [record.getMessage() for record in caplog.records if record.name == "rota"]
    assert len(told) == 2
    assert told[1] == f"the coordinator at {cluster.url} is back"


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_worker_that_is_killed_during_a_map_loses_nothing_and_doubles_nothing(cluster: Cluster, count: int) -> None:
    first = cluster.start_worker("w1", *WORKER)
    cluster.start_worker("w2", *WORKER)
    with Client(cluster.url) as client:
        results = client.map(operator.mul, range(count), [2] * count)
        completed_at_least(cluster, count // 4)
        first.kill()
        assert list(results) == [2 * number for number in range(count)]
    assert cluster.count("completed") == count


def test_client_without_a_coordinator_says_so_in_time() -> None:
    with pytest.raises(NoCoordinator, match=r"nobody listens.*start a coordinator with 'rota up'"):
        Client(f"http://127.0.0.1:{free_port()}", connect_timeout=0.3)


def test_client_waits_for_a_coordinator_that_is_just_starting(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster, ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(Client, cluster.url, connect_timeout=SOON_S)
        cluster.start_coordinator()
        connecting.result(SOON_S).shutdown()


def test_wrong_token_is_told_at_once(tmp_path: Path) -> None:
    with Cluster(tmp_path, token="right") as cluster:
        cluster.start_coordinator()
        with pytest.raises(Unauthorized, match="token"):
            Client(cluster.url, "wrong")
        with Client(cluster.url, "right") as client:
            assert client.url == cluster.url


def test_token_that_is_no_longer_right_ends_what_waits(tmp_path: Path) -> None:
    with Cluster(tmp_path, token="first") as cluster:
        cluster.start_coordinator()
        client = Client(cluster.url, "first")
        waiting = client.submit(operator.neg, 1)
        waiting.task_id(SOON_S)
        cluster.coordinator.kill()
        cluster.start_coordinator("--token=second")
        with pytest.raises(Unauthorized):
            waiting.result(SOON_S)
        with pytest.raises(Unauthorized):
            client.submit(operator.neg, 2)
        client.shutdown()


def test_address_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(RotaError, match="ftp://somewhere"):
        Client("ftp://somewhere")


def test_task_that_makes_no_sense_is_refused_with_the_reason_and_the_others_run(cluster: Cluster) -> None:
    cluster.start_worker("w1", *WORKER)
    odd = task(tags=["not a tag!"])(operator.neg)
    with Client(cluster.url) as client:
        bad, good = client.submit(odd, 1), client.submit(operator.neg, 2)
        with pytest.raises(BadRequest, match="tags"):
            bad.result(SOON_S)
        assert good.result(SOON_S) == -2


def test_shutdown_does_not_wait_for_a_coordinator_that_is_away_only_to_cancel(cluster: Cluster) -> None:
    client = Client(cluster.url)
    future = client.submit(operator.neg, 1)
    future.task_id(SOON_S)
    cluster.coordinator.kill()
    client.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_followed_tasks_are_left_alone_by_a_shutdown(cluster: Cluster, tmp_path: Path) -> None:
    with Gate(tmp_path / "gate"), Client(cluster.url, job="long") as submits:
        pending = submits.submit(operator.neg, 1)
        pending.task_id(SOON_S)
        with Client(cluster.url) as follows:
            [followed] = follows.job("long").futures()
        assert isinstance(followed.exception(0), ClientClosed)
        pending.cancel()
