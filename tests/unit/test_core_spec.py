"""What a task may look like, and what is said of one that may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rota.core.checks import parse_task_id
from rota.core.errors import BadRequest, BadSpec, TooLarge
from rota.core.model import Backoff
from rota.core.requests import parse_requests
from rota.core.spec import (
    SPEC_BYTES_MAX,
    TaskRequest,
    backoff_of,
    deadline_time,
    decode_spec,
    encode_spec,
    kind_of,
    priority_of,
    resources_of,
    start_time,
    terms_of,
)


def parse(**fields: Any) -> TaskRequest:
    """Read one task that runs ``true``, unless it says what else."""
    work = {} if {"command", "shell", "code", "data", "image", "workload"} & fields.keys() else {"command": ["true"]}
    [request], _ = parse_requests(json.dumps({**work, **fields}).encode(), tasks_max=1)
    return request


def refusal(**fields: Any) -> BadSpec:
    with pytest.raises(BadSpec) as caught:
        parse(**fields)
    return caught.value


@pytest.mark.parametrize(
    "fields,field,says",
    [
        ({"comand": ["ls"]}, "comand", "did you mean `command`?"),
        ({"max_retries": 3}, "max_retries", "did you mean `retries`?"),
        ({"zzz": 1}, "zzz", "/docs"),
        ({"command": "ls -l"}, "command", "use `shell`"),
        ({"command": ["a"], "gang": {"id": "g", "size": 0}}, "gang", "it must be 1 to 1,000"),
        ({"command": ["a"], "gang": {"id": "", "size": 2}}, "gang", "its id must be"),
        ({"command": ["a"], "labels": {"rota.gang": "g"}}, "labels", "choose another key"),
        ({"workload": {"mix": "gpu", "seconds": 1}}, "workload", "not one of cpu, io, memory, mixed"),
        ({"workload": {"mix": "cpu", "seconds": -1}}, "workload", "must be 0 to"),
        ({"workload": {"mix": "io", "seconds": 1, "mib": 2**40}}, "workload", "at most 1,048,576"),
        ({"workload": {"mix": "io", "seconds": 1, "mib": -4}}, "workload.mib", "Expected `int` >= 0"),
        ({"workload": {"mix": "cpu", "seconds": 1, "cores": 2}}, "workload.cores", "no such field"),
        ({"workload": {"mix": "cpu", "seconds": 1, "mibs": 2}}, "workload.mibs", "did you mean `mib`"),
        ({"command": ["a"], "gang": {"id": "g", "sise": 2}}, "gang.sise", "did you mean `size`"),
        ({"workload": {"mix": "cpu", "seconds": 1}, "kind": "process"}, "kind", "does not go with workload"),
        ({"workload": {"mix": "cpu", "seconds": 1}, "command": ["a"]}, "workload", "exactly one of"),
        ({"command": ["ls", 3]}, "command[1]", "Expected `str`"),
        ({"command": []}, "command", "is empty"),
        ({"command": [""]}, "command", "empty string"),
        ({"command": ["a\0b"]}, "command", "NUL"),
        ({"command": ["echo", "a\0b"]}, "command", "NUL"),
        ({"command": None}, "command", "nothing to run"),
        ({"shell": "a\0b"}, "shell", "NUL"),
        ({"shell": "  "}, "shell", "is empty"),
        ({"cwd": "here"}, "cwd", "absolute"),
        ({"cwd": "/a\0b"}, "cwd", "NUL"),
        ({"env": {"A=B": "1"}}, "env", "name of a variable"),
        ({"env": {"": "1"}}, "env", "name of a variable"),
        ({"env": {"A": "a\0b"}}, "env", "NUL"),
        ({"env": {"A\0": "b"}}, "env", "NUL"),
        ({"env": {"A": 1}}, "env", "Expected `str`"),
        ({"kind": "wasm"}, "kind", "not one of process"),
        ({"kind": "python"}, "kind", "does not go with command"),
        ({"code": "pass"}, "kind", "python or go"),
        ({"code": "pass", "kind": "process"}, "kind", "does not go with code"),
        ({"data": "ruby:puts 1"}, "data", "python: or go:"),
        ({"data": "python"}, "data", "python: or go:"),
        ({"data": "go:x", "kind": "python"}, "kind", "does not go with data"),
        ({"data": "go:"}, "data", "has no code"),
        ({"code": "\n\t", "kind": "go"}, "code", "has no code"),
        ({"code": "", "kind": "go"}, "code", "has no code"),
        ({"code": "a\0b", "kind": "python"}, "code", "NUL"),
        ({"code": "a", "kind": "python", "command": ["a\0b"]}, "command", "NUL"),
        ({"command": ["a"], "shell": "b"}, "shell", "exactly one of"),
        ({"image": "a", "shell": "b"}, "image", "exactly one of"),
        ({"image": ""}, "image", "is empty"),
        ({"resources": {"cpu": -1}}, "resources", "can't be negative"),
        ({"resources": {"cpu": 10**12 + 1}}, "resources", "at most"),
        ({"resources": {"cpu": 10**40}}, "resources", "at most"),
        ({"resources": {"cpu": 0.5}}, "resources", "cpu in thousandths of a core"),
        ({"resources": {"cpu": "1"}}, "resources", "cpu in thousandths of a core"),
        ({"resources": {"C P U": 1}}, "resources", "name of a resource"),
        ({"resources": None}, "resources", "Expected `object`"),
        ({"tags": ["executor:process"]}, "tags", "at character 9"),
        ({"tags": [""]}, "tags", "must begin"),
        ({"tags": ["x"] * 65}, "tags", "at most 64"),
        ({"labels": {"": "x"}}, "labels", "is empty"),
        ({"labels": {str(i): "" for i in range(65)}}, "labels", "at most 64"),
        ({"labels": {"a": "b" * 201}}, "labels", "at most 200"),
        ({"name": ""}, "name", "is empty"),
        ({"name": "a\nb"}, "name", "control characters"),
        ({"queue": ""}, "queue", "letters, digits"),
        ({"queue": "a/b"}, "queue", "letters, digits"),
        ({"priority": "urgent"}, "priority", "low, medium, normal, high, critical"),
        ({"priority": 101}, "priority", "0 to 100"),
        ({"priority": -1}, "priority", "0 to 100"),
        ({"priority": True}, "priority", "got `bool`"),
        ({"retries": -1}, "retries", "must be 0 to"),
        ({"retries": 10**30}, "retries", "must be 0 to"),
        ({"losses": 1.5}, "losses", "Expected `int`"),
        ({"timeout": 0}, "timeout", "0.001"),
        ({"timeout": -5}, "timeout", "0.001"),
        ({"timeout": 1e12}, "timeout", "316,224,000"),
        ({"timeout": "5s"}, "timeout", "Expected `float"),
        ({"delay": -1}, "delay", "must be 0 to"),
        ({"delay": 1, "start_at": "2030-01-01T00:00:00Z"}, "delay", "not both"),
        ({"start_at": "2030-01-01T00:00:00"}, "start_at", "time zone"),
        ({"deadline": "2030-01-01T00:00:00"}, "deadline", "time zone"),
        ({"start_at": "0001-01-01T00:00:00+23:59"}, "start_at", "1971 to 9998"),
        ({"deadline": "9999-12-31T23:59:59-23:59"}, "deadline", "1971 to 9998"),
        ({"start_at": 5}, "start_at", "Expected `datetime"),
        ({"start_at": "tomorrow"}, "start_at", "RFC3339"),
        ({"deadline": 0}, "deadline", "0.001"),
        ({"backoff": -1}, "backoff", "must be 0 to"),
        ({"backoff": {"base": 1, "fctor": 2}}, "backoff", "takes base, factor and max"),
        ({"backoff": {"factor": 0.5}}, "backoff", "1 to 100"),
        ({"backoff": {"max": -1}}, "backoff", "must be 0 to"),
        ({"id": "t17"}, "id", "choose another"),
        ({"id": "-x"}, "id", "begin with a letter"),
        ({"id": "a" * 201}, "id", "1 to 200"),
    ],
)
def test_bad_field_is_named_with_what_to_do(fields: dict[str, Any], field: str, says: str) -> None:
    error = refusal(**fields)
    assert error.field == field
    assert says in error.problem
    assert error.index is None
    assert str(error).startswith(field)


@pytest.mark.parametrize(
    "second,says",
    [
        ({"command": ["a"], "comand": 1}, "task 1: comand: there is no such field; did you mean `command`?"),
        ({"command": 5}, "task 1: command: Expected `array | null`, got `int`"),
        ({"command": ["a"], "priority": "no"}, "task 1: priority: 'no' is not one of"),
        (7, "task 1: task: Expected `object`, got `int`"),
    ],
)
def test_bad_task_in_an_array_is_named_by_its_index(second: object, says: str) -> None:
    with pytest.raises(BadSpec) as caught:
        parse_requests(json.dumps([{"command": ["a"]}, second]).encode(), tasks_max=9)
    assert caught.value.index == 1
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b'{"command": ["a"]} x',
        b'{"command": ["\xff"]}',
        b'{"command": ["\\ud800"]}',
        b'{"timeout": 1e999, "command": ["a"]}',
        b"[" * 100_000,
        b'{"env":' * 100_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_body_that_is_no_task_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_requests(body, tasks_max=10)


def test_array_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge, match="3 tasks in one request: at most 2"):
        parse_requests(json.dumps([{"command": ["a"]}] * 3).encode(), tasks_max=2)


def test_spec_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge, match="at most 1,048,576"):
        encode_spec(parse(stdin="x" * SPEC_BYTES_MAX))


def test_one_object_and_an_array_of_one_are_told_apart() -> None:
    one = json.dumps({"command": ["a"]}).encode()
    assert parse_requests(one, tasks_max=1)[1] is False
    assert parse_requests(b" \n[" + one + b"]", tasks_max=1)[1] is True


@pytest.mark.parametrize(
    "said,number",
    [("low", 10), ("medium", 50), ("normal", 50), ("", 50), ("high", 90), ("critical", 100), (0, 0), (100, 100)],
)
def test_priority_words_are_numbers(said: object, number: int) -> None:
    assert priority_of(parse(priority=said)) == number
    assert terms_of(parse(priority=said)).priority == number


def test_saying_the_default_makes_no_other_task() -> None:
    plain = encode_spec(parse())
    assert encode_spec(parse(priority="normal")) == plain
    assert encode_spec(parse(priority=50)) == plain
    assert encode_spec(parse(kind="process")) == plain
    assert encode_spec(parse(id="mine")) == plain
    assert encode_spec(parse(retries=0, env={}, queue="default")) == plain
    assert encode_spec(parse(env={"A": "1", "B": "2"})) == encode_spec(parse(env={"B": "2", "A": "1"}))
    assert encode_spec(parse(priority=51)) != plain


@pytest.mark.parametrize(
    "fields,kind",
    [
        ({"command": ["a"]}, "process"),
        ({"shell": "a | b"}, "process"),
        ({"image": "alpine"}, "container"),
        ({"image": "alpine", "command": ["ls"]}, "container"),
        ({"image": "alpine", "command": []}, "container"),
        ({"data": "python:pass"}, "python"),
        ({"data": "go:x"}, "go"),
        ({"code": "x", "kind": "go"}, "go"),
        ({"code": "x", "kind": "python", "command": ["", "b"]}, "python"),
        ({"data": "python:x", "command": []}, "python"),
        ({"workload": {"mix": "cpu", "seconds": 1}}, "workload"),
    ],
)
def test_kind_is_implied_by_what_there_is_to_run(fields: dict[str, Any], kind: str) -> None:
    spec = decode_spec(encode_spec(parse(**fields)))
    assert kind_of(spec) == kind
    assert f"executor:{kind}" in terms_of(spec).shape.tags


def test_cpu_is_a_thousand_unless_something_is_said_of_it() -> None:
    assert resources_of(parse()) == (("cpu", 1000),)
    assert resources_of(parse(resources={"memory": 5})) == (("cpu", 1000), ("memory", 5))
    assert resources_of(parse(resources={"cpu": 0, "memory": 5})) == (("memory", 5),)
    assert resources_of(parse(resources={"licences": 2, "cpu": 10})) == (("cpu", 10), ("licences", 2))


def test_backoff_may_be_a_number_or_its_parts() -> None:
    assert backoff_of(parse()) == Backoff()
    assert backoff_of(parse(backoff=2)) == Backoff(base_s=2.0)
    assert backoff_of(parse(backoff=1000)) == Backoff(base_s=1000.0, cap_s=1000.0)
    assert backoff_of(parse(backoff={"base": 3, "max": 9})) == Backoff(3.0, 2.0, 9.0)
    assert backoff_of(parse(backoff={"factor": 1})) == Backoff(1.0, 1.0, 300.0)


def test_times_count_from_when_the_task_is_accepted() -> None:
    assert start_time(parse(), accepted_at=100.0) is None
    assert start_time(parse(delay=0), accepted_at=100.0) is None
    assert start_time(parse(delay=5), accepted_at=100.0) == 105.0
    assert start_time(parse(start_at="1971-01-01T01:00:00+01:00"), accepted_at=100.0) == 365 * 86_400.0
    assert deadline_time(parse(deadline=5), accepted_at=100.0) == 105.0
    assert deadline_time(parse(deadline="1971-01-01T00:00:00Z"), accepted_at=100.0) == 365 * 86_400.0
    assert deadline_time(parse(), accepted_at=100.0) is None


def test_run_times_are_learned_by_name_else_by_program() -> None:
    assert terms_of(parse(name="nightly")).class_key == "nightly"
    assert terms_of(parse(command=["make", "all"])).class_key == "make"
    assert terms_of(parse(image="alpine", command=["make"])).class_key == "alpine"
    assert terms_of(parse(shell="make all")).class_key == "process"
    same = [terms_of(parse(**fields)).class_key for fields in ({"data": "go:x"}, {"kind": "go", "code": "x"})]
    assert same[0] == same[1] != terms_of(parse(data="python:x", command=["make"])).class_key


@pytest.mark.parametrize("text", ["nightly", "t", "t1x", "a:b@c.d-e_f", "0", "T17"])
def test_chosen_id_that_can_not_be_a_generated_one_is_taken(text: str) -> None:
    assert parse_task_id(text) == text


@pytest.mark.parametrize("text", ["t0", "t17", "t017", "", " a", "a\n", "é", "a/b"])
def test_chosen_id_that_would_confuse_is_refused(text: str) -> None:
    with pytest.raises(BadSpec):
        parse_task_id(text)
