"""Programs, jobs and bars on an event loop: the twins of what `Client` has, against a real cluster."""

from __future__ import annotations

import asyncio
import operator
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import rota
from rota import AsyncClient, AsyncProgram, TaskFailed
from rota.client.landing import Landing
from rota.core.errors import BadRequest, BadSpec, Conflict, NotFound
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until_async

SOON_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=16000,memory=8192", f"--cache-dir={folder}/cache")
        yield running


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(cluster.url) as connected:
        yield connected


async def test_a_program_has_its_files_and_gives_its_outputs(cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/sh\ncat "$@" > out.txt\necho done\n')
    script.chmod(0o755)
    (tmp_path / "a.txt").write_text("one ")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.txt").write_text("two")
    files = [script, tmp_path / "a.txt", tmp_path / "data"]
    async with AsyncClient(cluster.url, job="async-programs") as client:
        command = ["./run.sh", "a.txt", "data/b.txt"]
        program = await client.program(command, files=files, outputs=["*.txt"], name="cat")
        assert (await program.check(SOON_S))["name"] == "cat"
        assert await program.logs() == b"done\n"
        assert [(output.name, output.bytes) for output in await program.outputs()] == [("out.txt", 7)]
        [path] = await client.find_program(program.id).fetch(tmp_path / "to")
        assert path.read_text() == "one two"
        assert (await program.info())["labels"] == {"job": "async-programs"}
        assert await client.job("async-programs").status() == {"completed": 1}


async def test_many_are_waited_for_at_once_without_a_thread_for_each(client: AsyncClient, tmp_path: Path) -> None:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    # More of them wait than there are threads for what takes long, and the last one ends only after the others wait.
    held = [await client.program(shell=f"cat {fifo}", resources={"cpu": 100}) for _ in range(64)]
    waits = [asyncio.ensure_future(program.check(SOON_S)) for program in held]
    assert await (await client.program(["true"], resources={"cpu": 100})).check(SOON_S)

    async def all_run() -> bool:
        infos = [await program.info() for program in held]
        return all(info["state"] == "running" for info in infos)

    await wait_until_async(all_run, what="all to run")
    assert not any(wait.done() for wait in waits)
    writer = os.open(fifo, os.O_WRONLY)
    os.close(writer)
    assert [task["state"] for task in await asyncio.gather(*waits)] == ["completed"] * 64


async def test_a_program_of_a_chosen_id_is_waited_for_too(client: AsyncClient) -> None:
    program = await client.program(["true"], id="mine")
    assert (await program.check(SOON_S))["id"] == "mine"
    assert (await client.find_program("mine").wait(0))["state"] == "completed"
    with pytest.raises(NotFound):
        await client.find_program("nobody's").wait(SOON_S)
    with pytest.raises(NotFound):
        await client.find_program("000000000999z").wait(SOON_S)


async def test_what_is_in_the_way_and_what_is_not_there_is_said(client: AsyncClient, tmp_path: Path) -> None:
    program = await client.program(shell="echo new > out", outputs=["out"])
    await program.wait(SOON_S)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(Conflict, match="would be overwritten"):
        await program.fetch(tmp_path)
    with pytest.raises(NotFound, match="has not left a file 'other'"):
        await program.fetch(tmp_path, ["other"])
    assert (tmp_path / "out").read_text() == "mine"
    await program.fetch(tmp_path, ["out"], overwrite=True)
    assert (tmp_path / "out").read_text() == "new\n"


async def test_a_wait_has_an_end_and_a_cancel_ends_it(client: AsyncClient) -> None:
    program = await client.program(["sleep", "600"])
    with pytest.raises(TimeoutError, match=f"task {program.id} has not ended within 0.1 s"):
        await program.wait(0.1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(program.wait(), 0.1)  # gives up the waiting, not the program
    with pytest.raises(Conflict):
        await program.outputs()
    assert (await program.info())["cancel_requested"] is False
    await program.cancel()
    with pytest.raises(TaskFailed, match="was cancelled"):
        await program.check(SOON_S)


async def test_a_program_that_fails_raises_where_it_must_not(client: AsyncClient, tmp_path: Path) -> None:
    program = await client.program(shell="echo half > out; exit 3", outputs=["out"])
    assert (await program.wait(SOON_S))["state"] == "failed"
    with pytest.raises(TaskFailed, match=f"task {program.id} has failed: exit 3") as caught:
        await program.check()
    assert (caught.value.cause, caught.value.exit_code) == ("exit", 3)
    assert [path.name for path in await program.fetch(tmp_path)] == ["out"]


async def test_mistakes_are_told_at_once(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(TypeError, match="a command is a list"):
        await client.program("ls -l")
    with pytest.raises(TypeError, match="outputs are a list"):
        await client.program(["true"], outputs="*.csv")
    with pytest.raises(TypeError, match="files are a list"):
        await client.program(["true"], files=str(tmp_path / "a"))
    with pytest.raises(BadRequest, match="can't read"):
        await client.program(["true"], files=[tmp_path / "nothing"])
    with pytest.raises(BadSpec, match="did you mean `retries`"):
        await client.program(["true"], retry=3)


async def test_a_fetch_that_is_cancelled_leaves_no_half_file(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await client.program(shell="head -c 3000000 /dev/zero > big", outputs=["big"])
    await program.check(SOON_S)
    has_begun, may_go_on, is_over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    write = Landing.write

    def slow_write(landing: Landing, name: str, chunks: Iterator[bytes], *, digest: str, executable: bool) -> None:
        def held() -> Iterator[bytes]:
            loop.call_soon_threadsafe(has_begun.set)
            asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result(SOON_S)
            yield from chunks

        try:
            write(landing, name, held(), digest=digest, executable=executable)
        finally:
            loop.call_soon_threadsafe(is_over.set)

    monkeypatch.setattr(Landing, "write", slow_write)
    fetching = asyncio.ensure_future(program.fetch(tmp_path / "to"))
    await asyncio.wait_for(has_begun.wait(), SOON_S)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    may_go_on.set()
    await asyncio.wait_for(is_over.wait(), SOON_S)
    assert list((tmp_path / "to").iterdir()) == []


async def test_a_program_is_waited_for_through_a_restart_and_past_its_client(cluster: Cluster, tmp_path: Path) -> None:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    async with AsyncClient(cluster.url) as client:
        program: AsyncProgram = await client.program(shell=f"cat {fifo} > out", outputs=["out"])
        waiting = asyncio.ensure_future(program.check(SOON_S))
        await asyncio.to_thread(cluster.wait_for_state, program.id, "running")
        cluster.coordinator.kill()
        cluster.start_coordinator()  # on this thread: it ends with the one that started it
    assert not waiting.done()  # its client is shut down: it is asked for by REST from now on
    await asyncio.to_thread(fifo.write_text, "through")
    await waiting
    assert (await program.fetch(tmp_path))[0].read_text() == "through"


async def test_a_job_is_found_by_name_and_its_tasks_are_followed(cluster: Cluster) -> None:
    async with AsyncClient(cluster.url, job="async-nightly") as first:
        await asyncio.gather(*[await first.submit(operator.neg, number) for number in range(20)])
        job = first.job("async-big")
        big = await job.map(bytes, [70_000, 5])  # the first travels beside its task
        assert [len(await future) for future in big] == [70_000, 5]
    async with AsyncClient(cluster.url) as second:
        job = second.job("async-nightly")
        assert [value async for value in job.results(SOON_S)] == [-number for number in range(20)]
        assert await job.status() == {"completed": 20}
        assert [len(value) async for value in second.job("async-big").results(SOON_S)] == [70_000, 5]
        assert await second.job("nothing").futures() == []
        with pytest.raises(rota.RotaError, match="name"):
            second.job("")


async def test_a_job_is_not_cancelled_by_who_stops_waiting_for_it(cluster: Cluster) -> None:
    async with AsyncClient(cluster.url) as first:
        sleeping = await first.job("async-slow").submit(time.sleep, 60)
        task_id = await sleeping.task_id()
        async with AsyncClient(cluster.url) as second:
            with pytest.raises(TimeoutError):
                async with aclosing(second.job("async-slow").results(0.1)) as results:
                    await anext(results)
            [found] = await second.job("async-slow").futures()
        assert isinstance(found.exception(), rota.RotaError)  # the client went before its end was known
        assert not cluster.client.task(task_id)["cancel_requested"]
        [found] = await first.job("async-slow").futures()
        found.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping


async def test_a_map_can_have_a_bar_and_so_can_whatever_is_gone_through(client: AsyncClient) -> None:
    assert [value async for value in client.map(operator.neg, range(5), progress=True)] == [0, -1, -2, -3, -4]
    assert [value async for value in rota.progress(client.map(abs, [-1, 2]), total=2)] == [1, 2]
