"""Tasks between the messages of the contract and the core: nothing that REST can say is lost on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rota.coordinator.grpc.specs import LARGE_FIELDS, read_spec
from rota.coordinator.grpc.views import node_message, task_message
from rota.core.errors import BadSpec
from rota.core.model import GangTerms, Gpu, InputFile, Offer, SyntheticWork, TaskState, WorkerState
from rota.core.protocol import Usage
from rota.core.spec import TaskRequest
from rota.v1 import node_pb2, task_pb2
from tests.support.fake_service import FakeService

MOMENT = datetime(2030, 1, 31, 12, tzinfo=UTC)
STAMP = Timestamp(seconds=int(MOMENT.timestamp()))

SAID_OTHERWISE = {"priority": ("priority", "priority_word"), "deadline": ("deadline", "deadline_at")}


def read(**fields: Any) -> TaskRequest:
    return read_spec(task_pb2.TaskSpec(**fields), index=0)


def test_contract_has_every_field_of_a_spec_and_no_other() -> None:
    ours = [name for field in TaskRequest.__struct_fields__ for name in SAID_OTHERWISE.get(field, (field,))]
    assert sorted(task_pb2.TaskSpec.DESCRIPTOR.fields_by_name) == sorted(ours)


def test_every_state_has_a_name_in_the_contract() -> None:
    assert len(task_pb2.TaskState.items()) == len(TaskState) + 1
    assert len(node_pb2.NodeState.items()) == len(WorkerState) + 1


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"command": ["echo", "a"]}, TaskRequest(command=["echo", "a"])),
        ({"id": "x", "shell": ":"}, TaskRequest(id="x", shell=":")),
        ({"code": "pass", "kind": "python"}, TaskRequest(code="pass", kind="python")),
        ({"data": "go:x"}, TaskRequest(data="go:x")),
        ({"image": "debian", "command": ["ls"]}, TaskRequest(image="debian", command=["ls"])),
        (
            {"workload": {"mix": "io", "seconds": 1.5, "mib": 64}},
            TaskRequest(workload=SyntheticWork("io", 1.5, 64)),
        ),
        (
            {"function": "ab" * 32, "callable": "f", "python": "3.11", "requirements": ["x"], "blobs": ["cd" * 32]},
            TaskRequest(function="ab" * 32, callable="f", python="3.11", requirements=["x"], blobs=["cd" * 32]),
        ),
        ({"function": "ab" * 32, "args": b"\0\1"}, TaskRequest(function="ab" * 32, args=b"\0\1")),
        (
            {"shell": ":", "env": {"A": ""}, "cwd": "/", "stdin": ""},
            TaskRequest(shell=":", env={"A": ""}, cwd="/", stdin=""),
        ),
        (
            {"shell": ":", "resources": {"cpu": 500, "gpu": 0}, "tags": ["a", "!b"], "limits": {"x": 1}},
            TaskRequest(shell=":", resources={"cpu": 500, "gpu": 0}, tags=["a", "!b"], limits={"x": 1}),
        ),
        ({"shell": ":", "priority": 0}, TaskRequest(shell=":", priority=0)),
        ({"shell": ":", "priority": 50}, TaskRequest(shell=":")),
        ({"shell": ":", "priority_word": "critical"}, TaskRequest(shell=":", priority=100)),
        (
            {"shell": ":", "name": "n", "queue": "q", "placement": "binpack", "affinity": "a"},
            TaskRequest(shell=":", name="n", queue="q", placement="binpack", affinity="a"),
        ),
        (
            {"shell": ":", "timeout": 2.5, "retries": 3, "losses": 0},
            TaskRequest(shell=":", timeout=2.5, retries=3, losses=0),
        ),
        ({"shell": ":", "backoff": {"base": 0.0, "max": 5}}, TaskRequest(shell=":", backoff={"base": 0.0, "max": 5.0})),
        (
            {"shell": ":", "files": {"a": {"digest": "ab" * 32}, "b": {"digest": "cd" * 32, "executable": True}}},
            TaskRequest(shell=":", files={"a": "ab" * 32, "b": InputFile("cd" * 32, executable=True)}),
        ),
        ({"shell": ":", "outputs": ["*.png"]}, TaskRequest(shell=":", outputs=["*.png"])),
        ({"shell": ":", "start_at": STAMP}, TaskRequest(shell=":", start_at=MOMENT)),
        ({"shell": ":", "delay": 0.0}, TaskRequest(shell=":", delay=0.0)),
        ({"shell": ":", "deadline_at": STAMP}, TaskRequest(shell=":", deadline=MOMENT)),
        ({"shell": ":", "deadline": 60}, TaskRequest(shell=":", deadline=60.0)),
        (
            {"shell": ":", "exclusive": True, "gang": {"id": "g", "size": 2}, "labels": {"a": "b"}},
            TaskRequest(shell=":", exclusive=True, gang=GangTerms("g", 2), labels={"a": "b"}),
        ),
    ],
    ids=str,
)
def test_what_is_sent_is_what_is_asked_for(fields: dict[str, Any], expected: TaskRequest) -> None:
    assert read(**fields) == expected


@pytest.mark.parametrize(
    "fields, field",
    [
        ({}, "command"),
        ({"shell": ":", "command": ["true"]}, "shell"),
        ({"shell": ""}, "shell"),
        ({"shell": "a\0b"}, "shell"),
        ({"command": [""]}, "command"),
        ({"data": "ruby:x"}, "data"),
        ({"shell": ":", "id": "a b"}, "id"),
        ({"shell": ":", "id": "t17"}, "id"),
        ({"shell": ":", "name": ""}, "name"),
        ({"shell": ":", "queue": "a b"}, "queue"),
        ({"shell": ":", "priority": -1}, "priority"),
        ({"shell": ":", "priority": 101}, "priority"),
        ({"shell": ":", "priority_word": "urgent"}, "priority"),
        ({"shell": ":", "resources": {"cpu": -1}}, "resources"),
        ({"shell": ":", "resources": {"CPU": 1}}, "resources"),
        ({"shell": ":", "limits": {"x": -1}}, "limits"),
        ({"shell": ":", "retries": -1}, "retries"),
        ({"shell": ":", "losses": 2_000_000}, "losses"),
        ({"shell": ":", "timeout": 0.0}, "timeout"),
        ({"shell": ":", "timeout": float("nan")}, "timeout"),
        ({"shell": ":", "delay": float("inf")}, "delay"),
        ({"shell": ":", "delay": -1.0}, "delay"),
        ({"shell": ":", "deadline": -5.0}, "deadline"),
        ({"shell": ":", "backoff": {"factor": 0.5}}, "backoff"),
        ({"shell": ":", "start_at": Timestamp(seconds=2**62)}, "start_at"),
        ({"shell": ":", "start_at": Timestamp(seconds=-(2**62))}, "start_at"),
        ({"shell": ":", "deadline_at": Timestamp(seconds=1, nanos=-5)}, "deadline_at"),
        ({"shell": ":", "gang": {"id": "g", "size": 0}}, "gang"),
        ({"shell": ":", "gang": {"size": 2}}, "gang"),
        ({"shell": ":", "cwd": "x"}, "cwd"),
        ({"shell": ":", "env": {"": "x"}}, "env"),
        ({"shell": ":", "labels": {"": "x"}}, "labels"),
        ({"shell": ":", "labels": {"rota.gang": "x"}}, "labels"),
        ({"shell": ":", "tags": ["a b c"]}, "tags"),
        ({"workload": {"mix": "nothing", "seconds": 1}}, "workload"),
        ({"workload": {"mix": "io", "seconds": 1, "mib": 2**63}}, "workload"),
        ({"workload": {"mix": "io", "seconds": -1}}, "workload"),
        ({"shell": ":", "args": b"x"}, "args"),
        ({"shell": ":", "files": {"../a": {"digest": "ab" * 32}}}, "files"),
        ({"shell": ":", "files": {"a": {}}}, "files"),
        ({"shell": ":", "outputs": ["../../etc/passwd"]}, "outputs"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_field_and_index(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadSpec) as caught:
        read_spec(task_pb2.TaskSpec(**fields), index=7)
    assert (caught.value.field, caught.value.index) == (field, 7)
    assert str(caught.value).startswith(f"task 7: {field}: ")


async def test_task_is_shown_as_it_was_sent_and_in_lists_without_what_may_be_large() -> None:
    fields: dict[str, Any] = {
        "shell": "echo",
        "env": {"A": "1"},
        "stdin": "text",
        "name": "n",
        "queue": "q",
        "tags": ["gpu"],
        "labels": {"a": "b"},
        "limits": {"x": 2},
        "resources": {"memory": 64},
        "timeout": 5.0,
        "retries": 2,
        "losses": 0,
        "priority": 0,
        "start_at": STAMP,
        "gang": {"id": "g", "size": 1},
    }
    service = FakeService()
    (view,) = await service.submit([read(**fields)], is_array=True)
    sent = task_pb2.TaskSpec(**fields)
    sent.resources["cpu"] = 1000
    sent.backoff.CopyFrom(task_pb2.Retrying(base=1.0, factor=2.0, max=300.0))
    assert task_message(view).spec == sent
    for name in LARGE_FIELDS:
        sent.ClearField(name)
    listed = task_message(view, is_listed=True)
    assert listed.spec == sent
    assert (listed.id, listed.state, listed.reason) == ("t1", task_pb2.TASK_STATE_PENDING, "no-workers")
    assert listed.created_at.ToJsonString() == "2026-01-01T00:00:00.250Z"


async def test_what_is_sent_is_shown_of_every_kind_of_work() -> None:
    service = FakeService()
    kinds: list[dict[str, Any]] = [
        {"workload": {"mix": "io", "seconds": 1.5, "mib": 64}},
        {"function": "ab" * 32, "args": b"\0", "blobs": ["cd" * 32], "python": "3.11", "callable": "f"},
        {"code": "pass", "kind": "python"},
        {"shell": ":", "files": {"a": {"digest": "ab" * 32, "executable": True}}, "outputs": ["b"]},
        {"command": ["a"], "deadline": 60.0, "delay": 5.0, "backoff": {"base": 2.0, "factor": 3.0, "max": 4.0}},
    ]
    for fields in kinds:
        (view,) = await service.submit([read(**fields)], is_array=True)
        shown = task_message(view).spec
        for name, value in fields.items():
            if name == "delay":
                assert shown.start_at.seconds - view.record.facts.created_at // 1 == 5
            elif name == "deadline":
                assert shown.deadline_at.seconds - view.record.facts.created_at // 1 == 60
            else:
                assert getattr(shown, name) == getattr(task_pb2.TaskSpec(**{name: value}), name), name


async def test_running_task_says_how_far_it_is_and_an_ended_one_what_it_took() -> None:
    service = FakeService()
    await service.submit([read(shell=":")], is_array=True)
    service.start("t1")
    service.mark("t1", 0.4, "parsing")
    running = task_message(await service.get("t1"))
    assert (running.state, running.worker, running.attempt) == (task_pb2.TASK_STATE_RUNNING, "w1", 1)
    assert (running.progress.fraction, running.progress.text) == (0.4, "parsing")
    assert not running.HasField("exit_code")
    service.end("t1", state=TaskState.FAILED, exit_code=3)
    ended = task_message(await service.get("t1"))
    assert (ended.cause, ended.exit_code, ended.cpu_seconds, ended.peak_memory) == ("exit", 3, 0.25, 2.1)


async def test_node_is_shown_with_its_devices_and_its_load() -> None:
    service = FakeService()
    service.add_node("w1", offer=Offer((("cpu", 4000),), frozenset({"b", "a"}), gpus=(Gpu(16, "X"),), pid=2**40))
    service.change_node("w1", usage=Usage(37.5, 512, 2048, 1.5), state=WorkerState.SUSPICIOUS)
    (view,) = await service.nodes()
    node = node_message(msgspec.structs.replace(view, last_seen_s=None))
    assert (node.state, list(node.tags), node.pid) == (node_pb2.NODE_STATE_SUSPICIOUS, ["a", "b"], 2**40)
    assert [(device.memory, device.model) for device in node.gpus] == [(16, "X")]
    assert (node.usage.cpu_percent, node.usage.memory_total) == (37.5, 2048)
    assert not node.HasField("last_seen")
    assert not node.HasField("python")
