"""Functions in a real slot: what goes in, what comes out, what they are told and what they leave behind."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import rota.functions.context
from rota.core.model import Cause
from rota.functions.envelope import INLINE_BYTES_MAX
from tests.support.disks import fill, small_disk
from tests.support.function_slots import FunctionBench, function_bench
from tests.support.waiting import wait_until_async

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[FunctionBench]:
    async with function_bench(tmp_path) as made:
        yield made


def add(first: int, second: int = 0) -> int:
    return first + second


def say(number: int) -> int:
    print(f"out {number}")
    print(f"err {number}", file=sys.stderr, end="")
    return number


def read(path: str) -> bytes:
    return Path(path).read_bytes()


# Values ----------------------------------------------------------------------------------


async def test_a_function_is_called_and_its_result_comes_back(bench: FunctionBench) -> None:
    before = time.time()
    end = await bench.result(add, 3, second=4)
    assert bench.value_of(end) == 7
    assert (end.exit_code, end.signal, end.stdout_bytes, end.message, end.blobs) == (None, None, 0, None, ())
    assert end.started_at is not None
    assert before - 1 < end.started_at <= end.ended_at
    assert end.run_s == pytest.approx(end.ended_at - end.started_at, abs=1e-3)
    assert not bench.started


@pytest.mark.parametrize("value", [None, True, 1.5, "text", b"\0bytes", (1, [2]), {"a": {3}}, np.float64(2.5)])
async def test_values_come_back_as_they_were(bench: FunctionBench, value: object) -> None:
    assert await bench.value(lambda given: given, value) == value


async def test_a_pair_that_looks_like_a_call_is_told_from_one(bench: FunctionBench) -> None:
    assert await bench.value(lambda *args, **kwargs: (args, kwargs), (1,), {"a": 2}) == (((1,), {"a": 2}), {})


async def test_many_calls_end_in_order_and_share_reports(bench: FunctionBench) -> None:
    keys = bench.run([bench.order(add, number, 1) for number in range(3000)])
    ends = [await bench.end_of(key) for key in keys]
    assert [bench.value_of(end) for end in ends] == list(range(1, 3001))
    assert bench.order_of_ends == keys
    assert bench.reports < 1000


async def test_large_arguments_can_be_written_to_and_leave_the_blob_alone(bench: FunctionBench) -> None:
    array = np.arange(100_000)

    def overwrite(given: Any) -> int:
        given[:] = 7
        return int(given.sum())

    order = bench.order(overwrite, array)
    blobs = (order[7] or {})["blobs"]
    assert isinstance(blobs, dict)
    (path,) = blobs.values()
    content = read(path)
    (key,) = bench.run([order])
    assert bench.value_of(await bench.end_of(key)) == 700_000
    assert read(path) == content
    assert await bench.value(lambda given: int(given.sum()), array) == int(array.sum())


async def test_small_arrays_can_be_written_to(bench: FunctionBench) -> None:
    def overwrite(given: Any) -> Any:
        given[0] = 9
        return given

    assert list(await bench.value(overwrite, np.zeros(3))) == [9, 0, 0]


async def test_large_results_are_blobs(bench: FunctionBench) -> None:
    end = await bench.result(lambda: np.ones(1 << 20))
    assert len(end.value) < 100
    array = bench.value_of(end)
    assert array.nbytes == 8 << 20
    assert array.sum() == 1 << 20
    assert not list((bench.blob_dir / "incoming").iterdir())


async def test_a_result_that_is_there_already_is_kept_and_touched(bench: FunctionBench) -> None:
    make = bytes, 200_000
    (digest,) = (await bench.result(*make)).blobs
    path = bench.blob_dir / digest[:2] / digest
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert (await bench.result(*make)).blobs == (digest,)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1e9


async def test_results_up_to_the_limit_travel_inline(bench: FunctionBench) -> None:
    sizes = [INLINE_BYTES_MAX - 100, INLINE_BYTES_MAX + 100]
    ends = [await bench.result(bytes, size) for size in sizes]
    assert [bool(end.blobs) for end in ends] == [False, True]
    assert [bench.value_of(end) for end in ends] == [bytes(size) for size in sizes]


async def test_more_inline_results_than_the_ring_holds(bench: FunctionBench) -> None:
    keys = bench.run([bench.order(lambda number: bytes([number]) * 60_000, number) for number in range(60)])
    assert [bench.value_of(await bench.end_of(key))[0] for key in keys] == list(range(60))


async def test_a_full_disk_is_told_and_harms_nobody_else(bench: FunctionBench, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=2) as disk:
        fill(disk)
        end = await bench.result(bytes, 1 << 20, blob_dir=disk)
        assert end.cause is Cause.AGENT_ERROR, "another worker may have room"
        assert (
            end.message == "the result of 1,048,586 bytes could not be written on this worker: No space left on device"
        )
        assert isinstance(bench.failure_of(end)[0], OSError)
    assert await bench.value(add, 1) == 1


async def test_a_worker_without_a_place_for_blobs_says_so(bench: FunctionBench) -> None:
    end = await bench.result(bytes, 1 << 20, extras={"blob_dir": None})
    assert end.cause is Cause.ERROR
    assert "this worker has no place for more than 65,536" in (end.message or "")


async def test_a_result_over_the_limit_names_its_size(bench: FunctionBench) -> None:
    def make() -> object:
        from rota.worker.slots.functions import values  # noqa: PLC0415 - in the runner

        values.VALUE_BYTES_MAX = 100_000  # type: ignore[misc] # as if this were a gigabyte
        return bytes(200_000)

    end = await bench.result(make)
    assert end.cause is Cause.ERROR
    assert end.message is not None
    assert end.message.startswith("the result has 200,0")
    assert "at most 100,000 can be sent back" in end.message


# Failures --------------------------------------------------------------------------------


async def test_what_a_function_raises_comes_back_with_its_traceback(bench: FunctionBench) -> None:
    def divide() -> float:
        return 1 / 0

    end = await bench.result(divide)
    error, text = bench.failure_of(end)
    assert (end.cause, end.message) == (Cause.ERROR, "ZeroDivisionError: division by zero")
    assert isinstance(error, ZeroDivisionError)
    assert "in divide" in text
    assert "runner.py" not in text


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), StopIteration()], ids=repr)
async def test_what_ends_programs_ends_only_the_call(bench: FunctionBench, raised: BaseException) -> None:
    def leave() -> None:
        raise raised

    runner = await bench.value(os.getpid)
    end = await bench.result(leave)
    assert end.cause is Cause.ERROR
    assert isinstance(bench.failure_of(end)[0], type(raised))
    assert await bench.value(os.getpid) == runner


async def test_a_failure_too_large_to_travel_is_told_in_words(bench: FunctionBench) -> None:
    def fail() -> None:
        raise ValueError(b"x" * 100_000)

    end = await bench.result(fail)
    assert end.cause is Cause.ERROR
    assert len(end.value) <= INLINE_BYTES_MAX
    error, text = bench.failure_of(end)
    assert error is None
    assert text.startswith("Traceback")


async def test_a_long_message_is_shortened_and_its_exception_still_raised(bench: FunctionBench) -> None:
    def fail() -> None:
        raise KeyError("x" * 200_000, 7)

    end = await bench.result(fail)
    error, _ = bench.failure_of(end)
    assert isinstance(error, KeyError)
    assert error.args == ("x" * 4_000 + "… (196,000 more characters)", 7)


async def test_a_missing_module_is_named(bench: FunctionBench) -> None:
    path = bench.blob_dir / "function"
    path.write_bytes(b"cno_such_module\nfunction\n.")
    order = bench.order(add, 1)
    (key,) = bench.run([(*order[:2], str(path), *order[3:])])
    end = await bench.end_of(key)
    assert end.cause is Cause.ERROR
    assert "the module 'no_such_module' is not installed there" in (end.message or "")
    assert isinstance(bench.failure_of(end)[0], ModuleNotFoundError)


async def test_arguments_that_cannot_be_loaded_say_so(bench: FunctionBench) -> None:
    order = bench.order(add, 1)
    (key,) = bench.run([(*order[:3], b"\0cno_such_module\nthing\n.", *order[4:])])
    end = await bench.end_of(key)
    assert end.cause is Cause.ERROR
    assert (end.message or "").startswith("the arguments can't be loaded on this worker: the module 'no_such_module'")


@pytest.mark.parametrize("envelope", [b"", b"\7abc", b"\1\0", b"\0", b"\2short"], ids=repr)
async def test_garbled_arguments_are_an_error_of_the_call(bench: FunctionBench, envelope: bytes) -> None:
    order = bench.order(add, 1)
    (key,) = bench.run([(*order[:3], envelope, *order[4:])])
    assert (await bench.end_of(key)).cause is Cause.ERROR
    assert await bench.value(add, 1) == 1


async def test_a_function_file_that_is_gone_is_the_workers_fault(bench: FunctionBench, tmp_path: Path) -> None:
    order = bench.order(add, 1)
    (key,) = bench.run([(*order[:2], str(tmp_path / "gone"), *order[3:])])
    end = await bench.end_of(key)
    assert end.cause is Cause.AGENT_ERROR
    assert end.message == "the function can't be read on this worker: No such file or directory"


async def test_a_blob_that_did_not_come_is_the_workers_fault(bench: FunctionBench) -> None:
    order = bench.order(add, bytes(100_000))
    (key,) = bench.run([(*order[:7], {})])
    end = await bench.end_of(key)
    assert end.cause is Cause.AGENT_ERROR
    assert "of the arguments did not come with the task" in (end.message or "")


async def test_a_result_that_cannot_be_pickled_names_what_it_is(bench: FunctionBench) -> None:
    end = await bench.result(threading.Lock)
    assert end.cause is Cause.ERROR
    assert (end.message or "").startswith("the result, of type lock, can't be sent back: TypeError: cannot pickle")


async def test_a_result_that_cannot_be_pickled_says_what_to_do_instead(bench: FunctionBench) -> None:
    async def wait() -> int:
        return 1

    def count() -> Iterator[int]:
        yield 1

    for function, advice in ((wait, "let a function call it with asyncio.run()"), (count, "return a list of what")):
        end = await bench.result(function)
        error, _ = bench.failure_of(end)
        assert isinstance(error, TypeError)
        assert advice in str(error) == end.message
        assert end.stderr_bytes == 0


async def test_objects_of_classes_that_came_with_the_function_come_back(bench: FunctionBench) -> None:
    def make() -> object:
        class Point:
            x = 3

        return Point()

    assert (await bench.value(make)).x == 3


# What a function is told ---------------------------------------------------------------------


async def test_a_function_knows_its_task(bench: FunctionBench) -> None:
    def ask() -> tuple[object, ...]:
        task = rota.functions.context.current()
        return task.id, task.attempt, task.queue, task.worker, task.is_cancelled

    keys = bench.run([bench.order(ask) for _ in range(3)])
    found = [bench.value_of(await bench.end_of(key)) for key in keys]
    assert found == [(f"t{key[0]}", 1, "night", "w1", False) for key in keys]


async def test_progress_is_told_the_last_of_a_moment(bench: FunctionBench, tmp_path: Path) -> None:
    def work() -> None:
        task = rota.functions.context.current()
        for step in range(1000):
            task.set_progress(step / 1000, f"step {step}")
        while not (tmp_path / "go").exists():
            time.sleep(0.01)

    key = bench.submit(work)
    await wait_until_async(lambda: bench.marks and bench.marks[-1].fraction == 0.999, what="the last mark")
    assert bench.marks[-1].text == "step 999"
    assert len(bench.marks) < 10
    assert {(mark.task, mark.attempt) for mark in bench.marks} == {key}
    (tmp_path / "go").touch()
    await bench.end_of(key)


async def test_progress_of_a_quick_call_is_nobodys_else(bench: FunctionBench) -> None:
    def quick() -> None:
        rota.functions.context.current().set_progress(0.5)

    keys = bench.run([bench.order(quick), bench.order(time.sleep, 0.2)])
    await bench.end_of(keys[1])
    assert not [mark for mark in bench.marks if mark.task == keys[1][0]]


async def test_env_and_cwd_hold_for_one_call(bench: FunctionBench, tmp_path: Path) -> None:
    def look() -> tuple[object, ...]:
        return os.environ.get("BASE"), os.environ.get("MORE"), os.getcwd()

    (tmp_path / "there").mkdir()
    extras: dict[str, object] = {"env": {"MORE": "more", "BASE": "other"}, "cwd": str(tmp_path / "there")}
    keys = bench.run([bench.order(look), bench.order(look, extras=extras), bench.order(look)])
    first, second, third = [bench.value_of(await bench.end_of(key)) for key in keys]
    assert first == third == ("given", None, os.getcwd())
    assert second == ("other", "more", str(tmp_path / "there"))


async def test_a_directory_that_cannot_be_entered_is_a_launch_error(bench: FunctionBench, tmp_path: Path) -> None:
    end = await bench.result(add, 1, extras={"cwd": str(tmp_path / "nowhere")})
    assert end.cause is Cause.LAUNCH_ERROR
    assert end.message == f"can't enter the working directory {tmp_path}/nowhere: No such file or directory"


async def test_the_process_looks_like_a_program_of_the_users(bench: FunctionBench) -> None:
    def look() -> tuple[object, ...]:
        main = sys.modules["__main__"]
        public = sorted(name for name in vars(main) if not name.startswith("__"))
        return sys.argv, public, sys.stdin.read(), sorted(os.environ), os.getpid() == os.getsid(0)

    argv, names, read, environment, is_leader = await bench.value(look)
    assert (argv, names, read, is_leader) == ([""], [], "", True)
    assert set(environment) - {"LC_CTYPE"} == {"PATH", "BASE"}


async def test_only_what_every_environment_has_is_loaded(bench: FunctionBench) -> None:
    loaded = set(await bench.value(lambda: list(sys.modules)))
    assert "cloudpickle" in loaded
    assert not loaded & {"msgspec", "structlog", "psutil", "asyncio", "rota.core.model", "rota.worker.slots.base"}


async def test_functions_import_from_where_the_worker_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files there take no names from Python and from us."""
    for name in ("mine", "socket", "rota", "cloudpickle"):
        (tmp_path / f"{name}.py").write_text(f"NAME = {name!r}")
    monkeypatch.chdir(tmp_path)

    def look() -> list[str]:
        import mine  # type: ignore[import-not-found] # noqa: PLC0415 - there, not here

        return [mine.NAME, *sys.path]

    async with function_bench(tmp_path) as bench:
        name, first, *others = await bench.value(look)
    assert (name, first) == ("mine", str(tmp_path))
    assert len(others) == len(set(others))


async def test_a_function_is_loaded_once(bench: FunctionBench) -> None:
    def count() -> int:
        seen.append(1)
        return len(seen)

    seen: list[int] = []
    keys = bench.run([bench.order(count) for _ in range(3)])
    assert [bench.value_of(await bench.end_of(key)) for key in keys] == [1, 2, 3]


# Output ----------------------------------------------------------------------------------


async def test_output_belongs_to_the_call_that_wrote_it(bench: FunctionBench) -> None:
    def by_number(number: int) -> None:
        match number % 5:
            case 0:
                say(number)
            case 1:
                os.write(1, f"raw {number}".encode())
            case 2:
                subprocess.run(["echo", f"child {number}"], check=True)
            case 3:
                ctypes.CDLL(None).printf(b"c %d\n", number)

    keys = bench.run([bench.order(by_number, number) for number in range(200)])
    for number, key in enumerate(keys):
        end = await bench.end_of(key)
        out, err = [
            (f"out {number}\n", f"err {number}"),
            (f"raw {number}", ""),
            (f"child {number}\n", ""),
            (f"c {number}\n", ""),
            ("", ""),
        ][number % 5]
        assert (end.stdout.decode(), end.stderr.decode()) == (out, err)
        assert (end.stdout_bytes, end.stderr_bytes) == (len(out), len(err))
    assert not bench.chunks


async def test_output_of_long_and_short_calls_is_told_apart(bench: FunctionBench) -> None:
    """The slot reads while a call is watched, the runner at its end: each byte is one call's all the same."""

    def write(number: int) -> None:
        for part in range(3):
            os.write(1, f"{number}:{part};".encode())
            time.sleep(0.012 if number % 2 else 0)

    keys = bench.run([bench.order(write, number) for number in range(60)])
    for number, key in enumerate(keys):
        end = await bench.end_of(key)
        assert end.stdout == "".join(f"{number}:{part};" for part in range(3)).encode()


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
async def test_large_output_comes_in_chunks(bench: FunctionBench, pause_s: float) -> None:
    def write(letter: str) -> None:
        sys.stdout.write(letter * 50_000)
        time.sleep(pause_s)
        sys.stdout.write(letter * 50_000)

    keys = bench.run([bench.order(write, letter) for letter in "abc"])
    for letter, key in zip("abc", keys, strict=True):
        end = await bench.end_of(key)
        assert (end.stdout_bytes, end.stdout) == (100_000, b"")
        assert bench.output_of(key, "stdout") == letter.encode() * 100_000


async def test_a_flood_is_bounded(bench: FunctionBench) -> None:
    def write() -> None:
        for _ in range(100):
            sys.stdout.write("x" * 99_999 + "\n")

    end = await bench.result(write)
    assert end.stdout_bytes == 10_000_000
    assert sum(len(chunk.data) for chunk in bench.chunks) <= 256 << 10


async def test_what_is_printed_can_be_followed(bench: FunctionBench, tmp_path: Path) -> None:
    def write() -> None:
        print("begun")
        while not (tmp_path / "go").exists():
            time.sleep(0.01)

    key = bench.submit(write)
    await wait_until_async(lambda: bench.chunks, what="output")
    (tmp_path / "go").touch()
    end = await bench.end_of(key)
    assert (bench.chunks[0].data, end.stdout) == (b"begun\n", b"begun\n")


async def test_warnings_that_are_logged_are_output(bench: FunctionBench) -> None:
    end = await bench.result(lambda: logging.getLogger("mine").warning("look out"))
    assert end.stderr == b"look out\n"


@pytest.mark.parametrize("spoil", ["sys.stdout.close()", "sys.stdout = None", "sys.stdout = io.StringIO()"])
async def test_a_spoilt_stream_is_whole_for_the_next_call(bench: FunctionBench, spoil: str) -> None:
    def do() -> None:
        import io  # noqa: PLC0415 - for the code that is run

        exec(spoil, {"sys": sys, "io": io})

    await bench.result(do)
    assert (await bench.result(say, 5)).stdout == b"out 5\n"


async def test_a_non_blocking_stdout_is_blocking_for_the_next_long_call(bench: FunctionBench) -> None:
    def spoil() -> None:
        os.set_blocking(1, False)
        time.sleep(0.1)

    await bench.result(spoil)
    assert await bench.value(os.get_blocking, 1)


# Concurrency inside ----------------------------------------------------------------------------


async def test_functions_may_use_threads_and_event_loops(bench: FunctionBench) -> None:
    def work() -> int:
        async def inner() -> int:
            return await asyncio.to_thread(add, 2, 3)

        return asyncio.run(inner())

    assert await bench.value(work) == 5


async def test_a_copy_that_a_function_forks_calls_nothing_else(bench: FunctionBench) -> None:
    def fork() -> int:
        return os.fork()

    keys = bench.run([bench.order(fork), bench.order(os.getpid), bench.order(os.getpid)])
    values = [bench.value_of(await bench.end_of(key)) for key in keys]
    assert values[0] > 0
    assert values[1] == values[2] == bench.runner.pid


async def test_an_orders_pickle_may_be_large(bench: FunctionBench) -> None:
    """Chunks of many sizes through one socket."""
    sizes = [0, 10, 60_000, 5, 60_000, 60_000, 1]
    keys = [bench.submit(len, bytes(size)) for size in sizes * 10]
    assert [bench.value_of(await bench.end_of(key)) for key in keys] == sizes * 10


async def test_a_failing_reduction_is_an_error(bench: FunctionBench) -> None:
    def make() -> object:
        class Bad:
            def __reduce__(self) -> Any:
                raise pickle.PicklingError("never")

        return Bad()

    end = await bench.result(make)
    assert (end.message or "").endswith("can't be sent back: _pickle.PicklingError: never")
