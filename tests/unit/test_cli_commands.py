"""The commands against a coordinator's real HTTP edge: what they print and how they exit."""

from __future__ import annotations

import json
import re
import shlex
import threading
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rota.cli.main import COMMANDS, cli
from rota.coordinator.service import Event
from rota.core.errors import Overloaded, Unavailable
from rota.core.model import Gpu, Offer, TaskState, WorkerState
from tests.support.coordinators import LiveCoordinator, live_coordinator
from tests.support.network import free_port

Rota = Callable[..., Result]

SCREEN_LINES = 50
"""Of a terminal as people have it."""


@pytest.fixture
def coordinator() -> Iterator[LiveCoordinator]:
    with live_coordinator() as running:
        yield running


@pytest.fixture
def rota(coordinator: LiveCoordinator) -> Rota:
    return partial(run_rota, coordinator.url)


def run_rota(url: str, *arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin, env={"ROTA_URL": url}, catch_exceptions=False)


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def submitted(rota: Rota, *arguments: str) -> str:
    return ok(rota("submit", *arguments)).strip()


def test_the_first_word_of_a_sentence_is_no_letter_of_an_option() -> None:
    with live_coordinator(token="t") as coordinator:
        assert run_rota(coordinator.url, "ps").stderr.startswith("rota: a token is asked for")


# The whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for section in COMMANDS.values() for name in section])
def test_every_command_has_help_that_agrees_with_the_overview(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    overview = next(section[name] for section in COMMANDS.values() if name in section)
    assert result.exit_code == 0
    assert " ".join(result.stdout.split("\n\n")[1].split()).startswith(overview.rstrip("."))


def test_the_overview_fits_on_a_screen() -> None:
    lines = CliRunner().invoke(cli, ["--help"], terminal_width=80).stdout.splitlines()
    assert len(lines) <= SCREEN_LINES
    # A line a command: no text is so long that it is broken.
    assert len([line for line in lines if re.match(r"^\w* +[a-z]+  +[A-Z].*\.$", line)]) == sum(
        map(len, COMMANDS.values())
    )


@pytest.mark.parametrize("names", [[], ["ps"], ["queues", "set"]])
def test_help_is_asked_for_with_a_word_too(names: list[str]) -> None:
    told = CliRunner().invoke(cli, ["help", *names])
    assert ok(told) == CliRunner().invoke(cli, [*names, "--help"]).stdout


@pytest.mark.parametrize("names,words", [(["sumbit"], "Did you mean 'submit'?"), (["ps", "x"], "has no commands")])
def test_help_of_what_is_no_command_is_refused(names: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["help", *names])
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_mistyped_command_is_told_the_near_one() -> None:
    result = CliRunner().invoke(cli, ["sumbit"])
    assert result.exit_code == 2
    assert "Did you mean 'submit'?" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["ps"], ["show", "t1"], ["logs", "t1"], ["submit", "true"], ["nodes"], ["stats"], ["events"], ["cancel", "t1"]],
)
def test_a_dead_coordinator_is_one_clear_line(arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run_rota(url, *arguments)
    assert result.exit_code == 125
    assert result.stdout == ""
    assert result.stderr == f"rota: no coordinator answers at {url}: start one with 'rota up' or set ROTA_URL\n"


def test_an_address_that_is_none_is_refused() -> None:
    result = run_rota("localhost:8080", "ps")
    assert result.exit_code == 1
    assert "write http://host:port" in result.stderr


def test_the_token_is_shown_to_the_coordinator() -> None:
    with live_coordinator(token="secret") as guarded:
        refused = run_rota(guarded.url, "ps")
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "token" in refused.stderr
        ok(run_rota(guarded.url, "ps", "--token", "secret"))


# submit -----------------------------------------------------------------------------------


def test_submit_sends_all_that_options_say(rota: Rota, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("hello")
    options = shlex.split(
        "--name=n --id=my-task -e A=b=c -e E= --cwd=/tmp --cpu=1.5 --memory=2G --gpu=1 --gpu-memory=8G "
        "-r licence=2 --tag=gpu --tag=fast --priority=high --queue=slow --timeout=5m --retries=3 --losses=1 "
        "--backoff=2s --delay=1h --deadline=2h -l k=v"
    )
    task_id = submitted(rota, *options, f"--stdin=@{tmp_path}/input", "--", "echo", "-n", "two words")
    assert task_id == "my-task"
    task = json.loads(ok(rota("show", "--json", task_id)))
    assert task["command"] == ["echo", "-n", "two words"]
    assert task["env"] == {"A": "b=c", "E": ""}
    assert task["resources"] == {"cpu": 1500, "memory": 2048, "gpu": 1, "gpu_memory": 8192, "licence": 2}
    assert (task["stdin"], task["cwd"], task["tags"]) == ("hello", "/tmp", ["gpu", "fast"])
    assert (task["priority"], task["queue"], task["labels"]) == (90, "slow", {"k": "v"})
    assert (task["timeout"], task["retries"], task["losses"]) == (300.0, 3, 1)
    assert (task["backoff"]["base"], task["delay"]) == (2.0, 3600.0)
    assert task["deadline"] is not None


def test_options_after_the_command_are_the_commands(rota: Rota) -> None:
    task = json.loads(ok(rota("submit", "--json", "ls", "--name", "-l")))
    assert task["command"] == ["ls", "--name", "-l"]


def test_stdin_of_the_task_can_be_our_own(rota: Rota) -> None:
    task_id = ok(rota("submit", "--stdin", "-", "cat", stdin="piped")).strip()
    assert json.loads(ok(rota("show", "--json", task_id)))["stdin"] == "piped"


def test_input_that_json_cannot_carry_is_refused_here(rota: Rota) -> None:
    result = rota("submit", "--stdin", "-", "cat", stdin=b"\xff\xfe")
    assert result.exit_code == 2
    assert "--stdin: not UTF-8: send it as a file instead (--file PATH), and let the task read that" in result.stderr
    result = rota("submit", "--python", "-", stdin=b"\xff\xfe")
    assert (result.exit_code, "--python: not UTF-8: save it as UTF-8" in result.stderr) == (2, True)
    result = rota("submit", "--", "echo", "\udcff")
    assert result.exit_code == 2
    assert "command: has bytes that are not UTF-8" in result.stderr


@pytest.mark.parametrize("kind", ["python", "go"])
def test_a_file_of_code_is_sent_with_its_name_and_arguments(rota: Rota, tmp_path: Path, kind: str) -> None:
    (tmp_path / "my file.x").write_text("é = 1\r\n", newline="")
    task_id = submitted(rota, f"--{kind}", f"{tmp_path}/my file.x", "--retries=1", "--", "-a", "b c")
    task = json.loads(ok(rota("show", "--json", task_id)))
    assert (task["kind"], task["code"], task["command"]) == (kind, "é = 1\r\n", ["-a", "b c"])
    assert (task["name"], task["retries"]) == ("my file.x", 1)
    assert f"{kind} snippet -a 'b c'\n" in ok(rota("show", task_id))
    task_id = submitted(rota, f"--{kind}", f"{tmp_path}/my file.x", "--name=other")
    assert json.loads(ok(rota("show", "--json", task_id)))["name"] == "other"


def test_code_can_be_our_own_input(rota: Rota) -> None:
    task_id = ok(rota("submit", "--python", "-", stdin="print(1)")).strip()
    task = json.loads(ok(rota("show", "--json", task_id)))
    assert (task["kind"], task["code"], task["name"]) == ("python", "print(1)", None)
    assert "python snippet" in ok(rota("ps"))


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        (["--python", "/no/such/file"], "--python: can't read /no/such/file: No such file or directory"),
        (["--go", "/"], "--go: can't read /: Is a directory"),
        (["--python", "-", "--go", "-"], "--python and --go each say what to run: give one of them"),
        (["--python", "-", "--stdin", "-"], "--python and --stdin can't both read our own input"),
        (["--python", "-", "--kind", "go"], "--python says what --kind would say"),
        (["--python", "/dev/zero"], "--python: more than 1 MiB"),
    ],
)
def test_files_of_code_that_make_no_sense_are_refused_here(rota: Rota, arguments: list[str], sentence: str) -> None:
    result = rota("submit", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        (["--priority", "urgent", "true"], "'urgent' is not one of low"),
        (["--cwd", "here", "true"], "--cwd: must be an absolute path"),
        (["--id", "t7", "true"], "looks like an id that the coordinator gives"),
    ],
)
def test_what_the_coordinator_refuses_is_one_line(rota: Rota, arguments: list[str], sentence: str) -> None:
    result = rota("submit", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("rota: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "submit"])
def test_a_command_line_with_nothing_to_run_makes_no_sense(rota: Rota, name: str) -> None:
    result = rota(name, "--name", "nothing")
    assert result.exit_code == 2
    assert "there is nothing to run: give a command after --, --shell LINE, or --python FILE" in result.stderr


def test_an_option_before_the_command_is_told_its_place() -> None:
    result = CliRunner().invoke(cli, ["--url", "http://127.0.0.1:1", "ps"])
    assert result.exit_code == 2
    assert "--url goes after the command, as in 'rota ps --url …'" in result.stderr


def test_a_label_without_value_is_refused_here(rota: Rota) -> None:
    result = rota("ps", "--label", "team")
    assert result.exit_code == 2
    assert "'team' is not KEY=VALUE" in result.stderr


def test_many_tasks_come_from_a_file(rota: Rota) -> None:
    lines = "\n".join(json.dumps({"shell": f"echo {number}"}) for number in range(2500))
    ids = ok(rota("submit", "--from", "-", "--queue", "bulk", stdin=lines)).split()
    assert ids == [f"t{number}" for number in range(1, 2501)]
    assert json.loads(ok(rota("show", "--json", "t2500")))["queue"] == "bulk"


def test_a_bad_task_is_named_by_its_place_in_the_file(rota: Rota) -> None:
    tasks = [{"shell": "true"}] * 1003 + [{"shell": "true", "nmae": "x"}]
    result = rota("submit", "--from", "-", stdin=json.dumps(tasks))
    assert result.exit_code == 1
    assert len(result.stdout.split()) == 1000
    assert "the first 1000 tasks were accepted" in result.stderr
    assert "task 1003 (line 1): nmae: there is no such field; did you mean `name`?" in result.stderr


def test_whatever_is_refused_of_a_file_is_named_by_its_line(rota: Rota) -> None:
    ok(rota("submit", "--id", "mine", "--shell", ":"))
    tasks = ["[", '{"shell": ":"},', "", '{"id": "mine",', '"shell": "true"}', "]"]
    result = rota("submit", "--from", "-", stdin="\n".join(tasks))
    assert result.exit_code == 1
    assert result.stderr == "rota: task 1 (line 4): mine exists with another spec\n"
    huge = rota("submit", "--from", "-", stdin=json.dumps({"shell": "a" * (8 << 20)}))
    assert huge.exit_code == 1
    assert huge.stderr.startswith("rota: line 1: the task is 8,388,")


def test_many_tasks_are_held_back_while_too_many_wait(coordinator: LiveCoordinator, rota: Rota) -> None:
    coordinator.do(lambda: setattr(coordinator.service, "fails_with", Overloaded("1 tasks wait already")))
    healing = threading.Timer(0.2, lambda: coordinator.do(lambda: setattr(coordinator.service, "fails_with", None)))
    healing.start()
    result = rota("submit", "--from", "-", stdin='{"shell": "true"}')
    healing.join()
    assert ok(result) == "t1\n"
    assert "1 tasks wait already; trying again" in result.stderr


def test_a_coordinator_that_takes_nothing_is_trouble_not_refusal(coordinator: LiveCoordinator, rota: Rota) -> None:
    coordinator.do(lambda: setattr(coordinator.service, "fails_with", Unavailable("the store is full")))
    result = rota("submit", "true")
    assert (result.exit_code, result.stderr) == (125, "rota: the store is full\n")


def test_submit_waits_and_tells_whether_it_completed(coordinator: LiveCoordinator, rota: Rota) -> None:
    with end_when_submitted(coordinator, {"a": TaskState.COMPLETED, "b": TaskState.FAILED}):
        assert ok(rota("submit", "--wait", "--id", "a", "true")) == "a\n"
        failed = rota("submit", "--wait", "--id", "b", "false")
    assert failed.exit_code == 1
    assert "rota: b failed: exit 3" in failed.stderr


def test_waiting_for_many_counts_their_ends(coordinator: LiveCoordinator, rota: Rota) -> None:
    ends = {f"n{number}": TaskState.COMPLETED for number in range(20)} | {"bad": TaskState.FAILED}
    with end_when_submitted(coordinator, ends):
        result = rota(
            "submit", "--wait", "--from", "-", stdin=json.dumps([{"id": name, "shell": "x"} for name in ends])
        )
    assert result.exit_code == 1
    assert "rota: 20 completed, 1 failed" in result.stderr


class end_when_submitted:  # noqa: N801 - used as a statement
    """Lets tasks end, as they are there, while the block runs."""

    def __init__(self, coordinator: LiveCoordinator, ends: dict[str, TaskState]) -> None:
        self._coordinator = coordinator
        self._ends = dict(ends)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while self._ends and not self._is_over.wait(0.02):
            self._coordinator.do(self._end_those_there)

    def _end_those_there(self) -> None:
        service = self._coordinator.service
        for name in [name for name in self._ends if name in service._records]:
            service.start(name)
            state = self._ends.pop(name)
            service.end(name, state=state, exit_code=3 if state is TaskState.FAILED else 0)
            service.publish(Event(f"1.{len(self._ends)}", f"task.{state.word}", 0.0, task=name))


# Looking ----------------------------------------------------------------------------------


def test_ps_is_parted_by_tabs_when_piped(coordinator: LiveCoordinator, rota: Rota) -> None:
    submitted(rota, "--name", "nightly", "true")
    submitted(rota, "--shell", "echo a\tb")
    coordinator.do(lambda: coordinator.service.start("t1"))
    header, second, first = ok(rota("ps")).splitlines()
    assert header.split("\t") == ["ID", "STATE", "TASK", "WORKER", "ATTEMPT", "TOOK", "CREATED", "WHY"]
    assert first.split("\t")[:5] == ["t1", "running", "nightly", "w1", "1"]
    assert second.split("\t")[:3] == ["t2", "pending", "echo a\\tb"]
    assert second.split("\t")[7] == "no worker is connected"


def test_a_function_is_called_by_its_name_and_says_how_far_it_is(coordinator: LiveCoordinator, rota: Rota) -> None:
    function = {"function": "ab" * 32, "callable": "tools.resize", "python": "3.11", "requirements": ["numpy"]}
    ok(rota("submit", "--from", "-", stdin=json.dumps([function, {**function, "name": "photos"}])))
    coordinator.do(lambda: coordinator.service.start("t1"))
    coordinator.do(lambda: coordinator.service.mark("t1", 0.4, "pars\ting"))
    _, named, unnamed = [line.split("\t") for line in ok(rota("ps")).splitlines()]
    assert (named[2], unnamed[2], unnamed[7]) == ("photos", "tools.resize", "40% pars\\ting")
    text = ok(rota("show", "t1"))
    assert re.search(r"^runs: +tools.resize$", text, re.M)
    assert re.search(r"^function: +abababababab…, Python 3.11$", text, re.M)
    assert re.search(r"^needs: +numpy$", text, re.M)
    assert re.search(r"^state: +running \(40% pars\\ting\)$", text, re.M)


def test_ps_asks_for_what_the_filters_say(coordinator: LiveCoordinator, rota: Rota) -> None:
    ok(rota("ps", "--state", "failed", "--queue", "q", "--name", "n*", "-l", "k=v=w", "--worker", "w", "--since", "1h"))
    query = coordinator.service.queries[-1]
    assert query.states == frozenset({TaskState.FAILED})
    assert (query.queue, query.name, query.labels, query.worker) == ("q", "n*", {"k": "v=w"}, "w")
    assert query.since is not None


def test_ps_follows_pages_and_says_when_there_is_more(rota: Rota) -> None:
    ok(rota("submit", "--from", "-", stdin=json.dumps([{"shell": "true"}] * 1200)))
    some = rota("ps", "--limit", "2")
    assert [line.split("\t")[0] for line in ok(some).splitlines()] == ["ID", "t1200", "t1199"]
    assert "the newest 2; --all lists all" in some.stderr
    everything = rota("ps", "--all", "--json")
    assert [task["id"] for task in json.loads(ok(everything))] == [f"t{number}" for number in range(1200, 0, -1)]
    assert everything.stderr == ""


def test_an_empty_list_is_valid_json(rota: Rota) -> None:
    assert json.loads(ok(rota("ps", "--json"))) == []
    assert json.loads(ok(rota("nodes", "--json"))) == []


def test_show_tells_what_it_is_where_it_stands_and_why(coordinator: LiveCoordinator, rota: Rota) -> None:
    submitted(rota, "--name", "bold", "--retries", "2", "--", "sh", "-c", "exit 3")
    text = ok(rota("show", "t1"))
    assert re.search(r"^state: +pending: no-workers \(no worker is connected\)$", text, re.M)
    assert re.search(r"^runs: +sh -c 'exit 3'$", text, re.M)
    coordinator.do(lambda: coordinator.service.start("t1"))
    coordinator.do(lambda: coordinator.service.end("t1", state=TaskState.FAILED, exit_code=3))
    text = ok(rota("show", "t1"))
    assert re.search(r"^state: +failed \(exit 3\)$", text, re.M)
    assert re.search(r"^used: +0.25 s of cpu, 2.1 MiB at the peak$", text, re.M)
    assert text.splitlines()[-1].split("\t")[:2] == ["1", "w1"]


def test_what_a_compiler_says_is_a_line_in_a_list_and_whole_where_one_looks(
    coordinator: LiveCoordinator, rota: Rota
) -> None:
    submitted(rota, "--shell", "make all\n  make check\n")
    coordinator.do(lambda: coordinator.service.start("t1"))
    said = "main.go:4:2: undefined: x\r\n\tand \x1b[31mmore\nmain.go:5:2: undefined: y\n"
    coordinator.do(lambda: coordinator.service.end("t1", state=TaskState.FAILED, message=said))
    _, line = [line.split("\t") for line in ok(rota("ps")).splitlines()]
    assert line[2] == "make all make check"
    assert line[7] == "launch-error: main.go:4:2: undefined: x and \\x1b[31mmore main.go:5:2: undefined: y"
    text = ok(rota("show", "t1"))
    assert (
        "state:      failed (launch-error: main.go:4:2: undefined: x\n"
        "                and \\x1b[31mmore\n"
        "            main.go:5:2: undefined: y)\n"
    ) in text
    assert "runs:       make all\n              make check\n" in text
    assert text.splitlines()[-1].split("\t")[-1] == line[7]


def test_show_json_is_the_task_of_the_api_and_its_attempts(coordinator: LiveCoordinator, rota: Rota) -> None:
    submitted(rota, "true")
    coordinator.do(lambda: coordinator.service.start("t1"))
    task = json.loads(ok(rota("show", "--json", "t1")))
    assert (task["id"], task["state"], task["command"]) == ("t1", "running", ["true"])
    assert [attempt["number"] for attempt in task["attempts"]] == [1]


def test_an_unknown_task_is_told_in_one_line(rota: Rota) -> None:
    result = rota("show", "t99")
    assert (result.exit_code, result.stderr) == (1, "rota: no task is called 't99'\n")


def test_logs_print_the_bytes_of_one_or_both_streams(coordinator: LiveCoordinator, rota: Rota) -> None:
    submitted(rota, "true")
    coordinator.do(lambda: coordinator.service.start("t1"))
    coordinator.do(lambda: coordinator.service.write("t1", b"out\xff\n"))
    coordinator.do(lambda: coordinator.service.write("t1", b"err\n", stream="stderr"))
    assert rota("logs", "t1").stdout_bytes == b"out\xff\nerr\n"
    assert rota("logs", "t1", "--stream", "stderr").stdout_bytes == b"err\n"
    coordinator.do(lambda: coordinator.service.end("t1"))
    assert rota("logs", "-f", "t1").stdout_bytes == b"out\xff\nerr\n"


def test_stats_count(rota: Rota) -> None:
    submitted(rota, "true")
    text = ok(rota("stats"))
    assert re.search(r"^tasks: +1 pending$", text, re.M)
    assert re.search(r"^waiting: +1 no-workers$", text, re.M)
    assert json.loads(ok(rota("stats", "--json")))["tasks"]["pending"] == 1


# Changing ---------------------------------------------------------------------------------


def test_cancel_tries_all_and_tells_what_became_of_each(coordinator: LiveCoordinator, rota: Rota) -> None:
    for _ in range(3):
        submitted(rota, "true")
    coordinator.do(lambda: coordinator.service.start("t2"))
    coordinator.do(lambda: coordinator.service.start("t3"))
    coordinator.do(lambda: coordinator.service.end("t3"))
    result = rota("cancel", "t1", "t77", "t2", "t3")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["t1 is cancelled", "t2 is being cancelled", "t3 had completed before"]
    assert result.stderr == "rota: no task is called 't77'\n"


def test_retry_brings_back_all_that_match(coordinator: LiveCoordinator, rota: Rota) -> None:
    for _ in range(3):
        submitted(rota, "false")
    for name in ("t1", "t3"):
        coordinator.do(partial(coordinator.service.start, name))
        coordinator.do(partial(coordinator.service.end, name, state=TaskState.FAILED, exit_code=1))
    result = rota("retry", "--state", "failed")
    assert ok(result).splitlines() == ["t1 is pending", "t3 is pending"]
    assert result.stderr == "rota: 2 brought back\n"
    assert rota("retry", "t2").exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["t1", "--state", "failed"], ["--name", "x"], ["--state", "running"]])
def test_retry_wants_to_be_told_which(rota: Rota, arguments: list[str]) -> None:
    assert rota("retry", *arguments).exit_code == 2


def test_workers_of_others_are_listed_as_such(coordinator: LiveCoordinator, rota: Rota) -> None:
    beat = {"worker_id": "own", "max_tasks": 9, "current_tasks": 2, "address": "a:1", "resources": {"memory": 512}}
    with urllib.request.urlopen(f"{coordinator.url}/api/v1/heartbeat", json.dumps(beat).encode()):
        pass
    row = next(line for line in ok(rota("nodes")).splitlines() if line.startswith("own")).split("\t")
    assert row[:6] == ["own", "online", "2", "", "512.0 MiB free", "0"]
    assert row[-1] == "placement-only"
    refused = rota("drain", "own")
    assert refused.exit_code == 1
    assert "max_tasks 0" in refused.output


def test_workers_are_listed_drained_and_resumed(coordinator: LiveCoordinator, rota: Rota) -> None:
    offer = Offer(
        resources=(("cpu", 4000), ("memory", 8192)), tags=frozenset({"b", "a"}), gpus=(Gpu(1, "x"),), addr="10.0.0.7"
    )
    coordinator.do(lambda: coordinator.service.add_node("w1", offer=offer))
    row = ok(rota("nodes")).splitlines()[1].split("\t")
    assert row == ["w1", "online", "1", "1/4", "0 B/8.0 GiB", "1", "", "", "500ms ago", "a,b", "10.0.0.7", "", "rota"]
    assert ok(rota("drain", "w1")) == "w1 is draining\n"
    assert json.loads(ok(rota("resume", "w1", "--json")))[0]["state"] == "online"
    assert rota("drain", "w9").exit_code == 1
    assert rota("drain", "w1", "--timeout", "1s").exit_code == 2


def test_workers_that_are_gone_are_forgotten(coordinator: LiveCoordinator, rota: Rota) -> None:
    coordinator.do(lambda: coordinator.service.add_node("w1", offer=Offer(())))
    coordinator.do(lambda: coordinator.service.add_node("w2", offer=Offer(())))
    coordinator.do(lambda: coordinator.service.change_node("w2", state=WorkerState.OFFLINE))
    refused = rota("forget", "w1", "w2")
    assert refused.exit_code == 1
    assert "worker 'w1' is connected: drain it, stop it, and then forget it" in refused.output
    assert "w2 is forgotten\n" in refused.output
    assert [line.split("\t")[0] for line in ok(rota("nodes")).splitlines()[1:]] == ["w1"]


def test_a_drain_is_waited_for(coordinator: LiveCoordinator, rota: Rota, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.cli.drain.LOOK_EVERY_S", 0.01)
    coordinator.do(lambda: coordinator.service.add_node("w1", offer=Offer(())))
    late = rota("drain", "w1", "--wait", "--timeout", "50ms")
    assert late.exit_code == 124
    assert "w1 has 1 tasks" in late.output
    assert "not empty in time: w1; they stay drained" in late.output
    coordinator.do(lambda: coordinator.service.change_node("w1", tasks=0))
    assert "rota: w1 is empty" in rota("drain", "w1", "--wait").output
