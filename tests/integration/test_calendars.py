"""Calendars on a real coordinator: its clock is set, it is killed around a fire, and it refuses nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from rota.client.http import Json
from rota.core.errors import BadSpec, Conflict, NotFound, RotaError, TooLarge
from tests.support.real_cluster import START_S_MAX, Cluster
from tests.support.waiting import wait_until
from tests.support.wall_clock import WallClock

TRUE: Final = {"command": ["true"]}

DIES: Final = """
import os, signal
from rota.coordinator.recorder import Recorder
save = Recorder.save
async def save_and_die(self, changes, *, number):
    if changes.accepted and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    await save(self, changes, number=number)
    if changes.accepted:
        os.kill(os.getpid(), signal.SIGKILL)
Recorder.save = save_and_die
"""
"""Kill the process at the commit that records a task: before it is on the disk, or right after that."""


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        yield cluster


def fire_times(cluster: Cluster, name: str = "c1") -> list[str]:
    """Those of all tasks of a calendar, as hour and minute, in order of the tasks."""
    tasks = cluster.tasks(label=f"cron:{name}").values()
    return [task["labels"]["cron-at"][11:16] for task in sorted(tasks, key=lambda task: int(task["id"][1:]))]


def wait_for_fires(cluster: Cluster, expected: list[str], name: str = "c1") -> None:
    wait_until(
        lambda: fire_times(cluster, name) == expected,
        what=f"tasks for {expected}",
        timeout_s=60.0,
        ignoring=(RotaError,),
    )


def outcomes(cluster: Cluster, name: str) -> list[tuple[str, int]]:
    return [(fire["outcome"], fire["count"]) for fire in cluster.client.calendars.history(name)]


@pytest.mark.parametrize("before", [True, False], ids=["before the commit", "after the commit"])
def test_a_coordinator_killed_at_the_commit_of_a_fire_makes_one_task(
    cluster: Cluster, clock: WallClock, *, before: bool
) -> None:
    clock.set("2030-01-31T09:59:00Z")
    cluster.start_coordinator(prelude=clock.prelude)
    cluster.client.calendars.add({"name": "c1", "expression": "0 * * * *", "misfire": "all", "task": TRUE})
    cluster.coordinator.kill()
    clock.set("2030-01-31T10:00:01Z")
    dying = cluster.launch_coordinator(prelude=clock.prelude + DIES.format(before=before))
    assert dying.wait_for_exit(timeout_s=START_S_MAX) == -9
    for moment in ("10:00:30", "09:30:00"):
        clock.set(f"2030-01-31T{moment}Z")
        cluster.start_coordinator(prelude=clock.prelude)
        wait_for_fires(cluster, ["10:00"])
        cluster.coordinator.kill()
    clock.set("2030-01-31T11:00:00Z")
    cluster.start_coordinator(prelude=clock.prelude)
    wait_for_fires(cluster, ["10:00", "11:00"])


def test_a_clock_that_is_set_forward_and_back_fires_nothing_twice(cluster: Cluster, clock: WallClock) -> None:
    clock.set("2030-01-31T09:50:00Z")
    cluster.start_coordinator(prelude=clock.prelude)
    cluster.client.calendars.add({"name": "c1", "expression": "*/10 * * * *", "misfire": "skip", "task": TRUE})
    clock.set("2030-01-31T10:00:00Z")
    wait_for_fires(cluster, ["10:00"])
    clock.set("2030-01-31T10:30:10Z")
    wait_for_fires(cluster, ["10:00", "10:30"])
    clock.set("2030-01-31T09:55:00Z")
    # What was missed comes again, what was fired does not.
    wait_until(
        lambda: cluster.client.calendars.get("c1")["next"][0][11:16] == "10:10",
        what="the clock to be seen",
        timeout_s=60.0,
    )
    clock.set("2030-01-31T10:10:10Z")
    wait_for_fires(cluster, ["10:00", "10:30", "10:10"])


def test_what_a_standstill_has_missed_is_made_up_for_as_was_said(cluster: Cluster, clock: WallClock) -> None:
    clock.set("2030-01-31T09:30:00Z")
    cluster.start_coordinator(prelude=clock.prelude)
    for misfire in ("skip", "once", "all"):
        calendar = {"name": misfire, "expression": "0 * * * *", "zone": "Europe/Berlin", "misfire": misfire}
        cluster.client.calendars.add({**calendar, "task": TRUE})
    cluster.coordinator.kill()
    clock.set("2030-01-31T12:30:00Z")
    cluster.start_coordinator(prelude=clock.prelude)
    for name, expected in (("skip", []), ("once", ["13:00"]), ("all", ["11:00", "12:00", "13:00"])):
        wait_for_fires(cluster, expected, name)
    assert outcomes(cluster, "skip") == [("missed", 3)]
    assert outcomes(cluster, "once") == [("fired", 1), ("missed", 2)]
    assert outcomes(cluster, "all") == [("fired", 1)] * 3
    page = httpx.get(f"{cluster.url}/metrics").text
    assert 'rota_calendar_fires_total{outcome="fired"} 4.0' in page
    assert 'rota_calendar_fires_total{outcome="missed"} 5.0' in page
    assert "rota_calendars 3.0" in page


def test_an_overlap_is_skipped_and_the_history_says_by_what(cluster: Cluster, clock: WallClock) -> None:
    clock.set("2030-01-31T09:50:01Z")
    cluster.start_coordinator(prelude=clock.prelude)
    cluster.start_worker("w1", "--resources=cpu=4000,memory=1G")
    task = {"shell": 'echo "$ROTA_CRON $ROTA_CRON_AT"; sleep 600', "name": "long"}
    calendar = {
        "name": "c1",
        "expression": "5-55/10 * * * *",
        "zone": "Asia/Kathmandu",
        "overlap": "skip",
        "task": task,
    }
    cluster.client.calendars.add(calendar)
    clock.set("2030-01-31T10:00:00Z")
    wait_for_fires(cluster, ["15:45"])
    first = next(iter(cluster.tasks(label="cron:c1").values()))
    cluster.wait_for_state(first["id"], "running")
    clock.set("2030-01-31T10:10:00Z")
    wait_until(lambda: len(outcomes(cluster, "c1")) == 2, what="the next fire time", timeout_s=60.0)
    skipped, fired = cluster.client.calendars.history("c1")
    assert (skipped["outcome"], skipped["task"], skipped["state"]) == ("skipped", first["id"], "running")
    assert (fired["outcome"], fired["task"]) == ("fired", first["id"])
    assert cluster.client.calendars.get("c1")["unfinished"] == [first["id"]]
    assert first["name"] == "long"
    cluster.client.cancel(first["id"])
    cluster.wait_for_end(first["id"])
    assert cluster.client.calendars.get("c1")["unfinished"] == []


# Requests --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("serving"), "--max-pending=1") as cluster:
        cluster.start_coordinator()
        cluster.client.shares.set_limit("licence-x", 1)
        yield cluster


def test_a_calendar_is_added_once_and_shown_as_it_is(serving: Cluster) -> None:
    calendars = serving.client.calendars
    body = {"name": "shown", "expression": "0 3 * * *", "zone": "Europe/Berlin", "task": {**TRUE, "env": {"A": "b"}}}
    added = calendars.add(body)
    assert {key: added[key] for key in body} == body
    assert (added["misfire"], added["overlap"], added["paused"]) == ("once", "allow", False)
    assert len(added["next"]) == 5
    assert all("T03:00:00+0" in at for at in added["next"])
    assert added["last"] is None
    assert added["problem"] is None
    assert calendars.add(body) == added
    listed = next(one for one in calendars.all() if one["name"] == "shown")
    assert listed == {**added, "next": added["next"][:1], "task": TRUE}
    with pytest.raises(Conflict, match="calendar 'shown' already, and it says something else: replace it"):
        calendars.add({**body, "expression": "0 4 * * *"})
    changed = calendars.put("shown", {"expression": "0 4 * * *", "task": TRUE})
    assert (changed["expression"], changed["zone"]) == ("0 4 * * *", "UTC")
    assert calendars.pause("shown")["paused"]
    assert calendars.put("shown", {"expression": "0 5 * * *", "task": TRUE})["paused"]
    assert not calendars.put("shown", {"expression": "0 4 * * *", "task": TRUE, "paused": False})["paused"]
    assert calendars.remove("shown")["expression"] == "0 4 * * *"
    for ask in (calendars.get, calendars.remove, calendars.pause, calendars.resume, calendars.run, calendars.history):
        with pytest.raises(NotFound, match="there is no calendar 'shown'"):
            ask("shown")


def test_a_list_leaves_code_out_and_says_of_what_kind_it_is(serving: Cluster) -> None:
    calendars = serving.client.calendars
    calendars.put("of-code", {"expression": "@daily", "task": {"kind": "go", "code": "package main"}})
    calendars.put("of-data", {"expression": "@daily", "task": {"data": "python:print(1)"}})
    listed = {one["name"]: one["task"] for one in calendars.all()}
    assert (listed["of-code"], listed["of-data"]) == ({"kind": "go"}, {"kind": "python"})
    assert calendars.get("of-data")["task"] == {"data": "python:print(1)"}
    for name in ("of-code", "of-data"):
        calendars.remove(name)


def test_one_without_a_name_is_given_one(serving: Cluster) -> None:
    calendars = serving.client.calendars
    names = [
        calendars.add({"expression": "@daily", "task": {"command": ["/opt/my job/b\u00e4ckup.sh"]}})["name"]
        for _ in "ab"
    ]
    assert len(set(names)) == 2
    assert all(name.startswith("bckup.sh-") for name in names)
    for name in names:
        calendars.remove(name)


def test_a_run_by_hand_is_bounded_like_a_submit(serving: Cluster) -> None:
    calendars = serving.client.calendars
    calendars.add({"name": "by-hand", "expression": "@yearly", "paused": True, "task": TRUE})
    task = calendars.run("by-hand")
    assert (task["labels"], task["name"]) == ({"cron": "by-hand"}, "by-hand")
    with pytest.raises(RotaError, match="--max-pending"):
        calendars.run("by-hand")
    (fire,) = calendars.history("by-hand")
    assert (fire["outcome"], fire["task"], fire["state"]) == ("manual", task["id"], "pending")
    serving.client.cancel(task["id"])
    calendars.remove("by-hand")


GOOD: Final[Json] = {"expression": "0 3 * * *", "task": TRUE}


@pytest.mark.parametrize(
    "change,sentence",
    [
        ({"expression": "0 25 * * *"}, "expression: '0 25 * * *': field 2 (hour), column 3: 25 is out of range"),
        ({"expression": "* * * *"}, "it has 4 fields: it must have five"),
        ({"expression": 7}, "Expected `str`, got `int`"),
        ({"zone": "Europe/Berlim"}, "zone: there is no time zone 'Europe/Berlim'; did you mean Europe/Berlin"),
        ({"zone": "../../etc/passwd"}, "there is no time zone"),
        ({"misfire": "never"}, "Invalid enum value 'never'"),
        ({"when": "now"}, "unknown field `when`"),
        ({"name": "a b"}, "name is 'a b': use 1 to 100 letters"),
        ({"name": "x" * 101}, "use 1 to 100 letters"),
        ({"task": {"comand": ["true"]}}, "task.comand: there is no such field; did you mean `command`?"),
        ({"task": {}}, "task.command: there is nothing to run"),
        ({"task": [TRUE]}, "task: must be one task, not an array"),
        ({"task": None}, "task: Expected `object`, got `null`"),
        ({"task": {**TRUE, "id": "x"}}, "task.id: each task of a calendar gets an id of its own"),
        ({"task": {**TRUE, "start_at": "2030-01-31T00:00:00Z"}}, "task.start_at: the calendar says when"),
        ({"task": {**TRUE, "deadline": "2030-01-31T00:00:00Z"}}, "task.deadline: must be a duration"),
        ({"task": {**TRUE, "gang": {"id": "g", "size": 2}}}, "task.gang: the tasks of a calendar come one by one"),
        ({"task": {**TRUE, "labels": {str(n): "" for n in range(63)}}}, "task.labels: has 63 labels: at most 62"),
        ({"task": {**TRUE, "labels": {"cron": "x"}}}, "task.labels: cron says whose a task is"),
        ({"task": {**TRUE, "limits": {"licence-y": 1}}}, "there is no limit 'licence-y'; there are licence-x"),
        ({"task": {**TRUE, "placement": "nowhere"}}, "nowhere"),
        ({"task": {"function": "ab" * 32}}, "ab" * 32),
    ],
)
def test_nonsense_is_refused_when_it_is_added(serving: Cluster, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RotaError) as caught:
        serving.client.calendars.add({**GOOD, **change})
    assert sentence in str(caught.value)
    assert caught.value.code in {"bad_spec", "bad_request", "blob_missing"}
    assert serving.client.calendars.all() == []


def test_too_large_a_task_is_refused(serving: Cluster) -> None:
    with pytest.raises(TooLarge, match="at most 65,536"):
        serving.client.calendars.add({**GOOD, "task": {**TRUE, "stdin": "x" * 70_000}})


def test_a_limit_that_a_calendar_names_is_kept(serving: Cluster) -> None:
    serving.client.calendars.add({**GOOD, "name": "holder", "task": {**TRUE, "limits": {"licence-x": 1}}})
    with pytest.raises(Conflict, match="calendar holder names it"):
        serving.client.shares.remove_limit("licence-x")
    serving.client.calendars.remove("holder")


def test_the_place_of_a_mistake_is_told_to_programs(serving: Cluster) -> None:
    with pytest.raises(BadSpec) as caught:
        serving.client.calendars.add({**GOOD, "expression": "61 * * * *"})
    assert caught.value.field == "expression"
