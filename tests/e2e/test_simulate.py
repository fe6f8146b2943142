"""``rota simulate`` as a user types it: no cluster, a scenario, a trace, and a cluster's own history."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Rota, running_cluster

SCENARIO = """
workers:
  - {count: 4, cpu: 4000}
  - {name: big, cpu: 16000, memory: 64000, tags: [big]}
load:
  - {arrivals: bursty, mix: cpu, rate: 1, tasks: 60, mean_duration: 4}
  - {trace: jobs.csv, queue: traced}
ordering: fair
queues: {traced: {weight: 2}}
faults: [{kind: crash, at: 10, for: 5, worker: w2}]
"""

JOBS = "at,seconds,cpu,tags\n0,3,8000,big\n5,1,1000,\n"


@pytest.fixture
def rota(tmp_path: Path) -> Rota:
    """Without a coordinator: the simulator needs none."""
    return Rota("http://127.0.0.1:1", tmp_path)


def simulated(rota: Rota, *arguments: str) -> Any:
    return json.loads(rota.ok("simulate", "--json", *arguments))


def test_a_cluster_is_tried_without_a_cluster(rota: Rota) -> None:
    said = rota.ok("simulate", "--workers", "5", "--tasks", "200", "--mean-duration", "2s")
    assert said.startswith("5 workers, 200 tasks in ")
    assert "200 completed, 0 failed, 0 cancelled" in said
    assert "utilisation" in said


def test_policies_are_compared_on_the_same_tasks_and_drawn(rota: Rota) -> None:
    arguments = ("--tasks", "200", "--compare", "binpack,spread,fair:random", "--plot", "picture.svg")
    reports = simulated(rota, *arguments)
    assert [(each["placement"], each["ordering"]) for each in reports] == [
        ("binpack", "priority"),
        ("spread", "priority"),
        ("random", "fair"),
    ]
    assert {each["completed"] for each in reports} == {200}
    first = (rota.folder / "picture.svg").read_bytes()
    assert b"<svg" in first
    rows = rota.ok("simulate", *arguments).splitlines()
    assert [row.split("\t")[0] for row in rows] == ["PLACEMENT", "binpack", "spread", "random"]
    assert (rota.folder / "picture.svg").read_bytes() == first


def test_a_scenario_has_workers_traces_queues_and_faults(rota: Rota) -> None:
    (rota.folder / "scenario.yaml").write_text(SCENARIO)
    (rota.folder / "jobs.csv").write_text(JOBS)
    report = simulated(rota, "scenario.yaml")
    assert (report["workers"], report["tasks"], report["completed"]) == (5, 62, 62)
    assert {queue["name"]: queue["tasks"] for queue in report["queues"]} == {"default": 60, "traced": 2}
    events = rota.run("simulate", "scenario.yaml", "--events").stderr
    assert "fault: crash for 5 s" in events
    assert "w2           is killed" in events


def test_trace_may_be_packed_and_may_begin_as_programs_of_windows_let_it(rota: Rota) -> None:
    (rota.folder / "jobs.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfat,seconds\r\n0,3\r\n1,2\r\n"))
    assert simulated(rota, "--trace", "jobs.csv.gz")["completed"] == 2


def test_same_seed_gives_the_same_bytes_whatever_python_hashes(rota: Rota) -> None:
    arguments = ("--tasks", "300", "--arrivals", "sinusoidal", "--seed", "11", "--compare", "random,consistent-hash")
    said = set()
    for hash_seed in ("1", "2"):
        rota.env["PYTHONHASHSEED"] = hash_seed
        said.add(rota.ok("simulate", "--json", *arguments))
    assert len(said) == 1
    assert simulated(rota, *arguments[:4], "--seed", "12") != simulated(rota, *arguments[:4], "--seed", "11")


def test_history_of_a_cluster_is_replayed_next_to_what_happened(rota: Rota) -> None:
    with running_cluster(rota.folder, "--workers", "2", "--resources", "cpu=2000") as (live, _):
        naps = json.dumps([{"command": ["sleep", "0.3"], "queue": "naps"}] * 12)
        live.ok("submit", "--wait", "--from", "-", stdin=naps)
        live.run("submit", "--tag", "nowhere", "--", "true")
        while_it_runs = simulated(rota, "--from-history", "state")
    was, would_be = simulated(rota, "--from-history", "state", "--placement", "binpack")
    assert while_it_runs[0] == was
    assert (was["placement"], was["tasks"], was["workers"], was["completed"]) == ("as it was", 12, 2, 12)
    assert (would_be["placement"], would_be["tasks"], would_be["completed"]) == ("binpack", 12, 12)
    # Twelve naps on two lanes: six in a row, and a little more.
    assert 1.7 < was["makespan_s"] < 6.0
    assert would_be["makespan_s"] == pytest.approx(was["makespan_s"], rel=0.35)
    _, with_more = simulated(rota, "--from-history", "state", "--add-workers", "4")
    assert with_more["workers"] == 6
    assert with_more["makespan_s"] < 0.6 * would_be["makespan_s"]
    result = rota.run("simulate", "--from-history", "state")
    assert "1 tasks of the history never ran" in result.stderr


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["--workers", "0"], "--workers is 0: it must be 1 to 100,000"),
        (["--workers", "-3"], "--workers is -3: it must be 0 to 100,000"),
        (["--tasks", "-3"], "--tasks is -3: it must be 1 to 100,000,000"),
        (["--mean-duration", "11000d"], "--mean-duration is 950,400,000: it must be 0 to 316,224,000"),
        (["--worker-cpu", "0"], "no cores that could be kept busy: say --rate"),
        (["--time-scale", "2"], "--time-scale: goes with a trace"),
        (["--trace", "jobs.csv", "--mix", "io"], "--mix: goes without a trace"),
        (["--trace", "jobs.csv", "--tasks", "0"], "--tasks is 0"),
        (["--trace", "jobs.txt"], "jobs.txt: a trace is a .csv or .swf file"),
        (["--trace", "jobs.csv.gz"], "is not packed as its name says"),
        (["--placement", "binpak"], "did you mean `binpack`"),
        (["--arrivals", "burst"], "did you mean 'bursty'"),
        (["--mix", "gpu"], "there is no 'gpu'"),
        (["--durations", "pareto2"], "did you mean 'pareto'"),
        (["--ordering", "fifo"], "there is no 'fifo'"),
        (["--compare", "binpack,,"], "--compare: 'binpack,,' leaves a name out"),
        (["--rate", "1", "--tasks", "1", "--duration", "3s"], "give two of rate, tasks and duration"),
        (["missing.yaml"], "does not exist"),
        (["bad.yaml"], "there is no field 'worker'; did you mean 'workers'"),
        (["bad.yaml", "--workers", "3"], "--workers goes without a scenario file"),
        (["--from-history", "nothing"], "does not exist"),
        (["--from-history", "empty"], "empty has no rota.db: name the --state-dir of a coordinator"),
        (["--add-workers", "3"], "--add-workers goes with --from-history"),
        (["--add-workers", "-1", "--from-history", "empty"], "--add-workers"),
        (["--trace", "bad.csv"], "no column 'when'"),
        (["--trace", "binary.csv"], "is no text in UTF-8"),
        (["--plot", "picture.gif"], "pictures are written as .png or .svg"),
        (["--plot", "no/such/folder.png"], "can't be written"),
        (["--until", "-3s"], "-3s"),
    ],
)
def test_mistake_is_told_in_a_line_before_anything_long_is_done(rota: Rota, arguments: list[str], says: str) -> None:
    (rota.folder / "bad.yaml").write_text("worker: 3")
    for name in ("jobs.csv", "jobs.txt", "jobs.csv.gz"):
        (rota.folder / name).write_text(JOBS)
    (rota.folder / "bad.csv").write_text("when,seconds\n1,2\n")
    (rota.folder / "binary.csv").write_bytes(b"\xff\x00\xfe")
    (rota.folder / "empty").mkdir()
    result = rota.run("simulate", *arguments)
    assert result.returncode in (1, 2, 125)
    assert says in result.stderr
    assert "Traceback" not in result.stderr
