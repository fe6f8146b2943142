"""Clients on channels of a real coordinator with a real worker: cut off, killed and out of room, and no task twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rota.core.errors import RotaError
from rota.core.model import Cause, TaskState
from rota.wire.channel import ChannelError
from tests.support.disks import fill, small_disk
from tests.support.proxy import running_proxy
from tests.support.raw_client import TRUE, RawClient, template_of
from tests.support.real_cluster import Cluster, Gate, Witness, check_record
from tests.support.waiting import wait_until_async

FOUR_CORES: Final = "--resources=cpu=4000,memory=4G"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("clients")) as running:
        running.start_coordinator()
        running.start_worker("w1", FOUR_CORES)
        yield running


async def return_of(client: RawClient) -> None:
    """Come back as soon as the coordinator lets clients in."""
    await client.wait_until_closed()

    async def try_it() -> bool:
        await client.come_back()
        return True

    await wait_until_async(try_it, what="the client to be let in", timeout_s=60.0, ignoring=(ChannelError,))


async def test_tasks_are_accepted_run_and_told_of(cluster: Cluster) -> None:
    client = RawClient(cluster.url)
    welcome = await client.enter()
    assert (welcome.accepted_through, welcome.ranges) == (0, [])
    assert welcome.cluster == cluster.client.stats()["cluster"]
    good, bad, killed = await client.run(TRUE, template_of(shell="exit 3"), template_of(shell="kill -9 $$"))
    assert (good.state, good.cause, good.exit_code, good.worker) == (TaskState.COMPLETED, None, 0, "w1")
    assert (bad.state, bad.cause, bad.exit_code) == (TaskState.FAILED, Cause.EXIT, 3)
    assert (killed.state, killed.cause, killed.signal) == (TaskState.FAILED, Cause.SIGNAL, 9)
    await client.leave_for_good()
    await client.wait_until_closed()


async def test_a_running_task_is_told_of_and_can_be_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate:
        client = RawClient(cluster.url)
        await client.enter()
        numbers = client.submit(template_of(shell=gate.shell))
        (seq,) = await client.wait_for_tasks(numbers)
        await client.wait_until(lambda: seq in client.running, what="its start")
        client.cancel(seq)
        (outcome,) = await client.wait_for_outcomes(numbers)
        assert (outcome.state, outcome.cause) == (TaskState.CANCELLED, Cause.CANCELLED)
        await client.leave_for_good()


async def test_cuts_at_any_moment_make_no_task_twice_and_lose_none(cluster: Cluster, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    template = template_of(shell=witness.shell())
    with running_proxy(cluster.port) as proxy:
        client = RawClient(proxy.url)
        await client.enter()
        numbers: list[int] = []
        for pause_s in (0.0, 0.001, 0.003, 0.006, 0.01, 0.05):
            numbers += client.submit(*[template] * 20)
            await asyncio.sleep(pause_s)  # not a wait: the moment of the cut is chance, anyway
            await asyncio.to_thread(proxy.cut)
            await return_of(client)
        outcomes = await client.wait_for_outcomes(numbers)
        assert {outcome.state for outcome in outcomes} == {TaskState.COMPLETED}
        ids = {f"t{client.seqs[number]}" for number in numbers}
        assert witness.starts() == dict.fromkeys(ids, 1)
        await client.leave_for_good()
        await client.wait_until_closed()


async def test_a_killed_coordinator_is_asked_again_for_what_ended_meanwhile(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, "--grace=60s") as cluster, Gate(tmp_path / "gate") as gate:
        cluster.start_coordinator()
        cluster.start_worker("w1", FOUR_CORES)
        client, watcher = RawClient(cluster.url), RawClient(cluster.url)
        for each in (client, watcher):
            await each.enter()
        numbers = client.submit(*[template_of(shell=witness.shell(gate.shell))] * 8)
        seqs = await client.wait_for_tasks(numbers)
        await asyncio.to_thread(witness.wait_for_starts, 4)
        watcher.follow(*seqs[:2])
        cluster.coordinator.kill()
        await client.wait_until_closed()
        gate.open()
        await wait_until_async(lambda: len(witness.ends()) >= 4, what="what runs to end without a coordinator")
        late = client.submit(template_of(shell=witness.shell()))  # nobody hears it
        await asyncio.to_thread(cluster.start_coordinator)
        await asyncio.to_thread(cluster.wait_for_all, 8, timeout_s=60.0)
        await return_of(client)  # to be told of what ended before it came, and of the rest
        await return_of(watcher)
        outcomes = await client.wait_for_outcomes([*numbers, *late])
        assert {outcome.state for outcome in outcomes} == {TaskState.COMPLETED}
        await watcher.wait_until(lambda: watcher.outcomes.keys() == set(seqs[:2]), what="what it follows")
        assert set(client.told.values()) == {1}
        check_record(cluster, [f"t{seq}" for seq in client.outcomes])
        assert set(witness.starts().values()) == {1}
        assert len(cluster.tasks()) == 9


@pytest.mark.slow
async def test_a_full_disk_holds_a_client_up_and_loses_none_of_its_tasks(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=8) as disk, Cluster(tmp_path, state_dir=disk / "state") as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", FOUR_CORES)
        client = RawClient(cluster.url)
        await client.enter()
        await client.run(TRUE, TRUE)
        ballast = fill(disk)
        template = template_of(command=["true"], env={"FILLING": "x" * 4_000})
        numbers: list[int] = []

        def is_answered() -> bool:
            return client.is_closed or client.known_through == len(numbers) + 2

        while not client.is_closed and len(numbers) < 2_000:
            numbers += client.submit(*[template] * 20)
            await client.wait_until(is_answered, what="an answer")
        assert "no room left" in await client.wait_until_closed()
        ballast.unlink()
        await return_of(client)
        outcomes = await client.wait_for_outcomes(numbers)
        assert {outcome.state for outcome in outcomes} == {TaskState.COMPLETED}
        assert len(cluster.tasks()) == len(numbers) + 2


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    with Cluster(tmp_path, token="a-token-of-letters") as cluster:
        cluster.start_coordinator()
        with pytest.raises(RotaError, match="token"):
            await RawClient(cluster.url).connect()
