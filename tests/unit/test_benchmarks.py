"""What benchmarks compute from what they measure: a wrong figure looks like any other."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from benchmarks import harness, hot_spots, lanes, peers, processes, sleepers, work
from benchmarks.functions import ledger
from benchmarks.harness import Result, file_system_of, median_of, percentile, show
from benchmarks.peers import Report, find_peers, parse_report
from benchmarks.processes import children_of, cpu_by_part, parse_stat, spent
from benchmarks.relay import bare_commit_ms, bare_relay_ms

MOUNTS = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n/dev/vda /tmp btrfs rw 0 0\n"

BURN = "import time\nwhile time.thread_time() < 0.1: pass\n"

COORDINATOR = f"""
import threading
def write():
    open("/proc/thread-self/comm", "w").write("store-writer")
    exec({BURN!r})
    done.set()
    threading.Event().wait()
done = threading.Event()
threading.Thread(target=write, daemon=True).start()
done.wait()
{BURN}
"""


@pytest.mark.parametrize("module", [harness, hot_spots, processes, sleepers], ids=lambda module: module.__name__)
def test_examples_in_docstrings_are_right(module: object) -> None:
    found = doctest.testmod(sys.modules[getattr(module, "__name__", "")])
    assert found.attempted
    assert not found.failed


# Who uses the processor -----------------------------------------------------------------------


def test_stat_of_a_process_with_any_name_is_read() -> None:
    line = "12 (a) b (c) R 7 12 12 0 -1 4 1 2 3 4 10 20 30 40 20 0 1 0"
    found = parse_stat(line, tick_s=0.01)
    assert (found.name, found.parent) == ("a) b (c", 7)
    assert (found.cpu_s, found.reaped_cpu_s) == pytest.approx((0.3, 0.7))


def test_own_children_are_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of(os.getpid())
        child.communicate(b"\n")
    assert child.pid not in children_of(os.getpid())


def test_process_that_is_gone_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert children_of(child.pid) == []
    assert not {part for part in cpu_by_part(child.pid, os.getpid()) if not part.startswith("client")}


@contextmanager
def cluster_of_two() -> Iterator[int]:
    """A coordinator that worked in two threads, and an agent whose only keeper worked and ended."""
    wait = "print(flush=True)\nimport sys\nsys.stdin.read()\n"
    agent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n{wait}"
    parent = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {COORDINATOR + wait!r}, 'coordinator'])\n"
        f"subprocess.Popen([sys.executable, '-c', {agent!r}])\n"
        "sys.stdin.close()\n"
        "import os\n"
        "while True:\n"
        "    try: os.wait()\n"
        "    except ChildProcessError: break\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for _ in range(2):
            process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_time_is_told_by_part_also_of_what_ended() -> None:
    with cluster_of_two() as pid:
        used = cpu_by_part(pid, os.getpid())
    assert used["coordinator, loop"] >= 0.09
    assert used["coordinator, store's writer"] >= 0.09
    assert used["coordinator, other threads"] <= 0.03
    assert used["keepers"] >= 0.09
    assert used["client, calling thread"] > 0.0
    assert used["runners"] == 0.0


def test_time_spent_is_the_difference_and_never_negative() -> None:
    assert spent({"a": 1.0, "b": 2.0, "gone": 1.0}, {"a": 1.5, "b": 1.0, "new": 3.0}) == {
        "a": 0.5,
        "b": 0.0,
        "new": 3.0,
    }


def test_ledger_adds_up() -> None:
    spans = [{"agents": 1.0, "slots": 0.5}, {"agents": 1.0}]
    lines = {
        line.name.removeprefix("  processor: "): line.value
        for line in ledger(spans, tasks=1_000_000, busy_s=4.0, seconds=3.0)
    }
    assert (lines["agents"], lines["slots"], lines["keepers"]) == (2.0, 0.5, 0.0)
    assert lines["all of these"] == 2.5
    assert lines["kernel threads and other programs"] == 1.5
    assert lines["two cores offered"] == 6.0


# Figures --------------------------------------------------------------------------------------


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 501)]
    assert percentile(values, 0.99) == 495.0
    assert percentile(values, 1.0) == 500.0
    assert percentile([7.0], 0.99) == 7.0


def test_table_shows_median_spread_and_goal(capsys: pytest.CaptureFixture[str]) -> None:
    show([median_of("rate", [3.0, 1.0, 2000.0], "tasks/s", goal="60,000"), Result(name="one", value=12345.6, unit="s")])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["rate", "3", "tasks/s", "1", "…", "2,000", "goal", "60,000"]
    assert second.split() == ["one", "12,346", "s"]


@pytest.mark.parametrize(
    "path,kind", [("/var/x", "ext4"), ("/tmp/x", "btrfs"), ("/tmp/disk/x", "xfs"), ("/tmpfoo", "ext4")]
)
def test_file_system_is_that_of_the_deepest_mount_that_is_not_hidden(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


def test_greedy_needs_no_less_than_the_sum_and_the_longest() -> None:
    naps = lanes.mixed_naps(1_000)
    needed_s = sleepers.greedy_s(naps, 64)
    assert needed_s >= sum(naps) / 64
    assert needed_s <= sum(naps) / 64 + max(naps)
    assert sleepers.greedy_s([5.0, *[0.1] * 10], lanes=4) == 5.0


def test_mixed_naps_are_the_same_each_time_and_within_bounds() -> None:
    naps = lanes.mixed_naps(5_000)
    assert naps == lanes.mixed_naps(5_000)
    assert 0.0 <= min(naps) < 0.001
    assert 0.049 < max(naps) <= 0.05


def test_functions_travel_by_value() -> None:
    """A worker that can't import this package must be able to run them."""
    script = "import pickle, sys\nprint(pickle.load(sys.stdin.buffer)(b'\\x04ab'))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        input=cloudpickle.dumps(work.flip_bytes),
        stdout=subprocess.PIPE,
        check=True,
        cwd="/",
    )
    assert done.stdout.strip() == b"b'\\x05ab'"


def test_flipped_values_differ_from_their_arguments_and_flip_back() -> None:
    array = np.arange(256, dtype=np.uint8)
    assert not np.array_equal(work.flip_array(array), array)
    assert np.array_equal(work.flip_array(work.flip_array(array)), array)
    assert work.flip_bytes(work.flip_bytes(b"abc")) == b"abc" != work.flip_bytes(b"abc")


def test_bare_parts_of_a_round_trip_can_be_measured() -> None:
    median_ms, tail_ms = bare_relay_ms(20)
    assert 0.0 < median_ms <= tail_ms
    median_ms, tail_ms = bare_commit_ms(5)
    assert 0.0 < median_ms <= tail_ms


# Peers ----------------------------------------------------------------------------------------


def test_report_is_the_last_line_that_is_one() -> None:
    lines = [json.dumps({"tasks_per_s": rate, "p50_ms": 2, "p99_ms": 3}) for rate in (1, 9.5)]
    output = "\n".join(["warming up", *lines, '{"a": 1}', "bye", "[1]"])
    assert parse_report(output) == Report(9.5, 2.0, 3.0)


@pytest.mark.parametrize("output", ["", "Traceback …", '{"tasks_per_s": null, "p50_ms": 1, "p99_ms": 1}', "[]\n{}\n3"])
def test_output_without_a_report_gives_none(output: str) -> None:
    assert parse_report(output) is None


def test_peers_are_those_with_script_and_interpreter(tmp_path: Path) -> None:
    assert find_peers({}) == []
    assert find_peers({"PEERS_DIR": str(tmp_path)}) == []
    for script in ("huey_noop.py", "arq_noop.py", "rq_noop.py"):
        (tmp_path / script).touch()
    found = find_peers({"PEERS_DIR": str(tmp_path), "PEERS_PYTHON": sys.executable})
    assert [peer.name for peer in found] == ["huey", "rq", "rq, forking"]


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEERS_DIR", str(tmp_path))
    monkeypatch.setenv("PEERS_PYTHON", sys.executable)
    return tmp_path


def test_script_of_a_peer_is_run_with_its_number_of_tasks(scripts: Path) -> None:
    (scripts / "x.py").write_text(
        "import json, sys\nprint(json.dumps({'tasks_per_s': int(sys.argv[1]), 'p50_ms': len(sys.argv), 'p99_ms': 2}))"
    )
    assert peers.run_peer(peers.Peer("x", "x.py", 10, ("extra",)), 7) == Report(7.0, 3.0, 2.0)


def test_script_that_fails_is_left_out_and_told_of(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scripts / "x.py").write_text("raise SystemExit(3)")
    assert peers.run_peer(peers.Peer("x", "x.py", 10), 7) is None
    assert capsys.readouterr().out == "x is left out: x.py ended with 3, without a result\n"


def test_script_that_hangs_is_stopped(
    scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "TIMEOUT_S", 0.5)
    (scripts / "x.py").write_text("import time\ntime.sleep(60)")
    assert peers.run_peer(peers.Peer("x", "x.py", 10), 7) is None
    assert "x is left out" in capsys.readouterr().out
