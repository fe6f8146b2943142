"""Attempts in real slots: how they end, what they leave behind, what becomes of their output."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from rota.core.model import AttemptKey, Cause, LaneId, TaskId, TaskSeq
from rota.core.protocol import Ended, Mark, OutputChunk, Started
from rota.core.spec import TaskSpec, encode_spec
from rota.worker.slots import source
from rota.worker.slots.base import Work
from rota.worker.slots.pool import SlotPool
from tests.support.waiting import wait_until_async

LIMIT = 64 << 10
"""Of output: small, so that tests of floods are quick."""


PUBLIC_SIGNALS = (1 << 31) - 1
"""A mask without the two that the C library keeps to itself, and always ignores in what it spawns."""


class Bench:
    """A pool, and all that it said."""

    def __init__(self, **options: Any) -> None:
        self.pool = SlotPool(events=self, worker_id="w1", **{"output_limit_bytes": LIMIT, "grace_s": 0.2, **options})
        self.started: dict[AttemptKey, Started] = {}
        self.ended: dict[AttemptKey, Ended] = {}
        self.order: list[AttemptKey] = []
        self.chunks: list[OutputChunk] = []
        self.quarantined: list[tuple[LaneId, str]] = []
        self._last = 0

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        self.chunks += output
        for start in started:
            self.started[start.task, start.attempt] = start
        for end in ended:
            key = (end.task, end.attempt)
            assert key not in self.ended, f"{key} ended twice"
            self.ended[key] = end
            self.order.append(key)

    def on_marks(self, marks: list[Mark]) -> None:
        pass

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        self.quarantined.append((lane, message))

    def work(self, *, lane: int = 1, devices: tuple[int, ...] = (), **fields: Any) -> Work:
        self._last += 1
        spec = encode_spec(TaskSpec(**fields))
        key = (TaskSeq(self._last), 1)
        return Work(key=key, lane=LaneId(lane), id=TaskId(f"t{self._last}"), spec=spec, devices=devices)

    def submit(self, *, lane: int = 1, devices: tuple[int, ...] = (), **fields: Any) -> AttemptKey:
        work = self.work(lane=lane, devices=devices, **fields)
        self.pool.run([work])
        return work.key

    async def end_of(self, key: AttemptKey) -> Ended:
        await wait_until_async(lambda: key in self.ended, what=f"the end of {key}")
        return self.ended[key]

    async def start_of(self, key: AttemptKey) -> Started:
        await wait_until_async(lambda: key in self.started, what=f"the start of {key}")
        return self.started[key]

    async def result(self, **fields: Any) -> Ended:
        return await self.end_of(self.submit(**fields))

    def output_of(self, key: AttemptKey, stream: str) -> list[OutputChunk]:
        return [chunk for chunk in self.chunks if (chunk.task, chunk.attempt) == key and chunk.stream == stream]

    @property
    def keeper(self) -> psutil.Process:
        (keeper,) = [child for child in psutil.Process().children() if child.name() == "rota-keeper"]
        return keeper

    def slots(self) -> list[psutil.Process]:
        return [child for child in self.keeper.children() if child.name() == "rota-slot"]


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Bench]:
    bench = Bench(**options)
    await bench.pool.start()
    try:
        yield bench
    finally:
        await bench.pool.close(kill=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running() as made:
        yield made


def are_gone(pids: list[int]) -> bool:
    """Whether not even a zombie is left of any."""
    return not any(psutil.pid_exists(pid) for pid in pids)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def pids_in(folder: Path, *, count: int) -> list[int]:
    """The pids that a task's processes left as names of files."""
    await wait_until_async(lambda: len(names_in(folder)) >= count, what=f"{count} files in {folder}")
    return [int(name) for name in names_in(folder)]


# How attempts end ------------------------------------------------------------------------


async def test_a_quick_success_says_when_it_ran_and_what_it_wrote(bench: Bench) -> None:
    before = time.time()
    end = await bench.result(shell="echo out; echo err >&2")
    assert (end.cause, end.exit_code, end.signal) == (None, 0, None)
    assert (end.stdout, end.stderr, end.stdout_bytes, end.stderr_bytes) == (b"out\n", b"err\n", 4, 4)
    assert end.started_at is not None
    assert before - 1 < end.started_at <= end.ended_at
    assert end.run_s == pytest.approx(end.ended_at - end.started_at, abs=1e-3)
    assert end.cpu_seconds is not None
    assert 0 < end.cpu_seconds < 5
    assert not bench.chunks


async def test_a_quick_attempt_reports_no_start_of_its_own(bench: Bench) -> None:
    await bench.result(command=["true"])
    assert not bench.started


async def test_an_attempt_that_goes_on_is_reported_as_started(bench: Bench) -> None:
    key = bench.submit(command=["sleep", "30"])
    start = await bench.start_of(key)
    assert start.at == pytest.approx(time.time(), abs=30)
    assert key not in bench.ended


async def test_exit_code_is_kept(bench: Bench) -> None:
    end = await bench.result(shell="exit 3")
    assert (end.cause, end.exit_code) == (Cause.EXIT, 3)


async def test_death_by_a_signal_names_the_signal(bench: Bench) -> None:
    end = await bench.result(shell="kill -SEGV $$")
    assert (end.cause, end.exit_code, end.signal) == (Cause.SIGNAL, None, signal.SIGSEGV)


async def test_a_kill_from_outside_is_not_taken_for_want_of_memory(bench: Bench) -> None:
    end = await bench.result(shell="kill -KILL $$")
    assert (end.cause, end.signal) == (Cause.SIGNAL, signal.SIGKILL)


async def test_a_line_runs_in_order_and_ends_each_once(bench: Bench) -> None:
    works = [bench.work(shell=f"exit {number % 2}") for number in range(100)]
    bench.pool.run(works)
    await bench.end_of(works[-1].key)
    assert bench.order == [work.key for work in works]
    assert [bench.ended[work.key].exit_code for work in works] == [0, 1] * 50


async def test_lanes_run_side_by_side_and_slots_are_used_again(bench: Bench) -> None:
    keys = [bench.submit(lane=lane, command=["sleep", "0.05"]) for lane in (1, 2)]
    starts = [await bench.end_of(key) for key in keys]
    assert max(end.started_at or 0 for end in starts) < min(end.ended_at for end in starts)
    slots = {slot.pid for slot in bench.slots()}
    for lane in range(3, 9):
        await bench.result(lane=lane, command=["true"])
    assert {slot.pid for slot in bench.slots()} == slots


# What can't be started -------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"command": ["no-such-program"]}, "no-such-program: no such program in PATH"),
        ({"command": ["/no/such/program"]}, "/no/such/program: no such program on this worker"),
        ({"command": ["/etc/passwd"]}, "/etc/passwd: is not executable"),
        ({"command": ["/tmp"]}, "/tmp: is not executable (or is a directory)"),
        ({"command": ["true"], "cwd": "/no/such/folder"}, "can't enter the working directory /no/such/folder"),
        ({"command": ["true"], "cwd": "/etc/passwd"}, "can't enter the working directory /etc/passwd"),
        ({"command": ["true", "x" * 200_000]}, "arguments and environment are larger than this system takes"),
        ({"command": ["true"], "env": {"PATH": "/etc"}}, "true: no such program in PATH (/etc)"),
        ({"code": "print(1)", "kind": "python"}, "this worker has no executor for 'python'"),
    ],
)
async def test_what_cannot_be_started_says_why(bench: Bench, fields: dict[str, Any], sentence: str) -> None:
    end = await bench.result(**fields)
    assert (end.cause, end.exit_code, end.started_at) == (Cause.LAUNCH_ERROR, None, None)
    assert sentence in (end.message or "")
    assert (await bench.result(command=["pwd"])).stdout.decode().strip() == str(Path.cwd())


async def test_a_script_without_a_first_line_says_what_it_needs(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hi\n")
    script.chmod(0o755)
    end = await bench.result(command=[str(script)])
    assert "needs a first line such as #!/bin/sh" in (end.message or "")


async def test_a_script_whose_interpreter_is_missing_says_so(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    end = await bench.result(command=[str(script)])
    assert "the interpreter" in (end.message or "")


# What a task is given --------------------------------------------------------------------


async def test_environment_is_a_short_base_and_what_the_task_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET", "secret")
    monkeypatch.setenv("TZ", "UTC")
    async with running() as bench:
        end = await bench.result(command=["env"], env={"MINE": "1", "ROTA_WORKER": "another"}, queue="nightly")
    found = dict(line.split("=", 1) for line in end.stdout.decode().splitlines())
    assert found["MINE"] == "1"
    assert found["TZ"] == "UTC"
    assert {name: text for name, text in found.items() if name.startswith("ROTA_")} == {
        "ROTA_TASK_ID": "t1",
        "ROTA_ATTEMPT": "1",
        "ROTA_WORKER": "w1",
        "ROTA_QUEUE": "nightly",
        "ROTA_PRIORITY": "50",
    }
    assert "secret" not in end.stdout.decode()
    assert "CUDA_VISIBLE_DEVICES" not in found


async def test_on_a_worker_with_gpus_a_task_sees_only_its_own() -> None:
    async with running(has_gpus=True) as bench:
        given = await bench.result(shell="echo [$CUDA_VISIBLE_DEVICES]", devices=(1, 3))
        none = await bench.result(shell="echo [$CUDA_VISIBLE_DEVICES]")
    assert (given.stdout, none.stdout) == (b"[1,3]\n", b"[]\n")


async def test_input_directory_and_signals_are_as_a_shell_would_give_them(bench: Bench, tmp_path: Path) -> None:
    assert (await bench.result(command=["cat"], stdin="some input")).stdout == b"some input"
    assert (await bench.result(command=["cat"])).stdout == b""
    assert (await bench.result(command=["pwd"], cwd=str(tmp_path))).stdout.decode().strip() == str(tmp_path)
    masks = (await bench.result(command=["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])).stdout.split()
    assert [int(mask, 16) & PUBLIC_SIGNALS for mask in masks[1::2]] == [0, 0]


async def test_a_task_has_no_descriptor_but_its_three_streams(bench: Bench) -> None:
    end = await bench.result(shell="ls /proc/$$/fd; true")
    assert end.stdout.split() == [b"0", b"1", b"2"]


# Output ----------------------------------------------------------------------------------


async def test_output_over_4_kib_comes_in_pieces_without_gaps(bench: Bench) -> None:
    key = bench.submit(shell="head -c 20000 /dev/zero; echo small >&2")
    end = await bench.end_of(key)
    assert (end.stdout_bytes, end.stdout, end.stderr_bytes, end.stderr) == (20000, b"", 6, b"")
    pieces = bench.output_of(key, "stdout")
    assert b"".join(piece.data for piece in pieces) == bytes(20000)
    assert [piece.data for piece in bench.output_of(key, "stderr")] == [b"small\n"]


async def test_output_is_handed_on_while_the_task_runs(bench: Bench) -> None:
    key = bench.submit(shell="echo first; exec sleep 30")
    await wait_until_async(lambda: bench.output_of(key, "stdout"), what="output")
    assert bench.output_of(key, "stdout")[0].data == b"first\n"
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=1.0)
    assert (await bench.end_of(key)).stdout == b"first\n"


async def test_of_too_much_output_the_first_and_the_last_part_are_kept(bench: Bench) -> None:
    count = 200_000
    key = bench.submit(command=["seq", str(count)])
    end = await bench.end_of(key)
    whole = "".join(f"{number}\n" for number in range(1, count + 1)).encode()
    assert end.stdout_bytes == len(whole)
    kept = 0
    for piece in bench.output_of(key, "stdout"):
        assert piece.data == whole[piece.offset : piece.offset + len(piece.data)]
        assert len(piece.data) <= 65536
        kept += len(piece.data)
    assert kept == LIMIT
    assert bench.output_of(key, "stdout")[0].offset == 0
    assert bench.output_of(key, "stdout")[-1].offset + len(bench.output_of(key, "stdout")[-1].data) == len(whole)


async def test_a_flood_takes_no_memory_and_delays_no_stop(bench: Bench) -> None:
    key = bench.submit(shell="yes & exec yes >&2")
    await bench.start_of(key)
    (slot,) = bench.slots()
    before = slot.memory_info().rss
    read = slot.io_counters().read_bytes
    await wait_until_async(lambda: slot.io_counters().read_chars > 100 << 20, what="a flood of 100 MiB")
    assert read >= 0
    assert slot.memory_info().rss - before < 4 << 20
    began = time.monotonic()
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=60.0)
    end = await bench.end_of(key)
    assert time.monotonic() - began < 30
    assert end.cause is Cause.CANCELLED
    assert end.stdout_bytes + end.stderr_bytes > 50 << 20


async def test_a_task_that_makes_its_output_non_blocking_does_not_spoil_the_next(bench: Bench) -> None:
    spoil = "import os; os.set_blocking(1, False)"
    await bench.result(command=["python3", "-c", spoil])
    end = await bench.result(command=["python3", "-c", "import os; print(os.get_blocking(1))"])
    assert end.stdout == b"True\n"


async def test_a_stalled_agent_blocks_no_slot(bench: Bench, tmp_path: Path) -> None:
    """While the loop of the agent stands still, a long line with much output is worked off."""
    done = tmp_path / "done"
    works = [bench.work(command=["head", "-c", "60000", "/dev/zero"]) for _ in range(20)]
    works.append(bench.work(command=["touch", str(done)]))
    bench.pool.run(works)
    await bench.start_of(bench.submit(lane=2, command=["sleep", "30"]))
    gives_up_at = time.monotonic() + 60
    while not done.exists() and time.monotonic() < gives_up_at:
        time.sleep(0.01)  # noqa: ASYNC251 - the stall is what is tested
    assert done.exists()
    await bench.end_of(works[-1].key)
    assert sum(len(chunk.data) for chunk in bench.chunks) == 20 * 60000


# Stopping --------------------------------------------------------------------------------


async def test_timeout_asks_first(bench: Bench) -> None:
    end = await bench.result(shell="trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done", timeout=0.5)
    assert (end.cause, end.exit_code, end.stdout) == (Cause.TIMEOUT, 0, b"bye\n")
    assert "timeout of 0.5 s" in (end.message or "")


async def test_what_ignores_the_request_is_killed_after_the_grace(bench: Bench) -> None:
    timeout_s = 0.7  # on a busy machine the shell takes its time to get to its trap
    end = await bench.result(shell="trap '' TERM; while :; do sleep 1; done", timeout=timeout_s)
    assert (end.cause, end.signal) == (Cause.TIMEOUT, signal.SIGKILL)
    assert timeout_s + 0.2 < end.run_s < timeout_s + 3


async def test_a_timeout_shorter_than_the_first_look_holds(bench: Bench) -> None:
    end = await bench.result(command=["sleep", "30"], timeout=0.001)
    assert end.cause is Cause.TIMEOUT
    assert end.run_s < 1


async def test_stop_names_its_cause(bench: Bench) -> None:
    key = bench.submit(command=["sleep", "30"])
    await bench.start_of(key)
    bench.pool.stop(key, cause=Cause.PREEMPTED, grace_s=5.0)
    end = await bench.end_of(key)
    assert (end.cause, end.signal) == (Cause.PREEMPTED, signal.SIGTERM)


async def test_a_second_stop_shortens_the_grace_and_keeps_the_cause(bench: Bench) -> None:
    key = bench.submit(shell="trap '' TERM; while :; do sleep 1; done")
    await bench.start_of(key)
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=60.0)
    bench.pool.stop(key, cause=Cause.PREEMPTED, grace_s=0.0)
    assert (await bench.end_of(key)).cause is Cause.CANCELLED


async def test_what_has_not_started_is_stopped_at_once_and_never_starts(bench: Bench, tmp_path: Path) -> None:
    first = bench.submit(command=["sleep", "30"])
    second = bench.submit(command=["touch", str(tmp_path / "ran")])
    await bench.start_of(first)
    bench.pool.stop(second, cause=Cause.CANCELLED, grace_s=1.0)
    end = await bench.end_of(second)
    assert (end.cause, end.started_at) == (Cause.CANCELLED, None)
    bench.pool.stop(first, cause=Cause.CANCELLED, grace_s=1.0)
    await bench.result(command=["true"])
    assert not names_in(tmp_path)


async def test_only_what_has_not_started_is_taken_back(bench: Bench) -> None:
    keys = [bench.submit(command=["sleep", "30"]) for _ in range(3)]
    await bench.start_of(keys[0])
    bench.pool.take_back(keys)
    assert [(await bench.end_of(key)).cause for key in keys[1:]] == [Cause.RETURNED] * 2
    assert keys[0] not in bench.ended


async def test_stopping_what_is_over_or_unknown_does_nothing(bench: Bench) -> None:
    end = await bench.result(command=["true"])
    bench.pool.stop((end.task, end.attempt), cause=Cause.CANCELLED, grace_s=1.0)
    bench.pool.take_back([(end.task, end.attempt), (TaskSeq(99), 1)])
    assert (await bench.result(command=["true"])).cause is None


async def test_closing_politely_waits_for_what_runs(bench: Bench) -> None:
    key = bench.submit(shell="sleep 0.1; echo done")
    await bench.pool.close(kill=False)
    assert bench.ended[key].stdout == b"done\n"
    assert not [child for child in psutil.Process().children() if child.name() == "rota-keeper"]


# The whole tree --------------------------------------------------------------------------

ESCAPEES = """
mark() { : > "$0/$$"; }
for _ in 1 2; do
  (setsid sh -c 'trap "" TERM INT HUP; : > "$0/$$"; while :; do sleep 1; done' "$0" &) &
done
"""
"""Two that double-fork, leave the session and ignore every request; ``$0`` takes their pids."""


def escaping(folder: Path, then: str) -> list[str]:
    return ["sh", "-c", ESCAPEES + then, str(folder)]


async def test_what_outlives_the_main_process_is_killed(bench: Bench, tmp_path: Path) -> None:
    wait = f"while [ $(ls {tmp_path} | wc -l) -lt 2 ]; do sleep 0.01; done; exit 4"
    end = await bench.result(command=escaping(tmp_path, wait))
    assert end.exit_code == 4
    assert are_gone(await pids_in(tmp_path, count=2))


async def test_escapees_are_gone_when_a_timeout_is_reported(bench: Bench, tmp_path: Path) -> None:
    key = bench.submit(command=escaping(tmp_path, "sleep 30"))
    pids = await pids_in(tmp_path, count=2)
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=0.1)
    assert (await bench.end_of(key)).cause is Cause.CANCELLED
    assert are_gone(pids)


async def test_a_killed_slot_costs_its_attempt_and_nothing_of_it_remains(bench: Bench, tmp_path: Path) -> None:
    running_key = bench.submit(command=escaping(tmp_path, "sleep 30"))
    waiting_key = bench.submit(command=["true"])
    pids = await pids_in(tmp_path, count=2)
    (slot,) = bench.slots()
    slot.kill()
    end = await bench.end_of(running_key)
    assert (end.cause, end.message) == (Cause.AGENT_ERROR, "the slot process was killed by signal 9")
    assert are_gone(pids)
    assert (await bench.end_of(waiting_key)).cause is Cause.RETURNED
    assert (await bench.result(command=["true"])).cause is None


async def test_a_killed_idle_slot_is_replaced(bench: Bench) -> None:
    await bench.result(command=["true"])
    (slot,) = bench.slots()
    slot.kill()
    await wait_until_async(lambda: not bench.slots(), what="the end of the slot")
    end = await bench.result(command=["true"])
    assert end.cause in {None, Cause.AGENT_ERROR}
    assert (await bench.result(command=["true"])).cause is None


async def test_when_the_keeper_dies_what_runs_goes_on_and_new_slots_come_from_the_next(bench: Bench) -> None:
    key = bench.submit(shell="sleep 0.3; echo done")
    await bench.start_of(key)
    first = bench.keeper
    first.kill()
    other = bench.submit(lane=2, command=["true"])
    assert (await bench.end_of(key)).stdout == b"done\n"
    assert (await bench.end_of(other)).cause in {None, Cause.RETURNED}
    assert (await bench.result(lane=3, command=["true"])).cause is None
    assert bench.keeper.pid != first.pid


async def test_nothing_is_left_when_the_agent_closes(tmp_path: Path) -> None:
    async with running() as bench:
        bench.submit(command=escaping(tmp_path, "sleep 30"))
        pids = await pids_in(tmp_path, count=2)
        ours = [bench.keeper, *bench.slots()]
    assert are_gone(pids)
    assert not [process for process in ours if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


# Memory ----------------------------------------------------------------------------------

FILL = "import time; data = bytearray({mib} << 20); print('filled', flush=True); time.sleep({s})"


async def test_a_tree_over_its_memory_is_killed_and_told_both_figures(bench: Bench) -> None:
    child = ["python3", "-c", FILL.format(mib=150, s=30)]
    end = await bench.result(shell=f"{' '.join(map(repr, child))} & wait", resources={"memory": 100})
    assert end.cause is Cause.OOM
    assert "its limit is 100 MiB" in (end.message or "")
    assert end.peak_memory_kib is not None
    assert end.peak_memory_kib > 100 << 10


async def test_peak_memory_is_of_the_task_and_never_of_the_slot(bench: Bench) -> None:
    assert (await bench.result(command=["true"])).peak_memory_kib is None
    large = await bench.result(command=["python3", "-c", FILL.format(mib=60, s=0)])
    assert large.peak_memory_kib is not None
    assert 60 << 10 < large.peak_memory_kib < 90 << 10
    small = await bench.result(command=["sleep", "0.3"])
    assert small.peak_memory_kib is not None
    assert small.peak_memory_kib < 6 << 10


async def test_slots_are_small(bench: Bench) -> None:
    await bench.result(command=["true"])
    for process in (bench.keeper, *bench.slots()):
        assert process.memory_info().rss < 12 << 20


async def test_cpu_time_is_of_the_whole_tree(bench: Bench) -> None:
    burn = "python3 -c 'import time\nwhile time.process_time() < 0.15: pass'"
    end = await bench.result(shell=f"{burn} & {burn}; wait")
    assert end.cpu_seconds is not None
    assert end.cpu_seconds > 0.3


async def test_a_service_stop_of_the_whole_group_leaves_slots_to_the_agent(bench: Bench) -> None:
    key = bench.submit(shell="sleep 0.2; echo done")
    await bench.start_of(key)
    for process in (bench.keeper, *bench.slots()):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(process.pid, number)
    assert (await bench.end_of(key)).stdout == b"done\n"


async def test_slots_that_stay_idle_are_let_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [bench.submit(lane=lane, command=["true"]) for lane in (1, 2)]
    for key in keys:
        await bench.end_of(key)
    assert len(bench.slots()) == 2
    bench.pool._trim()
    assert len(bench.slots()) == 2
    monkeypatch.setattr(source, "IDLE_S_MAX", 0.0)
    bench.pool._trim()
    await wait_until_async(lambda: not bench.slots(), what="idle slots to leave")
    assert (await bench.result(command=["true"])).cause is None


async def test_many_lanes_at_once_are_served(bench: Bench) -> None:
    works = [bench.work(lane=lane, command=["true"]) for lane in range(30)]
    bench.pool.run(works)
    await asyncio.gather(*(bench.end_of(work.key) for work in works))
    assert {end.cause for end in bench.ended.values()} == {None}
