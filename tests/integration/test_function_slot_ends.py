"""How calls end that don't just return: crashes, time-outs, stops, memory, and what is taken back."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.shared_memory
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import cloudpickle
import psutil
import pytest

import rota.functions.context
from rota.core.model import AttemptKey, Cause
from rota.functions.context import TaskCancelled
from rota.worker.slots import control
from tests.support.function_slots import FunctionBench, function_bench, patched_program
from tests.support.tracing import traced
from tests.support.waiting import wait_until_async

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[FunctionBench]:
    async with function_bench(tmp_path) as made:
        yield made


def same(number: int) -> int:
    return number


def wait_for(path: Path) -> str:
    """Say where we are, and wait for a file."""
    path.with_suffix(".pid").write_text(str(os.getpid()))
    while not path.exists():
        time.sleep(0.01)
    return "waited"


def busy_in_c() -> object:
    """Takes longer than any test, and never looks at a signal."""
    return sum(range(10**14))


def stubborn() -> None:
    """Hears that it is to end, and goes on."""
    while True:
        try:
            time.sleep(60)
        except TaskCancelled:
            continue


def die_of(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(10)


async def begun(path: Path) -> int:
    """The pid of a function that waits."""
    pid_path = path.with_suffix(".pid")
    await wait_until_async(lambda: pid_path.exists() and pid_path.read_text(), what="a function that waits")
    return int(pid_path.read_text())


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


# Crashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crash,cause,exit_code,number,words",
    [
        (lambda: ctypes.string_at(0), Cause.SIGNAL, None, signal.SIGSEGV, r"SIGSEGV \(Segmentation fault\)"),
        (lambda: os._exit(3), Cause.EXIT, 3, None, "exit code 3 before the function returned"),
        (lambda: os._exit(0), Cause.EXIT, 0, None, "exit code 0 before the function returned"),
        (lambda: die_of(signal.SIGKILL), Cause.SIGNAL, None, signal.SIGKILL, "SIGKILL"),
        (os.abort, Cause.SIGNAL, None, signal.SIGABRT, "SIGABRT"),
    ],
    ids=["segfault", "exit", "exit 0", "kill", "abort"],
)
async def test_a_crash_ends_only_the_call_that_ran(
    bench: FunctionBench,
    crash: Callable[[], object],
    cause: Cause,
    exit_code: int | None,
    number: int | None,
    words: str,
) -> None:
    keys = bench.run([bench.order(crash) if at == 20 else bench.order(same, at) for at in range(40)])
    ends = [await bench.end_of(key) for key in keys]
    crashed = ends.pop(20)
    assert (crashed.cause, crashed.exit_code, crashed.signal) == (cause, exit_code, number)
    assert re.search(words, crashed.message or "")
    assert [bench.value_of(end) for end in ends] == [at for at in range(40) if at != 20]
    assert bench.order_of_ends == keys


async def test_a_crash_in_native_code_says_where_it_was(bench: FunctionBench) -> None:
    def reads_nowhere() -> None:
        print("before")
        ctypes.string_at(0)

    end = await bench.result(reads_nowhere)
    assert end.stdout == b"before\n"
    assert b"Fatal Python error: Segmentation fault" in end.stderr
    assert b"in reads_nowhere" in end.stderr


async def test_crash_after_crash_costs_nothing_else(bench: FunctionBench) -> None:
    orders = [bench.order(os._exit, 1) if at % 2 else bench.order(same, at) for at in range(20)]
    keys = bench.run(orders)
    ends = [await bench.end_of(key) for key in keys]
    assert [end.cause for end in ends] == [None, Cause.EXIT] * 10


async def test_a_thread_that_exits_ends_only_itself(bench: FunctionBench) -> None:
    def work() -> int:
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()
        return 5

    assert await bench.value(work) == 5


async def test_a_runner_that_dies_between_calls_harms_no_call(bench: FunctionBench) -> None:
    runner = await bench.value(os.getpid)
    os.kill(runner, signal.SIGKILL)
    assert await bench.value(os.getpid) != runner


async def test_orders_do_not_wait_for_ever_for_runners_that_die_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "from rota.worker.slots.functions import fork; fork._set_up = None"
    monkeypatch.setattr(control, "_FUNCTION_PROGRAM", patched_program(broken, FORK_PAUSE_S=0.05))
    async with function_bench(tmp_path) as bench:
        keys = bench.run([bench.order(same, at) for at in range(3)])
        ends = [await bench.end_of(key) for key in keys]
    assert {end.cause for end in ends} == {Cause.AGENT_ERROR}
    assert "ended again and again before it could" in (ends[0].message or "")


async def test_without_a_process_for_a_runner_the_line_is_handed_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "def refuse(*_):\n    raise BlockingIOError('no process')\nslot.fork_runner = refuse"
    monkeypatch.setattr(control, "_FUNCTION_PROGRAM", patched_program(broken, FORK_PAUSE_S=0.05))
    async with function_bench(tmp_path) as bench:
        keys = bench.run([bench.order(same, at) for at in range(3)])
        assert {(await bench.end_of(key)).cause for key in keys} == {Cause.RETURNED}


# Time-outs and stops ---------------------------------------------------------------------------


async def test_a_call_over_its_time_is_told_and_its_neighbours_run(bench: FunctionBench) -> None:
    keys = bench.run([bench.order(same, 1), bench.order(time.sleep, 60, timeout_s=0.1), bench.order(same, 3)])
    first, late, third = [await bench.end_of(key) for key in keys]
    assert late.cause is Cause.TIMEOUT
    assert late.message == "ran longer than its timeout of 0.1 s"
    assert 0.1 <= late.run_s < 5
    error, text = bench.failure_of(late)
    assert isinstance(error, TaskCancelled)
    assert "TaskCancelled" in text
    assert [bench.value_of(first), bench.value_of(third)] == [1, 3]


@pytest.mark.parametrize("function", [busy_in_c, stubborn])
async def test_a_call_that_does_not_listen_is_killed_after_the_grace(
    bench: FunctionBench, function: Callable[[], object]
) -> None:
    began = time.monotonic()
    keys = bench.run([bench.order(function, timeout_s=0.1), bench.order(same, 2)])
    end = await bench.end_of(keys[0])
    assert (end.cause, end.signal) == (Cause.TIMEOUT, signal.SIGKILL)
    assert 0.4 <= time.monotonic() - began < 30
    assert bench.value_of(await bench.end_of(keys[1])) == 2


async def test_a_cancelled_function_can_clean_up(bench: FunctionBench, tmp_path: Path) -> None:
    def work() -> None:
        try:
            wait_for(tmp_path / "never")
        except TaskCancelled:
            task = rota.functions.context.current()
            (tmp_path / "cleaned").write_text(str(task.is_cancelled))
            raise

    key = bench.submit(work)
    runner = await begun(tmp_path / "never")
    bench.link.send(("stop", *key, "cancelled", 5.0))
    end = await bench.end_of(key)
    assert (end.cause, end.message) == (Cause.CANCELLED, None)
    assert (tmp_path / "cleaned").read_text() == "True"
    assert await bench.value(os.getpid) != runner


async def test_a_function_that_returns_in_spite_of_its_stop_is_stopped_all_the_same(
    bench: FunctionBench, tmp_path: Path
) -> None:
    def work() -> int:
        with suppress(TaskCancelled):
            wait_for(tmp_path / "never")
        return 5

    key = bench.submit(work)
    await begun(tmp_path / "never")
    bench.link.send(("stop", *key, "preempted", 5.0))
    end = await bench.end_of(key)
    assert (end.cause, end.value, end.blobs) == (Cause.PREEMPTED, b"", ())


async def test_a_second_stop_can_only_shorten_the_grace(bench: FunctionBench, tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "begun").touch()
        busy_in_c()

    key = bench.submit(work)
    await wait_until_async((tmp_path / "begun").exists, what="a start")
    began = time.monotonic()
    bench.link.send(("stop", *key, "cancelled", 60.0))
    bench.link.send(("stop", *key, "preempted", 0.1))
    end = await bench.end_of(key)
    assert end.cause is Cause.CANCELLED
    assert time.monotonic() - began < 30


async def test_a_stop_reaches_what_waits_and_leaves_the_rest(bench: FunctionBench, tmp_path: Path) -> None:
    keys = bench.run([bench.order(wait_for, tmp_path / "go"), *(bench.order(same, at) for at in range(5))])
    await begun(tmp_path / "go")
    bench.link.send(("stop", *keys[3], "cancelled", 0.0))
    end = await bench.end_of(keys[3])
    assert (end.cause, end.started_at) == (Cause.CANCELLED, None)
    (tmp_path / "go").touch()
    others = [key for key in keys if key != keys[3]]
    assert [(await bench.end_of(key)).cause for key in others] == [None] * 5
    assert [key for key in bench.order_of_ends if key != keys[3]] == others


async def test_a_stop_of_what_has_ended_harms_nobody(bench: FunctionBench, tmp_path: Path) -> None:
    keys = bench.run([bench.order(same, 1), bench.order(wait_for, tmp_path / "go")])
    await begun(tmp_path / "go")
    bench.link.send(("stop", *keys[0], "cancelled", 0.0))
    bench.link.send(("stop", 999, 1, "cancelled", 0.0))
    (tmp_path / "go").touch()
    assert bench.value_of(await bench.end_of(keys[1])) == "waited"
    assert bench.value_of(bench.ended[keys[0]]) == 1


async def test_the_handler_of_a_stop_survives_what_a_function_installs(bench: FunctionBench) -> None:
    def spoil() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    await bench.result(spoil)
    end = await bench.result(time.sleep, 60, timeout_s=0.1)
    assert (end.cause, end.signal) == (Cause.TIMEOUT, None)


async def test_a_signal_that_is_not_the_slots_means_nothing(bench: FunctionBench, tmp_path: Path) -> None:
    """A service manager may signal every process of the worker."""
    key = bench.submit(wait_for, tmp_path / "go")
    await begun(tmp_path / "go")
    for process in (bench.keeper, bench.slot, bench.runner):
        process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert bench.value_of(await bench.end_of(key)) == "waited"


async def test_the_grace_of_timeouts_can_be_changed(bench: FunctionBench) -> None:
    bench.link.send(("grace", 30.0))

    def work() -> None:
        try:
            time.sleep(60)
        except TaskCancelled:
            time.sleep(1)  # longer than the grace before

    end = await bench.result(work, timeout_s=0.1)
    assert (end.cause, end.signal) == (Cause.TIMEOUT, None)


async def test_stops_in_the_rush_hit_what_they_name(bench: FunctionBench) -> None:
    """Thousands of quick calls, and stops of some of them at any moment: each ends once, and the others well."""
    orders = [bench.order(same, at) for at in range(6000)]
    keys: list[AttemptKey] = []
    for at in range(0, 6000, 100):
        keys += bench.run(orders[at : at + 100])
        bench.link.send(("stop", *keys[at + 50], "cancelled", 5.0))
        bench.link.send(("take-back", [(int(task), number) for task, number in keys[at + 60 : at + 65]]))
        await enough_ends(bench, at // 2)
    ends = [await bench.end_of(key) for key in keys]
    for at, end in enumerate(ends):
        if end.cause is None:
            assert bench.value_of(end) == at
        elif at % 100 == 50:
            assert end.cause is Cause.CANCELLED
        else:
            assert (end.cause, 60 <= at % 100 < 65) == (Cause.RETURNED, True)


async def enough_ends(bench: FunctionBench, count: int) -> None:
    await wait_until_async(lambda: len(bench.ended) > count, what="some ends")


# Taking back -----------------------------------------------------------------------------


async def test_what_is_fed_ahead_can_be_taken_back_while_one_runs(bench: FunctionBench, tmp_path: Path) -> None:
    keys = bench.run([bench.order(wait_for, tmp_path / "go"), *(bench.order(same, at) for at in range(500))])
    await begun(tmp_path / "go")
    bench.link.send(("take-back", [(int(task), number) for task, number in [keys[0], *keys[101:]]]))
    returned = [await bench.end_of(key) for key in keys[101:]]
    assert {end.cause for end in returned} == {Cause.RETURNED}
    assert keys[0] not in bench.ended
    (tmp_path / "go").touch()
    assert [(await bench.end_of(key)).cause for key in keys[:101]] == [None] * 101
    assert [bench.value_of(bench.ended[key]) for key in keys[1:101]] == list(range(100))


async def test_what_is_taken_back_from_behind_native_code_returns_at_once(bench: FunctionBench) -> None:
    keys = bench.run([bench.order(busy_in_c), bench.order(same, 1)])
    await bench.start_of(keys[0])
    bench.link.send(("take-back", [(int(keys[1][0]), 1)]))
    assert (await bench.end_of(keys[1])).cause is Cause.RETURNED
    bench.link.send(("stop", *keys[0], "cancelled", 0.0))
    assert (await bench.end_of(keys[0])).cause is Cause.CANCELLED


async def test_new_orders_run_after_others_were_taken_back(bench: FunctionBench, tmp_path: Path) -> None:
    keys = bench.run([bench.order(wait_for, tmp_path / "go"), bench.order(same, 1)])
    await begun(tmp_path / "go")
    bench.link.send(("take-back", [(int(keys[1][0]), 1)]))
    keys += bench.run([bench.order(same, 2)])
    assert (await bench.end_of(keys[1])).cause is Cause.RETURNED
    (tmp_path / "go").touch()
    assert [(await bench.end_of(key)).cause for key in (keys[0], keys[2])] == [None, None]


# Long calls and memory -------------------------------------------------------------------------


async def test_a_long_call_is_told_as_started_and_a_short_result_before_it_does_not_wait(
    bench: FunctionBench, tmp_path: Path
) -> None:
    keys = bench.run([bench.order(same, 1), bench.order(same, 2), bench.order(wait_for, tmp_path / "go")])
    assert [bench.value_of(await bench.end_of(key)) for key in keys[:2]] == [1, 2]
    start = await bench.start_of(keys[2])
    assert set(bench.started) == {keys[2]}
    (tmp_path / "go").touch()
    end = await bench.end_of(keys[2])
    assert end.started_at == pytest.approx(start.at, abs=0.01)


async def test_results_behind_a_rush_do_not_wait_for_a_long_call(bench: FunctionBench, tmp_path: Path) -> None:
    keys = bench.run([*(bench.order(same, at) for at in range(300)), bench.order(wait_for, tmp_path / "go")])
    await begun(tmp_path / "go")
    for key in keys[:-1]:
        await bench.end_of(key)
    (tmp_path / "go").touch()
    await bench.end_of(keys[-1])


async def test_a_call_over_its_memory_is_killed_alone(bench: FunctionBench) -> None:
    def fill() -> None:
        kept = []
        while True:
            kept.append(bytearray(4 << 20))
            time.sleep(0.005)

    keys = bench.run([bench.order(same, 1), bench.order(fill, memory_mib=100), bench.order(same, 3)])
    first, filled, third = [await bench.end_of(key) for key in keys]
    assert filled.cause is Cause.OOM
    assert "its limit is 100 MiB: ask for more in resources.memory" in (filled.message or "")
    assert filled.peak_memory_kib is not None
    assert filled.peak_memory_kib > 100 << 10
    assert [bench.value_of(first), bench.value_of(third)] == [1, 3]


async def test_a_call_that_kept_much_of_its_memory_gets_no_successor(bench: FunctionBench) -> None:
    def keep() -> int:
        sys.modules["kept"] = bytearray(100 << 20)  # type: ignore[assignment] # just to keep it
        time.sleep(0.05)
        return os.getpid()

    runner = await bench.value(keep, memory_mib=150)
    assert await bench.value(os.getpid) != runner


async def test_peak_and_processor_time_are_of_the_call(bench: FunctionBench) -> None:
    def work() -> None:
        ballast = bytearray(50 << 20)
        until = time.process_time() + 0.25
        while time.process_time() < until:
            pass
        del ballast

    keys = bench.run([bench.order(work), bench.order(time.sleep, 0.15), bench.order(same, 1)])
    busy, asleep, quick = [await bench.end_of(key) for key in keys]
    assert busy.peak_memory_kib is not None
    assert busy.peak_memory_kib > 50 << 10
    assert busy.cpu_seconds is not None
    assert 0.25 <= busy.cpu_seconds < 1.0
    assert asleep.cpu_seconds is not None
    assert asleep.cpu_seconds < 0.1
    assert quick.cpu_seconds is not None
    assert quick.cpu_seconds < 0.05


async def test_processor_time_of_children_counts(bench: FunctionBench) -> None:
    def work() -> None:
        program = "import time\nwhile time.process_time() < 0.2: pass"
        subprocess.run([sys.executable, "-S", "-c", program], check=True)

    end = await bench.result(work)
    assert end.cpu_seconds is not None
    assert end.cpu_seconds >= 0.2


# What a function leaves behind ------------------------------------------------------------------


async def test_children_are_killed_when_their_function_ends(bench: FunctionBench) -> None:
    def leave() -> list[int]:
        near = subprocess.Popen(["sleep", "60"])
        far = subprocess.run(
            "(setsid sh -c 'trap \"\" TERM; echo $$; exec 1>&-; sleep 60' &) ; true",
            shell=True,
            check=True,
            stdout=subprocess.PIPE,
        )
        return [near.pid, int(far.stdout)]

    for pid in await bench.value(leave):
        assert is_gone(pid)


async def test_children_of_a_runner_that_dies_are_killed(bench: FunctionBench, tmp_path: Path) -> None:
    def crash() -> None:
        child = subprocess.Popen(["setsid", "sleep", "60"])
        (tmp_path / "pid").write_text(str(child.pid))
        os._exit(1)

    assert (await bench.result(crash)).cause is Cause.EXIT
    assert is_gone(int((tmp_path / "pid").read_text()))


async def test_a_resource_tracker_is_spared(bench: FunctionBench) -> None:
    def share() -> int:
        memory = multiprocessing.shared_memory.SharedMemory(create=True, size=100)
        memory.close()
        memory.unlink()
        time.sleep(0.001)
        pid: int = vars(multiprocessing.resource_tracker._resource_tracker)["_pid"]
        return pid

    first = await bench.value(share)
    assert await bench.value(share) == first
    assert not is_gone(first)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_functions_may_use_processes_again_and_again(bench: FunctionBench, method: str) -> None:
    def work() -> list[int]:
        with multiprocessing.get_context(method).Pool(1) as pool:
            return pool.map(abs, [-1, 2])

    for _ in range(2):
        assert await bench.value(work) == [1, 2]


async def test_a_signal_to_its_own_group_ends_only_the_call(bench: FunctionBench) -> None:
    end = await bench.result(lambda: os.killpg(0, signal.SIGKILL))
    assert (end.cause, end.signal) == (Cause.SIGNAL, signal.SIGKILL)
    assert await bench.value(same, 1) == 1


# The lives of runners and slots ----------------------------------------------------------------


async def test_a_runner_is_replaced_after_so_many_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_FUNCTION_PROGRAM", patched_program(RUNS_MAX=10))
    async with function_bench(tmp_path) as bench:
        keys = [bench.submit(os.getpid) for _ in range(35)]
        pids = [bench.value_of(await bench.end_of(key)) for key in keys]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [10, 10, 10, 5]
        assert bench.order_of_ends == keys


async def test_a_slot_that_is_to_leave_finishes_its_line(bench: FunctionBench) -> None:
    keys = bench.run([bench.order(same, at) for at in range(500)])
    bench.link.send(("exit",))
    await wait_until_async(lambda: bench.has_left, what="the slot to leave")
    assert list(bench.ended) == keys


async def test_when_the_agent_goes_everything_goes(bench: FunctionBench, tmp_path: Path) -> None:
    def work() -> None:
        subprocess.Popen(["setsid", "sleep", "60"])
        wait_for(tmp_path / "never")

    bench.submit(work)
    await begun(tmp_path / "never")
    below = bench.keeper.children(recursive=True)
    assert len(below) == 3
    bench.link.close()
    await wait_until_async(lambda: not any(process.is_running() for process in below), what="the end of all")


async def test_a_killed_slot_takes_its_runner_along(bench: FunctionBench, tmp_path: Path) -> None:
    bench.submit(wait_for, tmp_path / "never")
    runner = await begun(tmp_path / "never")
    bench.slot.kill()
    await wait_until_async(lambda: is_gone(runner), what="the end of the runner")
    await wait_until_async(lambda: bench.troubles, what="the keeper's word")
    assert bench.troubles == ["the slot process was killed by signal 9"]


async def test_a_slow_agent_loses_nothing(bench: FunctionBench, tmp_path: Path) -> None:
    """It reads nothing for a while: the slot holds results up to a limit, and then starts nothing more."""
    log = tmp_path / "log"

    def make(letter: str) -> bytes:
        with log.open("a") as file:
            file.write(letter)
        return letter.encode() * 50_000

    fd = bench.link._socket.fileno()
    loop = bench.link._loop
    loop.remove_reader(fd)
    keys: list[AttemptKey] = []
    for _ in range(20):
        keys += bench.run([bench.order(make, "x") for _ in range(100)])
    sizes: list[int] = []

    def has_stopped() -> bool:
        sizes.append(log.stat().st_size if log.exists() else 0)
        return len(sizes) > 10 and 0 < sizes[-10] == sizes[-1]

    await wait_until_async(has_stopped, what="a slot that waits")
    assert sizes[-1] < len(keys)
    loop.add_reader(fd, bench.link._receive)
    for key in keys:
        assert len(bench.value_of(await bench.end_of(key))) == 50_000


async def test_a_process_that_cannot_be_killed_costs_the_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is traced from outside stays a zombie for its parent, as one in state D stays alive."""

    def leave() -> None:
        child = subprocess.Popen(["sleep", "60"])
        (tmp_path / "child").write_text(str(child.pid))
        wait_for(tmp_path / "go")

    quick = "from rota.worker.slots.functions import children; children.EMPTY_WITHIN_S = 0.1"
    monkeypatch.setattr(control, "_FUNCTION_PROGRAM", patched_program(quick, EMPTY_WITHIN_S=0.1, STRAY_PERIOD_S=0.05))
    async with function_bench(tmp_path) as bench:
        keys = bench.run([bench.order(leave), bench.order(same, 1)])
        await begun(tmp_path / "go")
        child = int((tmp_path / "child").read_text())
        with traced(child):
            (tmp_path / "go").touch()
            left, returned = [await bench.end_of(key) for key in keys]
            await wait_until_async(lambda: bench.troubles, what="the trouble")
        assert left.cause is Cause.AGENT_ERROR
        assert "could not be killed" in (left.message or "")
        assert returned.cause is Cause.RETURNED
        assert "its slot is not used again" in bench.troubles[0]
        await wait_until_async(lambda: is_gone(child), what="the end of the child")
