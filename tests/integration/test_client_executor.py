"""The client as the standard library's executor: its own tests' behaviour, against a real cluster."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import operator
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    as_completed,
    wait,
)
from concurrent.futures import Future as StandardFuture
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rota import Client, Future, TaskFailed
from rota.client import session as session_module
from tests.support.proxy import running_proxy
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

SOON_S = 20.0
"""For what should take milliseconds."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=8192")
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.url) as connected:
        yield connected


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Door]:
    door = Door(str(tmp_path / "door"))
    yield door
    door.open()


@dataclass(frozen=True)
class Door:
    """Holds tasks up until it is opened."""

    path: str

    def open(self) -> None:
        Path(self.path).touch()


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def waited(path: str, value: Any = None) -> Any:
    """Return when the door is open."""
    wait_until(Path(path).exists, what="the door to be opened", timeout_s=60.0)
    return value


def divide(one: float, two: float) -> float:
    return one / two


def hold(client: Client, gate: Door, value: Any = None) -> Any:
    """A future whose task is known to run until the gate is opened."""
    future = client.submit(waited, gate.path, value)
    wait_until(future.running, what="the task to run")
    return future


# ExecutorTest


def test_submit_gives_the_result(client: Client) -> None:
    assert client.submit(pow, 2, 8).result(SOON_S) == 256


def test_submit_passes_all_kinds_of_arguments(client: Client) -> None:
    future = client.submit(capture, 1, self=2, fn=3)
    assert future.result(SOON_S) == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        client.submit(fn=capture, arg=1)  # type: ignore[call-arg]  # that is what is tested
    with pytest.raises(TypeError):
        client.submit()  # type: ignore[call-arg]  # as above


def test_submit_of_what_cannot_be_called_says_so(client: Client) -> None:
    with pytest.raises(TypeError, match="can't be called"):
        client.submit(5)  # type: ignore[arg-type]  # that is what is tested


def test_map_gives_results_in_order(client: Client) -> None:
    assert list(client.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(client.map(pow, range(10), range(10), chunksize=3)) == list(map(pow, range(10), range(10)))


def test_map_ends_with_the_shortest_iterable_and_takes_none(client: Client) -> None:
    assert list(client.map(pow, range(3), itertools.count())) == [1, 1, 4]
    assert list(client.map(pow, [], [])) == []


def test_map_raises_what_a_function_raised_when_its_turn_comes(client: Client) -> None:
    results = client.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_refuses_a_chunksize_of_nothing(client: Client) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        client.map(str, range(3), chunksize=0)
    with pytest.raises(ValueError, match="buffersize"):
        client.map(str, range(3), buffersize=0)


def test_map_whose_time_is_over_raises_and_cancels_the_rest(client: Client, gate: Door) -> None:
    results = client.map(lambda path: waited(path) if path else 1, ["", "", gate.path], timeout=3.0)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(TimeoutError):
        next(results)


def test_shutdown_race_with_the_interpreters_end_is_no_problem(cluster: Cluster) -> None:
    with Client(cluster.url) as client:
        client.submit(mul, 6, 7)  # nobody waits for it


def test_futures_do_not_outlive_their_use(client: Client) -> None:
    references = [weakref.ref(future) for future in [client.submit(pow, 1, 1) for _ in range(3)]]
    wait_until(lambda: gc.collect() >= 0 and not any(one() for one in references), what="the futures to be forgotten")


def test_results_do_not_outlive_the_iteration_of_a_map(client: Client) -> None:
    for result in client.map(Thing, range(3)):
        reference = weakref.ref(result)
        del result
        # The thread that received it may just be letting it go.
        wait_until(partial(is_gone, reference), what="the result to be forgotten")


def is_gone(reference: weakref.ref[Any]) -> bool:
    return reference() is None


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number


def mul(x: int, y: int) -> int:
    return x * y


def test_swallowing_an_exception_leaves_no_cycle(client: Client) -> None:
    future = client.submit(divide, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result(SOON_S)
    assert "in divide" in str(caught.value.__cause__)
    frames = [one.f_code.co_name for one in _frames(caught.value)]
    assert "result" in frames


def _frames(error: BaseException) -> Iterator[Any]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def test_processes_that_die_fail_their_task_alone(client: Client) -> None:
    exits, aborts = client.submit(os._exit, 3), client.submit(os.abort)
    others = [client.submit(abs, -number) for number in range(5)]
    with pytest.raises(TaskFailed, match="exited with code 3") as caught:
        exits.result(SOON_S)
    assert (caught.value.exit_code, caught.value.cause) == (3, "exit")
    with pytest.raises(TaskFailed, match="SIGABRT") as caught:
        aborts.result(SOON_S)
    assert caught.value.signal == 6
    assert [future.result(SOON_S) for future in others] == [0, 1, 2, 3, 4]


# WaitTests


def test_wait_for_the_first_completed(client: Client, gate: Door) -> None:
    slow = client.submit(waited, gate.path)
    quick = client.submit(mul, 21, 2)
    done, not_done = wait([slow, quick], return_when=FIRST_COMPLETED, timeout=SOON_S)
    assert (done, not_done) == ({quick}, {slow})
    gate.open()


def test_wait_sees_what_has_ended_before(client: Client) -> None:
    ended = client.submit(mul, 2, 21)
    ended.result(SOON_S)
    cancelled: StandardFuture[int] = StandardFuture()
    cancelled.cancel()
    cancelled.set_running_or_notify_cancel()
    done, not_done = wait([ended, cancelled], return_when=ALL_COMPLETED, timeout=SOON_S)
    assert (done, not_done) == ({ended, cancelled}, set())


def test_wait_for_the_first_exception(client: Client, gate: Door) -> None:
    good: Future[Any] = client.submit(mul, 2, 21)
    good.result(SOON_S)
    bad: Future[Any] = client.submit(divide, 1, 0)
    slow = client.submit(waited, gate.path)
    done, not_done = wait([good, bad, slow], return_when=FIRST_EXCEPTION, timeout=SOON_S)
    assert bad in done
    assert not_done == {slow}
    gate.open()


def test_wait_for_all(client: Client) -> None:
    futures: list[Future[Any]] = [client.submit(divide, 2, 0), client.submit(mul, 2, 21)]
    assert wait(futures, timeout=SOON_S) == (set(futures), set())


def test_wait_whose_time_is_over(client: Client, gate: Door) -> None:
    quick, slow = client.submit(mul, 6, 7), client.submit(waited, gate.path)
    quick.result(SOON_S)
    assert wait([quick, slow], timeout=0.05) == ({quick}, {slow})
    gate.open()


# AsCompletedTests


def test_as_completed_gives_each_once(client: Client) -> None:
    futures = [client.submit(mul, 2, 21), client.submit(mul, 7, 6)]
    assert sorted(future.result() for future in as_completed([*futures, *futures], SOON_S)) == [42, 42]


def test_as_completed_whose_time_is_over(client: Client, gate: Door) -> None:
    slow = client.submit(waited, gate.path)
    quick = client.submit(mul, 1, 1)
    assert quick.result(SOON_S) == 1
    completed = as_completed([slow, quick], timeout=0.1)
    assert next(completed) is quick
    with pytest.raises(TimeoutError):
        next(completed)
    gate.open()


def test_as_completed_of_many(client: Client) -> None:
    futures: dict[StandardFuture[int], int] = {client.submit(mul, number, 2): number for number in range(500)}
    for future in as_completed(list(futures), SOON_S):
        assert future.result() == 2 * futures.pop(future)
    assert not futures


# Cancelling


def test_what_waits_is_cancelled_and_never_runs(client: Client, gate: Door, tmp_path: Path) -> None:
    running = [hold(client, gate) for _ in range(4)]
    waiting = client.submit(Path.touch, tmp_path / "ran")
    waiting.task_id(SOON_S)
    assert waiting.cancel()
    assert waiting.cancelled()
    with pytest.raises(CancelledError):
        waiting.result()
    assert not any(future.cancel() for future in running)
    gate.open()
    wait(running, SOON_S)
    wait_until(lambda: waiting.info()["state"] == "cancelled", what="the task to be cancelled")
    assert not (tmp_path / "ran").exists()


def test_what_runs_is_stopped(client: Client, gate: Door) -> None:
    future = hold(client, gate)
    assert not future.cancel()
    assert future.stop()
    with pytest.raises(CancelledError):
        future.result(SOON_S)
    assert future.info()["state"] == "cancelled"


# Callbacks


def test_callbacks_hear_of_results_errors_and_cancellations(client: Client, gate: Door) -> None:
    heard: list[Any] = []
    running = [hold(client, gate) for _ in range(4)]
    cancelled = client.submit(mul, 1, 1)
    cancelled.add_done_callback(lambda future: heard.append(future.cancelled()))
    cancelled.cancel()
    gate.open()
    good: Future[Any] = client.submit(mul, 2, 3)
    bad: Future[Any] = client.submit(divide, 1, 0)
    good.add_done_callback(lambda future: heard.append(future.result()))
    bad.add_done_callback(lambda future: heard.append(type(future.exception())))
    wait([good, bad, *running], SOON_S)
    wait_until(lambda: len(heard) == 3, what="the callbacks")
    assert heard[0] is True
    assert set(heard[1:]) == {6, ZeroDivisionError}


def test_callback_may_submit_more(client: Client) -> None:
    more: list[Any] = []
    client.submit(mul, 2, 3).add_done_callback(lambda future: more.append(client.submit(mul, future.result(), 7)))
    wait_until(lambda: more, what="the callback")
    assert more[0].result(SOON_S) == 42


def test_callback_that_would_wait_for_ever_is_told(client: Client) -> None:
    heard: list[Any] = []

    def ask(_: object) -> None:
        try:
            client.submit(mul, 1, 1).result()
        except RuntimeError as error:
            heard.append(str(error))

    client.submit(mul, 2, 3).add_done_callback(ask)
    assert "wait for ever" in wait_until(lambda: heard, what="the callback")[0]


# Shutdown


def test_nothing_is_taken_after_shutdown(cluster: Cluster) -> None:
    client = Client(cluster.url)
    client.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        client.submit(pow, 2, 5)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(client.map(pow, [1], [2]))
    client.shutdown()


def test_shutdown_waits_for_all(cluster: Cluster) -> None:
    with Client(cluster.url) as client:
        futures = [client.submit(time.sleep, 0.05) for _ in range(10)]
    assert all(future.done() for future in futures)


def test_shutdown_that_does_not_wait_lets_futures_end(cluster: Cluster, gate: Door) -> None:
    client = Client(cluster.url)
    future = client.submit(waited, gate.path, 5)
    client.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result(SOON_S) == 5


def test_shutdown_cancels_what_does_not_run(cluster: Cluster, gate: Door) -> None:
    client = Client(cluster.url)
    running = [hold(client, gate, number) for number in range(4)]
    waiting = [client.submit(mul, 1, 1) for _ in range(50)]
    stopper = threading.Thread(target=client.shutdown, kwargs={"cancel_futures": True})
    stopper.start()
    wait(waiting, SOON_S)
    gate.open()
    stopper.join(SOON_S)
    assert not stopper.is_alive()
    assert [future.result(0) for future in running] == [0, 1, 2, 3]
    assert all(future.cancelled() for future in waiting)


def test_client_that_is_thrown_away_lets_its_futures_end_and_its_thread_with_them(cluster: Cluster) -> None:
    before = {thread for thread in threading.enumerate() if thread.name == "rota-client"}
    client = Client(cluster.url)
    future = client.submit(mul, 6, 7)
    [thread] = {one for one in threading.enumerate() if one.name == "rota-client"} - before
    del client
    gc.collect()
    assert future.result(SOON_S) == 42
    thread.join(SOON_S)
    assert not thread.is_alive()


# With others


async def test_asyncio_runs_in_it(client: Client) -> None:
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(*(loop.run_in_executor(client, mul, number, 2) for number in range(20)))
    assert results == [2 * number for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(client, divide, 1, 0)


def test_whatever_takes_an_executor_takes_it(client: Client) -> None:
    def double_all(executor: Executor) -> list[int]:
        return list(executor.map(operator.mul, range(5), [2] * 5))

    assert double_all(client) == [0, 2, 4, 6, 8]


def test_many_threads_submit(client: Client) -> None:
    results: dict[int, list[int]] = {}

    def submit_some(base: int) -> None:
        futures = [client.submit(operator.add, base, number) for number in range(300)]
        results[base] = [future.result(SOON_S) for future in futures]

    threads = [threading.Thread(target=submit_some, args=(1000 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert results == {base: [base + number for number in range(300)] for base in range(0, 6000, 1000)}


# Ours


def test_unordered_map_gives_what_is_done_first(client: Client, gate: Door) -> None:
    results = client.map_unordered(lambda path: waited(path, 2) if path else 1, [gate.path, "", ""])
    assert [next(results), next(results)] == [1, 1]
    gate.open()
    assert list(results) == [2]


def test_endless_items_are_submitted_as_they_are_consumed(client: Client) -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    results = client.map(operator.neg, numbers(), buffersize=64)
    assert list(itertools.islice(results, 200)) == [-number for number in range(200)]
    assert taken < 200 + 64 + 64
    results.close()  # type: ignore[attr-defined]  # a generator, as the standard library's


def test_consumer_that_stops_cancels_the_rest(client: Client, gate: Door) -> None:
    job = client.job("given-up")
    with Client(client.url, job="given-up") as other:
        for _ in other.map(lambda path: waited(path) if path else 1, ["", *[gate.path] * 40]):
            break
        # Those that are known to run go on, as with any executor.
        wait_until(lambda: job.status().get("cancelled", 0) >= 30, what="the rest to be cancelled")
        gate.open()


def test_error_among_the_items_of_a_map_comes_through(client: Client) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        client.map(abs, items())


def test_map_with_a_bar_gives_the_same(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(client.map(mul, range(5), itertools.count(), progress=True)) == [0, 1, 4, 9, 16]
    assert "5/5" in terminal.getvalue()


def test_submitting_waits_while_too_many_wait(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WAITING_TASKS_MAX", 50)
    with running_proxy(cluster.port) as proxy, Client(proxy.url) as client:
        client.submit(mul, 1, 1).result(SOON_S)
        proxy.freeze()
        futures: list[Future[int]] = []

        def submit_all() -> None:
            futures.extend(client.submit(mul, number, 1) for number in range(20_000))

        submitting = threading.Thread(target=submit_all)
        submitting.start()
        try:
            wait_until(lambda: client._hub.session.is_full, what="the client to be full")
            submitting.join(0.1)
            assert submitting.is_alive()
        finally:
            proxy.heal()
        submitting.join(SOON_S)
        assert [future.result(SOON_S) for future in futures] == list(range(20_000))


def test_output_and_facts_of_a_task_can_be_asked_for(client: Client) -> None:
    future = client.submit(print, "hello", file=None)
    future.result(SOON_S)
    assert future.logs() == "hello\n"
    assert future.info()["state"] == "completed"
    assert future.id == future.task_id()


def test_client_in_a_forked_process_says_that_it_is_not_its_own(client: Client) -> None:
    pending = client.submit(time.sleep, 0.3)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.submit(mul, 1, 1)
        except RuntimeError as error:
            os.write(write, str(error).encode())
        try:
            pending.result()
        except RuntimeError as error:
            os.write(write, b" | " + str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    assert said.count("make a client of its own") == 2
    assert pending.result(SOON_S) is None
    assert client.submit(mul, 2, 2).result(SOON_S) == 4


def test_typing_of_submit_follows_the_function(client: Client) -> None:
    number: int = client.submit(mul, 2, 3).result(SOON_S)
    assert number == 6
    assert sys.getrefcount(number) > 0


def test_the_traceback_of_a_failed_function_is_in_its_log(client: Client) -> None:
    future = client.submit(operator.truediv, 1, 0)
    with pytest.raises(ZeroDivisionError):
        future.result(SOON_S)
    assert future.logs() == "ZeroDivisionError: division by zero\n"

    def deep() -> int:
        print("before")
        numbers: list[int] = []
        return numbers[7]

    future = client.submit(deep)
    with pytest.raises(IndexError):
        future.result(SOON_S)
    before, header, *frames, last = future.logs().splitlines()
    assert (before, header, last) == (
        "before",
        "Traceback (most recent call last):",
        "IndexError: list index out of range",
    )
    assert "in deep" in frames[0]
    assert not any("rota/" in line and "/tests/" not in line for line in frames), "our own frames tell nobody anything"


def test_ctrl_c_in_a_with_block_cancels_what_does_not_run(cluster: Cluster, gate: Door) -> None:
    futures: list[Future[Any]] = []

    def interrupted() -> None:
        with Client(cluster.url) as client:
            futures.extend(client.submit(waited, gate.path) for _ in range(20))
            wait_until(lambda: any(future.running() for future in futures), what="one to run")
            futures[-1].add_done_callback(lambda _: gate.open())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert futures[-1].cancelled()
    assert sum(future.cancelled() for future in futures) >= 16


@pytest.mark.parametrize("method", ["map", "map_unordered"])
def test_ctrl_c_while_map_waits_stops_what_runs(cluster: Cluster, gate: Door, method: str) -> None:
    with Client(cluster.url, job=f"interrupted-{method}") as client:
        job = client.job(f"interrupted-{method}")

        def press() -> None:
            wait_until(lambda: "running" in job.status(), what="one to run")
            signal.pthread_kill(main, signal.SIGINT)

        main = threading.get_ident()
        finger = threading.Thread(target=press)
        results = getattr(client, method)(waited, [gate.path] * 6)
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            list(results)
        finger.join()
        # Nobody opens the gate: they have ended because they were told to.
        wait_until(lambda: job.status() == {"cancelled": 6}, what="all to be cancelled")
