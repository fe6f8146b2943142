"""Clients on channels, over a real coordinator and a real worker: what they submit runs once, and they are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from rota.core.model import Cause, TaskState
from tests.support.raw_client import TRUE, RawClient, template_of
from tests.support.real_cluster import Cluster

FOUR_CORES: Final = "--resources=cpu=4000,memory=4G"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("clients")) as running:
        running.start_coordinator()
        running.start_worker("w1", FOUR_CORES)
        yield running


async def test_tasks_are_accepted_run_and_told_of(cluster: Cluster) -> None:
    client = RawClient(cluster.url)
    welcome = await client.enter()
    assert (welcome.accepted_through, welcome.ranges) == (0, [])
    assert welcome.cluster == cluster.client.stats()["cluster"]
    good, bad, killed = await client.run(TRUE, template_of(shell="exit 3"), template_of(shell="kill -9 $$"))
    assert (good.state, good.cause, good.exit_code, good.worker) == (TaskState.COMPLETED, None, 0, "w1")
    assert (bad.state, bad.cause, bad.exit_code) == (TaskState.FAILED, Cause.EXIT, 3)
    assert (killed.state, killed.cause, killed.signal) == (TaskState.FAILED, Cause.SIGNAL, 9)
    client.leave()
    await client.wait_until_closed()
