"""``rota cron`` as a user types it, on a real cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("e2e-commands")


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--resources", "cpu=4000,memory=2G") as (rota, _):
        yield rota


def test_a_calendar_is_added_listed_shown_and_run(rota: Rota) -> None:
    options = ("--name", "nightly", "--zone", "Europe/Berlin", "--cpu", "0.5", "--label", "team=ops")
    added = rota.ok("cron", "add", "0 3 * * *", *options, "--", "sh", "-c", "echo $ROTA_CRON")
    assert added.startswith("calendar nightly fires next at 20")
    assert added.endswith("), Europe/Berlin\n")
    assert rota.ok("cron", "add", "0 3 * * *", *options, "--", "sh", "-c", "echo $ROTA_CRON") == added
    task_id = rota.ok("cron", "run", "nightly").strip()
    assert rota.ok("logs", "--follow", task_id) == "nightly\n"
    wait_until(lambda: "completed" in rota.ok("cron", "history", "nightly"), what="the end of the task")
    header, row = rota.ok("cron").splitlines()
    assert header.split("\t") == ["CALENDAR", "STATE", "EXPRESSION", "ZONE", "NEXT", "LAST", "RUNS"]
    name, state, expression, zone, _, last, runs = row.split("\t")
    assert (name, state, expression, zone) == ("nightly", "active", "0 3 * * *", "Europe/Berlin")
    assert last.startswith("completed ")
    assert runs == "sh -c 'echo $ROTA_CRON'"
    assert rota.ok("cron", "list").splitlines()[0] == header
    shown = rota.ok("cron", "show", "nightly")
    assert "says:       0 3 * * * in Europe/Berlin\n" in shown
    assert "with:       0.5 cores, labels team=ops\n" in shown
    assert f"manual: {task_id}, completed\n" in shown
    assert shown.count("T03:00:00+0") == 5
    (listed,) = json.loads(rota.ok("cron", "--json"))
    assert listed["task"] == {
        "command": ["sh", "-c", "echo $ROTA_CRON"],
        "resources": {"cpu": 500},
        "labels": {"team": "ops"},
    }
    (fire,) = json.loads(rota.ok("cron", "history", "nightly", "--json"))
    assert (fire["outcome"], fire["task"], fire["state"]) == ("manual", task_id, "completed")
    assert rota.ok("ps", "--label", "cron=nightly").splitlines()[1].startswith(task_id)


def test_files_and_snippets_go_with_its_tasks(rota: Rota) -> None:
    (rota.folder / "words.txt").write_text("some words\n")
    (rota.folder / "shout.py").write_text("import sys\nprint(open(sys.argv[1]).read().upper(), end='')\n")
    rota.ok(
        "cron", "add", "@daily", "--name", "shout", "--file", "words.txt", "--python", "shout.py", "--", "words.txt"
    )
    shown = rota.ok("cron", "show", "shout")
    assert "runs:       python shout.py words.txt\nwith:       files words.txt\n" in shown
    assert rota.ok("cron").endswith("\tpython shout.py words.txt\n")
    (rota.folder / "words.txt").unlink()
    task_id = rota.ok("cron", "run", "shout").strip()
    assert rota.ok("logs", "--follow", task_id) == "SOME WORDS\n"
    assert "digest" not in rota.ok("cron", "list", "--json")
    rota.ok("cron", "remove", "shout")


def test_several_are_paused_resumed_and_removed_at_once(rota: Rota) -> None:
    for name in ("one", "two"):
        rota.ok("cron", "add", "@daily", "--name", name, "--shell", "true")
    result = rota.run("cron", "pause", "one", "none", "two")
    assert result.returncode == 1
    assert result.stdout == "calendar one is paused\ncalendar two is paused\n"
    assert result.stderr == "rota: there is no calendar 'none': see `rota cron list`\n"
    assert "state:      paused\n" in rota.ok("cron", "show", "one")
    assert rota.ok("cron", "resume", "one").startswith("calendar one fires next at ")
    assert rota.ok("cron", "remove", "one", "two") == "calendar one is removed\ncalendar two is removed\n"


def test_a_name_that_is_taken_needs_replace(rota: Rota) -> None:
    rota.ok("cron", "add", "@daily", "--name", "taken", "--", "true")
    refused = rota.run("cron", "add", "@hourly", "--name", "taken", "--", "true")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "replace it (--replace, or PUT), or choose another name" in refused.stderr
    rota.ok("cron", "add", "@hourly", "--name", "taken", "--replace", "--paused", "--", "true")
    assert json.loads(rota.ok("cron", "show", "taken", "--json"))["expression"] == "@hourly"
    assert "--replace needs the --name" in rota.run("cron", "add", "@daily", "--replace", "--", "true").stderr
    rota.ok("cron", "remove", "taken")


def test_one_without_a_name_says_which_it_got(rota: Rota) -> None:
    name = rota.ok("cron", "add", "@daily", "--", "/bin/true").split()[1]
    assert name.startswith("true-")
    rota.ok("cron", "remove", name)


def test_the_next_times_need_no_coordinator(rota: Rota) -> None:
    rota = Rota("http://127.0.0.1:1", rota.folder)
    lines = rota.ok("cron", "next", "30 12 * * *", "--zone", "Asia/Kathmandu", "--count", "3").splitlines()
    assert len(lines) == 3
    assert all("T12:30:00+05:45  in " in line for line in lines)
    assert len(json.loads(rota.ok("cron", "next", "@yearly", "--json"))) == 5


@pytest.mark.parametrize("command", [("add",), ("next",)])
def test_the_mistake_in_an_expression_is_pointed_at(rota: Rota, command: tuple[str, ...]) -> None:
    result = rota.run("cron", *command, "0 3 * JANUARY *")
    assert (result.returncode, result.stdout) == (2, "")
    *_, problem, expression, pointer = result.stderr.splitlines()
    assert problem.startswith("Error: '0 3 * JANUARY *': field 4 (month), column 7: 'JANUARY' is no month")
    assert (expression, pointer) == ("  0 3 * JANUARY *", "        ^^^^^^^")


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        (
            ["0 3 * * *", "--zone", "berlin", "--", "true"],
            "--zone: there is no time zone 'berlin'; did you mean Europe/Berlin?",
        ),
        (["0", "3", "*", "*", "*", "--", "true"], "put it in quotes, so that the shell leaves * alone"),
        (["0 3 * * *"], "there is nothing to run"),
        (["@daily", "--id", "x", "--", "true"], "No such option '--id'"),
        (["@daily", "du", "--summarize"], "Write -- before the command whose option it is."),
        (["@daily", "--gang", "a:2", "--", "true"], "No such option '--gang'"),
        (["0 \x1b[31m * * *", "--", "true"], "\\x1b[31m"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(rota: Rota, arguments: list[str], sentence: str) -> None:
    result = rota.run("cron", "add", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert sentence in result.stderr
