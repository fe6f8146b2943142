"""What was refused is told by the options that were typed, not by the names of REST or of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rota.cli.main import cli
from tests.support.coordinators import LiveCoordinator, live_coordinator


@pytest.fixture(scope="module")
def coordinator() -> Iterator[LiveCoordinator]:
    with live_coordinator() as running:
        yield running


def refused(*arguments: str, url: str = "", stdin: str | None = None, **env: str) -> str:
    result: Result = CliRunner().invoke(cli, arguments, input=stdin, env={"ROTA_URL": url, **env})
    assert result.exit_code not in (0, 126), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.stderr.strip().splitlines()[-1].removeprefix("Error: ").removeprefix("rota: ")


MIXES = {
    ("--python", "a.py", "--shell", "ls"): "--shell and --python each say what to run: give one of them",
    ("--shell", "ls", "--", "ls"): "--shell and a command each say what to run: give one of them",
    ("--code", "x", "--data", "go:x", "--image", "i"): "--code, --data and --image each say what to run: ",
    ("--python", "a.py", "--go", "a.go"): "--python and --go each say what to run: ",
    ("--go", "a.go", "--kind", "go"): "--go says what --kind would say: leave --kind out",
    ("--code", "print(1)"): "--code needs --kind python or --kind go: say which it is",
    ("--start-at", "2030-01-01T00:00Z", "--delay", "1m", "--", "true"): "--start-at and --delay both say when",
    ("--cwd", "/tmp", "--output", "a", "--file", "a", "--", "true"): "--cwd does not go with --file and --output: ",
    ("--cpu", "2", "-r", "cpu=500", "--", "true"): "--cpu and --resource cpu=… say the same: give one of them",
    ("--python", "-", "--stdin", "-"): "--python and --stdin can't both read our own input",
    ("--name", "x"): "there is nothing to run: give a command after --, --shell LINE, or --python FILE",
    ("--label", "a=\udcff", "--", "true"): "--label: has bytes that are not UTF-8",
    ("--", "\udcff"): "the command: has bytes that are not UTF-8",
}


@pytest.mark.parametrize("command", ["run", "submit"])
@pytest.mark.parametrize("arguments,says", MIXES.items(), ids=map(" ".join, map(ascii, MIXES)))
def test_options_that_contradict_each_other_are_named(command: str, arguments: tuple[str, ...], says: str) -> None:
    assert refused(command, *arguments).startswith(says)


REFUSED = {
    ("--kind", "python", "--", "true"): "--kind: 'python' does not go with command: it takes process",
    ("--kind", "pyhton", "--code", "x"): "--kind: 'pyhton' is not one of ",
    ("--data", "perl:1"): "--data: must begin with python: or go:",
    ("--python", "{empty}"): "--python: has no code to run",
    ("--", ""): "the command: the program is an empty string",
    ("--shell", " "): "--shell: is empty",
    ("--image", "i", "--output", "a"): "--output: goes with process, python, go and not with container",
    ("--gpu", "-1", "--", "true"): "--gpu is -1: it can't be negative",
    ("--resource", "Disk=1", "--", "true"): "--resource: 'Disk' can't be the name of a resource",
    ("--tag", "a b", "--", "true"): "--tag: ",
    ("--output", "../x", "--", "true"): "--output: '../x' ",
    ("--priority", "urgent", "--", "true"): "--priority: 'urgent' is not one of ",
    ("--priority", "²", "--", "true"): "--priority: '²' is not one of ",
    ("--retries", "-1", "--", "true"): "--retries: is -1: it must be 0 to ",
    ("--timeout", "0", "--", "true"): "--timeout: is 0 seconds: it must be 0.001 to ",
    ("--id", "t5", "--", "true"): "--id: 't5' looks like an id that the coordinator gives",
    ("--gang", "a b:2", "--", "true"): "--gang: its id must be ",
    ("--cwd", "tmp", "--", "true"): "--cwd: must be an absolute path on the worker",
    ("--label", "rota.gang=x", "--", "true"): "--label: rota.gang is what Rota finds gangs by",
    ("--env", "a\x00=1", "--", "true"): "--env: has a NUL character",
    ("--queue", "a b", "--", "true"): "--queue: must be ",
    ("--name", "", "--", "true"): "--name: is empty",
}


@pytest.mark.parametrize("command", ["run", "submit"])
@pytest.mark.parametrize("arguments,says", REFUSED.items(), ids=map(" ".join, map(ascii, REFUSED)))
def test_what_the_coordinator_refuses_is_told_by_its_option(
    coordinator: LiveCoordinator, command: str, arguments: tuple[str, ...], says: str, *, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("")
    given = [text.replace("{empty}", str(empty)) for text in arguments]
    assert refused(command, *given, url=coordinator.url).startswith(says)


def test_a_file_of_tasks_is_told_apart_from_the_options_that_fill_it_in(coordinator: LiveCoordinator) -> None:
    tasks = '{"shell": "a", "priority": 5}\n{"shell": "b"}\n'
    by_option = refused("submit", "--from", "-", "--priority", "urgent", url=coordinator.url, stdin=tasks)
    assert by_option.startswith("line 2, by --priority: priority: 'urgent' is not one of ")
    tasks = '{"shell": "a", "priority": "urgent"}\n'
    by_file = refused("submit", "--from", "-", "--priority", "5", url=coordinator.url, stdin=tasks)
    assert by_file.startswith("line 1: priority: 'urgent' is not one of ")
    assert refused("submit", "--from", "-", "--id", "x").startswith("--id is of one task: with --from, say ids in the")
    both = refused("submit", "--from", "-", "--stdin", "-", stdin="")
    assert both.startswith("--from and --stdin can't both read our own input")


SETTINGS = {
    ("coordinator", "--suspicious-after", "1s"): "--suspicious-after must be at least twice --heartbeat, so that one "
    "late heartbeat does no harm, got 1 for --heartbeat=3",
    ("coordinator", "--offline-after", "5s"): "--offline-after must be more than --suspicious-after, got 5 for "
    "--suspicious-after=10",
    ("coordinator", "--exclusive-wait", "1s"): "--exclusive-wait must be more than --lease and --lease-grace together",
    ("coordinator", "--retention", "0"): "--retention must be more than 0 seconds, got 0",
    ("coordinator", "--log-retention", "1K"): "--log-retention must be at least 1,048,576, got 1,024",
    ("coordinator", "--port", "70000"): "--port must be 0 to 65535, got 70000",
    ("coordinator", "--grpc-port", "8080"): "--grpc-port must be another than --port=8080",
    ("coordinator", "--max-pending", "0"): "--max-pending must be at least 1, got 0",
    ("coordinator", "--ageing", "-1"): "--ageing must be at least 0 points a minute, got -1",
    ("coordinator", "--host", "0.0.0.0"): "--host 0.0.0.0 is reachable from other machines",
    ("coordinator", "--token", "a b"): "--token must be printable ASCII without spaces",
    ("worker", "--id", "a b"): "--id must be 1 to 200 letters",
    ("worker", "--server", "host:8080"): "--server must be a URL such as http://127.0.0.1:8080, got 'host:8080'",
    ("worker", "--server", "grpc://host:1"): "--server must be a URL such as http://127.0.0.1:8080, got "
    "'grpc://host:1'; where it speaks gRPC is told by --grpc-server",
    ("worker", "--transport", "websocket", "--grpc-server", "host:1"): "--grpc-server goes with --transport=grpc",
    ("worker", "--resources", "gpu=1"): "--resources: gpu is matched device by device: leave it out, and say --gpus=1",
    ("worker", "--max-tasks", "0"): "--max-tasks must be 1 to 100,000, got 0",
    ("worker", "--output-limit", "1K"): "--output-limit must be at least 8,192, got 1,024",
    ("worker", "--cache-limit", "1"): "--cache-limit must be at least 1,048,576, got 1",
    ("worker", "--cache-dir", "/dev/null"): "--cache-dir /dev/null is not a directory",
    ("worker", "--overcommit", "cpu=1000"): "--overcommit: the factor of cpu must be 0.01 to 100, got 1000",
    ("worker", "--tags", "a b"): "--tags: 'a b' is not a tag",
    ("up", "--suspicious-after", "1s"): "--suspicious-after must be at least twice --heartbeat, so that",
    ("up", "--tags", "a b"): "--tags: 'a b' is not a tag",
    ("up", "--overcommit", "cpu=1000"): "--overcommit: the factor of cpu must be ",
}


@pytest.mark.parametrize("arguments,says", SETTINGS.items(), ids=map(" ".join, SETTINGS))
def test_settings_are_told_by_their_options(arguments: tuple[str, ...], says: str) -> None:
    assert refused(*arguments, url="http://127.0.0.1:1").startswith(says)


def test_what_came_from_elsewhere_is_told_by_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a b")
    assert refused("coordinator", ROTA_TOKEN="a b").startswith("ROTA_TOKEN must be printable ASCII")
    assert refused("coordinator", "--token-file", str(file)) == (
        f"--token-file '{file}': a token must be printable ASCII without spaces"
    )
    assert refused("worker", "--token-file", f"{file}_file") == (
        f"--token-file '{file}_file' can't be read: No such file or directory"
    )
    assert refused("worker", url="nonsense").startswith("ROTA_URL must be a URL such as")
