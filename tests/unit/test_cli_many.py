"""Commands that are about many tasks: those of each line of a text, and all that have something in common."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from rota.cli.batches import BATCH_TASKS_MAX
from rota.cli.choosing import CAUSES
from rota.cli.main import cli
from rota.client.http import HttpClient
from rota.core.errors import NoCoordinator
from rota.core.model import Cause, Offer, TaskState
from tests.support.coordinators import LiveCoordinator, live_coordinator

Rota = Callable[..., Result]


@pytest.fixture
def coordinator() -> Iterator[LiveCoordinator]:
    with live_coordinator() as running:
        yield running


@pytest.fixture
def rota(coordinator: LiveCoordinator) -> Rota:
    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(
            cli, arguments, input=stdin, env={"ROTA_URL": coordinator.url}, catch_exceptions=False
        )

    return run


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def submitted(rota: Rota, *arguments: str) -> str:
    return ok(rota("submit", *arguments)).strip()


def test_a_task_for_each_line(rota: Rota) -> None:
    options = ("--id", "fit-{#}", "--label", "of={/}", "--env", "IN={}", "--output", "{/.}.png")
    result = rota("submit", "--each-line", "-", *options, "--", "plot", "{}", "{.}.x", "{a}", stdin="in/a.csv\n\nb c\n")
    assert ok(result).split() == ["fit-1", "fit-3"]
    first, second = (json.loads(ok(rota("show", "--json", task_id))) for task_id in ("fit-1", "fit-3"))
    assert first["command"] == ["plot", "in/a.csv", "in/a.x", "{a}"]
    assert (first["labels"], first["env"], first["outputs"]) == ({"of": "a.csv"}, {"IN": "in/a.csv"}, ["a.png"])
    assert second["command"] == ["plot", "b c", "b c.x", "{a}"]


def test_a_line_in_a_shell_is_one_word(rota: Rota) -> None:
    ok(rota("submit", "--each-line", "-", "--shell", "cat {} > {#}", stdin="a; rm -r b\n"))
    assert json.loads(ok(rota("show", "--json", "t1")))["shell"] == "cat 'a; rm -r b' > 1"


def test_a_label_may_have_its_name_from_the_line(rota: Rota) -> None:
    ok(rota("submit", "--each-line", "-", "--label", "{}=1", "--", "x", stdin="a\n"))
    assert json.loads(ok(rota("show", "--json", "t1")))["labels"] == {"a": "1"}


def test_code_keeps_its_braces(rota: Rota, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("print({})")
    ok(rota("submit", "--each-line", "-", "--python", str(tmp_path / "x.py"), "--", "{}", stdin="1\n"))
    task = json.loads(ok(rota("show", "--json", "t1")))
    assert (task["code"], task["command"]) == ("print({})", ["1"])


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["--", "echo"], "say where the line goes, with {}"),
        (["--id", "x", "--", "echo", "{}"], "an id is of one task"),
        (["--from", "-", "--", "{}"], "give one of them"),
        (["--stdin", "-", "--", "{}"], "can't both read our own input"),
        (["--file", "{}.nowhere", "--", "{}"], "line 1: can't read a.nowhere"),
        (["--priority", "{}", "--", "x"], "line 1: "),
        (["--shell", "cat '{}'"], "in --shell {} is quoted as it is put in"),
        (["--shell", 'x="$(cat {/})"'], "in --shell {/} is quoted as it is put in"),
        (
            ["--file", f"{__file__}={{}}", "--file", f"{__file__}={{/}}", "--", "x"],
            "line 1: two files would both be 'a'",
        ),
        ([], "there is nothing to run"),
    ],
)
def test_what_is_wrong_with_a_task_for_each_line_is_said(rota: Rota, arguments: list[str], says: str) -> None:
    result = rota("submit", "--each-line", "-", *arguments, stdin="a\n")
    assert result.exit_code in (1, 2)
    assert says in result.stderr
    assert rota("submit", "--each-line", "-", "--", "{}", stdin=b"\xff\n").stderr == "rota: line 1 is not UTF-8\n"


def test_cancel_ends_all_that_match_and_have_not_ended(coordinator: LiveCoordinator, rota: Rota) -> None:
    for label in ("job=a", "job=a", "job=b", "job=a"):
        submitted(rota, "--label", label, "false")
    coordinator.do(partial(coordinator.service.start, "t1"))
    coordinator.do(partial(coordinator.service.end, "t1", state=TaskState.FAILED, exit_code=1))
    result = rota("cancel", "--label", "job=a")
    assert ok(result).splitlines() == ["t2 is cancelled", "t4 is cancelled"]
    assert result.stderr == "rota: 2 cancelled\n"
    assert rota("cancel", "--label", "job=a").stderr == "rota: no task matches that has not ended\n"


@pytest.mark.parametrize("arguments", [[], ["t1", "--label", "a=b"], ["--state", "failed"], ["--cause", "oom"]])
def test_cancel_wants_to_be_told_which(rota: Rota, arguments: list[str]) -> None:
    assert rota("cancel", *arguments).exit_code == 2


def test_tasks_are_chosen_by_the_cause_of_their_end(coordinator: LiveCoordinator, rota: Rota) -> None:
    for name, cause in (("t1", Cause.OOM), ("t2", Cause.EXIT), ("t3", Cause.OOM)):
        submitted(rota, "false")
        coordinator.do(partial(coordinator.service.start, name))
        coordinator.do(partial(coordinator.service.end, name, state=TaskState.FAILED, cause=cause, exit_code=1))
    listed = ok(rota("ps", "--cause", "oom", "--limit", "1", "--json"))
    assert [task["id"] for task in json.loads(listed)] == ["t3"]
    assert "newest 1;" in rota("ps", "--cause", "oom", "--limit", "1").stderr
    assert ok(rota("retry", "--cause", "oom")).splitlines() == ["t1 is pending", "t3 is pending"]


def test_causes_that_can_be_asked_for_are_those_that_there_are() -> None:
    assert set(CAUSES) <= set(Cause)


def test_wait_counts_how_tasks_have_ended(coordinator: LiveCoordinator, rota: Rota) -> None:
    for name, state in (("t1", TaskState.COMPLETED), ("t2", TaskState.FAILED)):
        submitted(rota, "--label", "job=a", "false")
        coordinator.do(partial(coordinator.service.start, name))
        coordinator.do(partial(coordinator.service.end, name, state=state, exit_code=int(state is TaskState.FAILED)))
    result = rota("wait", "--label", "job=a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "rota: t2 failed: exit 1\nrota: 1 completed, 1 failed\n"
    assert rota("wait", "t1").exit_code == 0
    assert [task["id"] for task in json.loads(ok(rota("wait", "t1", "t1", "--json")))] == ["t1"]
    assert rota("wait", "t9").exit_code == 1
    assert rota("wait").exit_code == 2
    assert rota("wait", "--label", "job=none").stderr == "rota: no task matches\n"


def test_wait_leaves_when_its_time_is_over(coordinator: LiveCoordinator, rota: Rota) -> None:
    submitted(rota, "--label", "job=a", "false")
    result = rota("wait", "t1", "--timeout", "50ms")
    assert (result.exit_code, result.stderr) == (124, "rota: t1 has not ended\n")
    submitted(rota, "--label", "job=a", "false")
    result = rota("wait", "--label", "job=a", "--timeout", "50ms")
    assert (result.exit_code, result.stderr) == (124, "rota: 2 left\n")


def test_a_time_to_wait_is_kept_while_the_coordinator_is_away(
    coordinator: LiveCoordinator, rota: Rota, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        submitted(rota, "--label", "job=a", "false")
    asked = []

    def task(_: HttpClient, task_id: str) -> NoReturn:
        asked.append(task_id)
        raise NoCoordinator("gone")

    monkeypatch.setattr(HttpClient, "task", task)
    result = rota("wait", "--label", "job=a", "--timeout", "200ms")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (124, "rota: 50 left")
    assert set(asked) == {asked[0]}, "none but the first: the others would only take their time"
    coordinator.do(lambda: coordinator.service.add_node("w1", offer=Offer(())))
    monkeypatch.setattr(HttpClient, "nodes", lambda client: task(client, "nodes"))
    result = rota("drain", "w1", "--wait", "--timeout", "200ms")
    assert result.exit_code == 124
    assert result.stderr.splitlines()[-1] == "rota: not empty in time: w1; they stay drained"


@pytest.mark.parametrize("may_have_arrived", [True, False])
def test_what_became_of_a_request_without_an_answer_is_not_made_up(
    rota: Rota, monkeypatch: pytest.MonkeyPatch, *, may_have_arrived: bool
) -> None:
    submit_many, lines = HttpClient.submit_many, "a\n" * (BATCH_TASKS_MAX + 5)

    def submitted_once(client: HttpClient, body: bytes, **options: Any) -> list[Any]:
        if len(json.loads(body)) == BATCH_TASKS_MAX:
            return submit_many(client, body, **options)
        error = NoCoordinator("gone")
        error.may_have_arrived = may_have_arrived
        raise error

    monkeypatch.setattr(HttpClient, "submit_many", submitted_once)
    result = rota("submit", "--each-line", "-", "--", "{}", stdin=lines)
    first, last = result.stderr.splitlines()
    assert (result.exit_code, last) == (125, "rota: gone")
    if may_have_arrived:
        assert first == (
            "rota: the first 1000 tasks were accepted; whether the 5 from line 1001 to line 1005 were is not known: "
            "look with 'rota ps' before you send them again"
        )
    else:
        assert first == "rota: the first 1000 tasks were accepted, the rest was not"


def test_who_has_waited_enough_does_not_listen_again(rota: Rota) -> None:
    with live_coordinator() as coordinator:
        others = set(threading.enumerate())
        submitted(rota, "--url", coordinator.url, "false")
        rota("wait", "--url", coordinator.url, "t1", "--timeout", "50ms")
        listening = [thread for thread in threading.enumerate() if thread.name == "events" and thread not in others]
    for thread in listening:  # its stream ends with the coordinator
        thread.join(30.0)
        assert not thread.is_alive()


def test_wait_hears_of_ends_that_come(coordinator: LiveCoordinator, rota: Rota) -> None:
    for name in ("t1", "t2"):
        submitted(rota, "--label", "job=a", "true")
        coordinator.do(partial(coordinator.service.start, name))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rota, "wait", "--label", "job=a")
        for name in ("t1", "t2"):
            coordinator.do(partial(coordinator.service.end, name))
        assert waiting.result(timeout=30).stderr == "rota: 2 completed\n"
