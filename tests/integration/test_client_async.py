"""The asyncio client against a real cluster: futures that are awaited, maps that are gone through, and faults."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from rota import AsyncClient, NoCoordinator, NotPicklable, TaskFailed, task
from rota.client import session as session_module
from rota.core.errors import BadRequest
from tests.support.network import free_port
from tests.support.proxy import running_proxy
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until, wait_until_async

SOON_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=8192")
        yield running


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(cluster.url) as connected:
        yield connected


def crash() -> None:
    import os  # noqa: PLC0415 - on the worker

    os._exit(7)


def opened(door: str) -> str:
    """Return when there is such a file, if one is named."""
    wait_until(lambda: not door or Path(door).exists(), what="the door to be opened")
    return door


async def test_result_is_awaited(client: AsyncClient) -> None:
    future = await client.submit(operator.add, 1, 2)
    assert await future == 3
    assert future.result() == 3
    assert future.id == await future.task_id()
    assert (await future.info())["state"] == "completed"


async def test_errors_are_raised_where_it_is_awaited(client: AsyncClient) -> None:
    with pytest.raises(ZeroDivisionError):
        await (await client.submit(operator.truediv, 1, 0))
    with pytest.raises(TaskFailed, match="exited with code 7"):
        await (await client.submit(crash))
    with pytest.raises(NotPicklable):
        await client.submit(id, (n for n in range(3)))
    with pytest.raises(BadRequest, match="tags"):
        await (await client.submit(task(tags=["not a tag!"])(abs), 1))


def stop_iteration() -> None:
    raise StopIteration(5)


async def test_exception_that_asyncio_cannot_carry_is_told_in_words(client: AsyncClient) -> None:
    with pytest.raises(RuntimeError, match=r"StopIteration\(5\)"):
        await (await client.submit(stop_iteration))


async def test_many_are_gathered(client: AsyncClient) -> None:
    futures = [await client.submit(operator.neg, number) for number in range(1_000)]
    assert await asyncio.gather(*futures) == [-number for number in range(1_000)]


async def test_map_goes_in_order(client: AsyncClient) -> None:
    assert [value async for value in client.map(operator.mul, range(3_000), [2] * 3_000)] == list(range(0, 6_000, 2))


async def test_map_of_endless_items_ends_when_its_consumer_does(client: AsyncClient) -> None:
    got = []
    async with aclosing(client.map(operator.neg, count(), buffersize=32)) as results:
        async for value in results:
            got.append(value)
            if len(got) == 100:
                break
    assert got == [-number for number in range(100)]


async def test_unordered_map_gives_what_is_done_first(client: AsyncClient, tmp_path: Path) -> None:
    door = tmp_path / "door"
    results = client.map_unordered(opened, [str(door), "", ""])
    assert [await anext(aiter(results)), await anext(aiter(results))] == ["", ""]
    door.touch()
    assert [value async for value in results] == [str(door)]


async def test_map_whose_time_is_over_raises(client: AsyncClient) -> None:
    with pytest.raises(TimeoutError):
        async for _ in client.map(time.sleep, [30.0], timeout=0.1):
            pass


async def test_wait_for_cancels_the_task_when_the_time_is_over(client: AsyncClient) -> None:
    future = await client.submit(time.sleep, 60)
    await future.task_id()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.1)

    async def is_cancelled() -> bool:
        return bool((await future.info())["state"] == "cancelled")

    await wait_until_async(is_cancelled, what="the task to be cancelled")


async def test_large_values_go_and_come(client: AsyncClient) -> None:
    text = "abc" * 100_000
    assert await (await client.submit(str.upper, text)) == text.upper()
    assert [len(value) async for value in client.map(bytes, [70_000, 5, 200_000])] == [70_000, 5, 200_000]


async def test_output_can_be_asked_for(client: AsyncClient) -> None:
    future = await client.submit(print, "hello")
    await future
    assert await future.logs() == "hello\n"


async def test_submitting_waits_while_too_many_wait(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WAITING_TASKS_MAX", 50)
    async with AsyncClient(cluster.url) as client:
        futures = [await client.submit(operator.neg, number) for number in range(500)]
        assert await asyncio.gather(*futures) == [-number for number in range(500)]


async def test_connection_that_is_cut_costs_nothing(cluster: Cluster) -> None:
    with running_proxy(cluster.port) as proxy:
        async with AsyncClient(proxy.url) as client:
            got: list[Any] = []
            async for value in client.map(operator.neg, range(3_000), buffersize=500):
                got.append(value)
                if len(got) in (500, 2_000):
                    await asyncio.to_thread(proxy.cut)
            assert got == [-number for number in range(3_000)]


async def test_client_waits_for_its_tasks_at_the_end(cluster: Cluster) -> None:
    async with AsyncClient(cluster.url, job="last") as client:
        futures = [await client.submit(time.sleep, 0.05) for _ in range(8)]
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        await client.submit(abs, 1)


async def test_failing_program_does_not_wait_for_the_rest(cluster: Cluster) -> None:
    client = AsyncClient(cluster.url)
    future = None
    try:
        async with client:
            future = await client.submit(time.sleep, 60)
            raise LookupError("mine")
    except LookupError:
        pass
    assert future is not None
    assert future.cancelled()


async def test_client_that_is_not_connected_says_so(cluster: Cluster) -> None:
    client = AsyncClient(cluster.url)
    with pytest.raises(RuntimeError, match="async with"):
        await client.submit(abs, 1)
    with pytest.raises(NoCoordinator, match="nobody listens"):
        await AsyncClient(f"http://127.0.0.1:{free_port()}", connect_timeout=0.3).connect()


async def test_cluster_of_its_own_comes_and_goes_with_it() -> None:
    async with AsyncClient.local(1, options=["--resources=cpu=1000,memory=512"]) as client:
        assert await (await client.submit(abs, -5)) == 5
    with pytest.raises(NoCoordinator):
        await AsyncClient(client.url, connect_timeout=0.1).connect()
