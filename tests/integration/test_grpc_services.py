"""The public services of a real coordinator, called by a client that knows them by reflection alone."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

import rota
from tests.support.grpc_client import ReflectedClient
from tests.support.real_cluster import Cluster, Gate
from tests.support.waiting import wait_until

ROTA = "rota.v1.Rota"
BLOBS = "rota.v1.Blobs"
TASKANDGO = "scheduler.Scheduler"
PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = 1, 3, 4, 5, 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("grpc"), "--grpc-port=0") as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=1G,special=1")
        yield running


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[ReflectedClient]:
    with ReflectedClient(cluster.wait_for_grpc()) as found:
        yield found


def fresh(name: str = "task") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def trailing(error: grpc.RpcError) -> dict[str, str]:
    return {said.key: str(said.value) for said in error.trailing_metadata()}


def submit(client: ReflectedClient, **spec: Any) -> str:
    (task_id,) = client.call(f"{ROTA}/SubmitTasks", tasks=[spec]).ids
    return str(task_id)


def wait_for(client: ReflectedClient, task_id: str) -> Any:
    return client.call(f"{ROTA}/GetTask", id=task_id, wait=20.0).task


# Every RPC, from nothing but the address


def test_client_made_by_reflection_runs_through_every_rpc(client: ReflectedClient) -> None:
    first, second, snippet, part = fresh(), fresh(), fresh("snippet"), fresh("part")
    blob = {"digest": hashlib.sha256(b"a blob").hexdigest()}
    requests: dict[str, Callable[[], Any]] = {
        f"{ROTA}/SubmitTasks": lambda: client.call(
            f"{ROTA}/SubmitTasks", tasks=[{"id": first, "command": ["true"]}, {"id": second, "shell": "exit 3"}]
        ),
        f"{ROTA}/GetTask": lambda: client.call(f"{ROTA}/GetTask", id=first, wait=20.0),
        f"{ROTA}/ListTasks": lambda: client.call(f"{ROTA}/ListTasks"),
        f"{ROTA}/CancelTask": lambda: client.call(f"{ROTA}/CancelTask", id=first),
        f"{ROTA}/ReadLogs": lambda: list(client.stream(f"{ROTA}/ReadLogs", id=first, follow=True)),
        f"{ROTA}/WatchEvents": lambda: next(client.stream(f"{ROTA}/WatchEvents", after="0.0")),
        f"{ROTA}/ListNodes": lambda: client.call(f"{ROTA}/ListNodes"),
        f"{BLOBS}/PutBlob": lambda: client.send(f"{BLOBS}/PutBlob", [{**blob, "data": b"a "}, {"data": b"blob"}]),
        f"{BLOBS}/StatBlob": lambda: client.call(f"{BLOBS}/StatBlob", **blob),
        f"{BLOBS}/GetBlob": lambda: b"".join(piece.data for piece in client.stream(f"{BLOBS}/GetBlob", **blob)),
        f"{TASKANDGO}/SubmitTask": lambda: client.call(f"{TASKANDGO}/SubmitTask", task={"task_id": snippet}),
        f"{TASKANDGO}/SubmitSubTask": lambda: client.call(
            f"{TASKANDGO}/SubmitSubTask", subtask={"subtask_id": part, "parent_task_id": snippet}
        ),
        f"{TASKANDGO}/GetTaskStatus": lambda: client.call(f"{TASKANDGO}/GetTaskStatus", task_id=snippet),
        f"{TASKANDGO}/ListTasks": lambda: client.call(f"{TASKANDGO}/ListTasks"),
        f"{TASKANDGO}/GetResourceUsage": lambda: client.call(f"{TASKANDGO}/GetResourceUsage"),
    }
    assert {rpc for rpc in client if not rpc.startswith("rota.v1.Channel/")} == set(requests)
    answers = {rpc: ask() for rpc, ask in requests.items()}
    assert list(answers[f"{ROTA}/SubmitTasks"].ids) == [first, second]
    assert answers[f"{ROTA}/GetTask"].task.state == COMPLETED
    assert {first, second} <= {task.id for task in answers[f"{ROTA}/ListTasks"].tasks}
    assert answers[f"{ROTA}/CancelTask"].had_ended
    assert answers[f"{ROTA}/ReadLogs"] == []
    assert answers[f"{ROTA}/WatchEvents"].type.startswith("task.")
    assert [node.id for node in answers[f"{ROTA}/ListNodes"].nodes] == ["w1"]
    assert answers[f"{BLOBS}/PutBlob"].is_new
    assert answers[f"{BLOBS}/StatBlob"].size == len(b"a blob")
    assert answers[f"{BLOBS}/GetBlob"] == b"a blob"
    assert answers[f"{TASKANDGO}/SubmitTask"].message == f"Task {snippet} submitted successfully"
    assert answers[f"{TASKANDGO}/SubmitSubTask"].message == f"Subtask {part} submitted for task {snippet}"
    assert answers[f"{TASKANDGO}/GetTaskStatus"].found
    assert {snippet, part} <= {task.task_id for task in answers[f"{TASKANDGO}/ListTasks"].tasks}
    assert answers[f"{TASKANDGO}/GetResourceUsage"] is not None


# rota.v1


def test_all_of_the_tasks_are_accepted_or_none(client: ReflectedClient) -> None:
    good = fresh()
    error = refused(
        lambda: client.call(f"{ROTA}/SubmitTasks", tasks=[{"id": good, "shell": ":"}, {"shell": ":", "retries": -1}])
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "task 1: retries: is -1: it must be 0 to 1000000"
    said = trailing(error)
    assert (said["rota-code"], said["rota-field"], said["rota-index"]) == ("bad_spec", "retries", "1")
    gone = refused(lambda: client.call(f"{ROTA}/GetTask", id=good))
    assert (gone.code(), trailing(gone)["rota-code"]) == (grpc.StatusCode.NOT_FOUND, "not_found")


def test_a_task_that_is_too_large_is_named_among_many(client: ReflectedClient) -> None:
    tasks = [{"shell": ":"}, {"shell": ":", "stdin": "x" * (1 << 20)}]
    error = refused(lambda: client.call(f"{ROTA}/SubmitTasks", tasks=tasks))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("task 1: the task is 1,048,598 bytes")
    said = trailing(error)
    assert (said["rota-code"], said["rota-index"]) == ("too_large", "1")
    assert "rota-field" not in said


def test_submit_can_be_repeated_and_an_id_has_one_spec(client: ReflectedClient) -> None:
    task_id = fresh()
    assert submit(client, id=task_id, shell=":") == submit(client, id=task_id, shell=":") == task_id
    error = refused(lambda: submit(client, id=task_id, shell="true"))
    assert (error.code(), trailing(error)["rota-code"]) == (grpc.StatusCode.ALREADY_EXISTS, "conflict")


def test_ended_task_says_how_it_ended(client: ReflectedClient) -> None:
    task = wait_for(client, submit(client, shell="echo hello; exit 3", labels={"a": "b"}, priority_word="high"))
    assert (task.state, task.cause, task.exit_code, task.worker) == (FAILED, "exit", 3, "w1")
    assert (task.stdout_bytes, task.attempt, task.kind) == (6, 1, "process")
    assert (task.spec.shell, task.spec.priority, dict(task.spec.labels)) == ("echo hello; exit 3", 90, {"a": "b"})
    assert task.created_at.ToNanoseconds() <= task.started_at.ToNanoseconds() <= task.ended_at.ToNanoseconds()


def test_waiting_ends_with_the_time_that_was_given(client: ReflectedClient, cluster: Cluster) -> None:
    with Gate(cluster.folder / fresh("gate")) as gate:
        task_id = submit(client, shell=gate.shell)
        assert client.call(f"{ROTA}/GetTask", id=task_id, wait=0.05).task.state in (PENDING, 2, RUNNING)
        gate.open()
        assert wait_for(client, task_id).state == COMPLETED


def test_cancelled_task_is_stopped(client: ReflectedClient, cluster: Cluster) -> None:
    with Gate(cluster.folder / fresh("gate")) as gate:
        task_id = submit(client, shell=gate.shell)
        cluster.wait_for_state(task_id, "running")
        answer = client.call(f"{ROTA}/CancelTask", id=task_id)
        assert not answer.had_ended
        assert answer.task.cancel_requested
        assert wait_for(client, task_id).state == CANCELLED


def test_pages_follow_each_other_newest_first(client: ReflectedClient) -> None:
    label = {"page": fresh()}
    answer = client.call(f"{ROTA}/SubmitTasks", tasks=[{"shell": ":", "labels": label, "env": {"A": "1"}}] * 7)
    seen, cursor = [], ""
    while True:
        page = client.call(f"{ROTA}/ListTasks", labels=label, limit=3, cursor=cursor)
        assert all(not task.spec.env for task in page.tasks), "lists leave it out"
        seen.append([task.id for task in page.tasks])
        if not (cursor := page.next_cursor):
            break
    assert [len(ids) for ids in seen] == [3, 3, 1]
    assert [task_id for ids in seen for task_id in ids] == list(answer.ids)[::-1]


def test_page_of_large_tasks_ends_before_it_is_too_large_for_clients(client: ReflectedClient) -> None:
    label = {"large": fresh()}
    ids = [submit(client, command=["true", "x" * 900_000], labels=label) for _ in range(5)]
    seen, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = client.call(f"{ROTA}/ListTasks", labels=label, cursor=cursor)
        seen += [task.id for task in page.tasks]
        cursor, pages = page.next_cursor, pages + 1
    assert (seen, pages) == (ids[::-1], 3)


def test_list_is_filtered_by_state_and_time(client: ReflectedClient) -> None:
    label = {"kind": fresh()}
    good, bad = submit(client, shell=":", labels=label), submit(client, shell="exit 1", labels=label)
    for task_id in (good, bad):
        wait_for(client, task_id)
    assert [task.id for task in client.call(f"{ROTA}/ListTasks", labels=label, states=[FAILED]).tasks] == [bad]
    moment = client.type_named("google.protobuf.Timestamp")(seconds=int(time.time()) + 3600)
    assert not client.call(f"{ROTA}/ListTasks", labels=label, since=moment).tasks
    assert len(client.call(f"{ROTA}/ListTasks", labels=label, until=moment).tasks) == 2


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"states": [17]}, "states"),
        ({"states": [-1]}, "states"),
        ({"limit": 1001}, "limit"),
        ({"limit": -1}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "9" * 19}, "cursor"),
        ({"cursor": "9" * 30}, "cursor"),
        ({"labels": {f"l{number}": "" for number in range(65)}}, "labels"),
        ({"labels": {f"l{number}": "" for number in range(5000)}}, "labels"),
    ],
)
def test_filter_that_makes_no_sense_is_refused_by_its_name(
    client: ReflectedClient, fields: dict[str, Any], field: str
) -> None:
    error = refused(lambda: client.call(f"{ROTA}/ListTasks", **fields))
    assert (error.code(), trailing(error)["rota-field"]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_nodes_say_what_they_offer_and_how_busy_they_are(client: ReflectedClient, cluster: Cluster) -> None:
    def told() -> Any:
        (node,) = client.call(f"{ROTA}/ListNodes").nodes
        return node if node.HasField("usage") else None

    node = wait_until(told, what="the first heartbeat")
    assert (node.id, node.state, node.resources["cpu"], node.resources["special"]) == ("w1", 1, 4000, 1)
    assert 0 < node.usage.memory_used < node.usage.memory_total


def test_watch_tells_what_happens_and_goes_on_where_it_was_left(client: ReflectedClient) -> None:
    task_id, other = fresh(), fresh()
    watch = client.stream(f"{ROTA}/WatchEvents", task_ids=[task_id])
    watch.initial_metadata()  # from here on nothing is missed
    submit(client, id=other, shell=":")
    submit(client, id=task_id, shell=":")
    events = [next(watch)]
    while events[-1].type != "task.completed":
        events.append(next(watch))
    watch.cancel()
    assert {event.task for event in events} == {task_id}
    assert [event.type for event in events][:1] == ["task.pending"]
    again = client.stream(f"{ROTA}/WatchEvents", after=events[0].id, task_ids=[task_id])
    assert [next(again).id for _ in events[1:]] == [event.id for event in events[1:]]
    again.cancel()
    only_ends = client.stream(f"{ROTA}/WatchEvents", after=events[0].id, types=["task.completed"], task_ids=[task_id])
    assert next(only_ends).type == "task.completed"
    only_ends.cancel()


@pytest.mark.parametrize("after", ["x", "1", "1.", "-1.0", "1.0\n", "9" * 20 + ".0"])
def test_watch_after_what_is_no_event_is_refused(client: ReflectedClient, after: str) -> None:
    error = refused(lambda: next(client.stream(f"{ROTA}/WatchEvents", after=after)))
    assert (error.code(), trailing(error)["rota-field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "after")


def test_watch_from_before_all_memory_is_told_to_look_anew(client: ReflectedClient) -> None:
    watch = client.stream(f"{ROTA}/WatchEvents", after="999999.0", task_ids=["nobody"])
    assert next(watch).type == "resync"
    watch.cancel()


def output(client: ReflectedClient, **fields: Any) -> bytes:
    return b"".join(piece.data for piece in client.stream(f"{ROTA}/ReadLogs", **fields))


def test_output_is_read_as_it_was_written_and_followed_to_its_end(client: ReflectedClient, cluster: Cluster) -> None:
    with Gate(cluster.folder / fresh("gate")) as gate:
        task_id = submit(client, shell=f"echo one; echo two >&2; {gate.shell}; echo three")
        followed = client.stream(f"{ROTA}/ReadLogs", id=task_id, follow=True, stream=1)
        assert next(followed).data == b"one\n"
        gate.open()
        assert b"".join(piece.data for piece in followed) == b"three\n"
    assert output(client, id=task_id, stream=1) == b"one\nthree\n"
    assert output(client, id=task_id, stream=2, attempt=1) == b"two\n"
    large = submit(client, shell="seq 100000")
    assert output(client, id=large, follow=True) == b"".join(b"%d\n" % number for number in range(1, 100_001))


@pytest.mark.parametrize(
    "fields, code",
    [
        ({"id": "nobody"}, grpc.StatusCode.NOT_FOUND),
        ({"attempt": 2}, grpc.StatusCode.NOT_FOUND),
        ({"attempt": -1}, grpc.StatusCode.NOT_FOUND),
        ({"stream": 3}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_output_that_there_is_not_is_refused(
    client: ReflectedClient, fields: dict[str, Any], code: grpc.StatusCode
) -> None:
    task_id = submit(client, shell=":")
    wait_for(client, task_id)
    assert refused(lambda: output(client, **{"id": task_id, **fields})).code() is code


# scheduler.Scheduler


def taskandgo_submit(client: ReflectedClient, **task: object) -> Any:
    return client.call(f"{TASKANDGO}/SubmitTask", task=task)


def status(client: ReflectedClient, task_id: str) -> Any:
    return client.call(f"{TASKANDGO}/GetTaskStatus", task_id=task_id)


def test_taskandgo_task_is_told_of_in_its_words(client: ReflectedClient) -> None:
    task_id = fresh()
    answer = taskandgo_submit(client, task_id=task_id, priority="high", data="what is this?")
    assert (answer.success, answer.message) == (True, f"Task {task_id} submitted successfully")
    again = taskandgo_submit(client, task_id=task_id, priority="high", data="what is this?")
    assert (again.success, again.message) == (False, f"Task {task_id} already exists")
    none = client.call(f"{TASKANDGO}/SubmitTask")
    assert (none.success, none.message) == (False, "No task provided")
    nobody = status(client, "nobody")
    assert (nobody.found, nobody.currentStatus, nobody.message) == (False, "", "Task nobody not found")


def test_taskandgo_task_without_an_id_gets_one_that_the_message_names(client: ReflectedClient) -> None:
    answer = taskandgo_submit(client, data="x")
    word, task_id, *rest = answer.message.split()
    assert (word, rest, task_id[0]) == ("Task", ["submitted", "successfully"], "t")
    assert status(client, task_id).found


def test_taskandgo_subtask_names_a_parent_that_need_not_be_known(client: ReflectedClient) -> None:
    part = fresh("part")
    answer = client.call(f"{TASKANDGO}/SubmitSubTask", subtask={"subtask_id": part, "parent_task_id": "nobody"})
    assert (answer.success, answer.message) == (True, f"Subtask {part} submitted for task nobody")
    assert client.call(f"{ROTA}/GetTask", id=part).task.spec.labels["parent"] == "nobody"
    none = client.call(f"{TASKANDGO}/SubmitSubTask")
    assert (none.success, none.message) == (False, "No subtask provided")


def test_python_snippet_of_taskandgo_runs_and_its_output_can_be_read(client: ReflectedClient) -> None:
    good, bad = fresh(), fresh()
    taskandgo_submit(client, task_id=good, priority="critical", data="python:print(6 * 7)")
    taskandgo_submit(client, task_id=bad, data="python:this is no program")
    assert (wait_for(client, good).kind, wait_for(client, bad).kind) == ("python", "python")
    assert status(client, good).currentStatus == "COMPLETED"
    assert status(client, bad).currentStatus == "FAILED"
    assert output(client, id=good) == b"42\n"
    assert b"SyntaxError" in output(client, id=bad)
    listed = next(task for task in client.call(f"{TASKANDGO}/ListTasks").tasks if task.task_id == good)
    assert (listed.data, listed.priority, listed.progress) == ("python:print(6 * 7)", "critical", 100)


@pytest.mark.parametrize("data", ["", "ruby:puts 1", "python", "\N{SNOWMAN}"])
def test_data_that_nothing_can_run_is_accepted_and_fails_with_the_prefixes(client: ReflectedClient, data: str) -> None:
    task_id = fresh()
    assert taskandgo_submit(client, task_id=task_id, data=data).success
    task = wait_for(client, task_id)
    assert (task.state, task.cause) == (FAILED, "launch-error")
    assert "python:" in task.message
    assert "go:" in task.message
    answer = status(client, task_id)
    assert (answer.found, answer.currentStatus) == (True, "FAILED")
    assert answer.message == f"Task {task_id} is in FAILED state"


def test_status_words_follow_a_task(client: ReflectedClient, cluster: Cluster) -> None:
    with Gate(cluster.folder / fresh("gate")) as gate:
        first = submit(client, shell=gate.shell, resources={"special": 1})
        second = submit(client, shell=":", resources={"special": 1})
        cluster.wait_for_state(first, "running")
        assert status(client, first).message == f"Task {first} is in RUNNING state"
        assert status(client, second).currentStatus == "QUEUED"
        client.call(f"{ROTA}/CancelTask", id=second)
        gate.open()
        wait_for(client, first)
        wait_for(client, second)
    assert status(client, first).currentStatus == "COMPLETED"
    assert status(client, second).currentStatus == "CANCELLED"
    listed = {task.task_id: task for task in client.call(f"{TASKANDGO}/ListTasks").tasks}
    assert (listed[first].progress, listed[first].status) == (100, "COMPLETED")
    assert (listed[second].progress, listed[second].status) == (0, "CANCELLED")


@pytest.mark.parametrize("task_id", ["a b", "t17", "x" * 201, "\N{SNOWMAN}", "a\0b"])
def test_id_that_can_be_none_is_answered_with_a_sentence(client: ReflectedClient, task_id: str) -> None:
    answer = taskandgo_submit(client, task_id=task_id, data="python:pass")
    assert not answer.success
    assert answer.message.startswith("task_id: ")
    assert not status(client, task_id).found or task_id == "t17"


def test_usage_is_that_of_the_machine(client: ReflectedClient) -> None:
    def told() -> Any:
        return client.call(f"{TASKANDGO}/GetResourceUsage").usages

    (usage,) = wait_until(told, what="the first heartbeat")
    assert usage.nodeName == "w1"
    assert 0 <= usage.cpuPercent <= 100
    assert 0 < usage.memPercent <= 100


def test_of_many_who_submit_one_id_at_once_one_succeeds(client: ReflectedClient) -> None:
    task_id = fresh()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: taskandgo_submit(client, task_id=task_id, data="x"), range(64)))
    assert sum(answer.success for answer in answers) == 1
    assert {answer.message for answer in answers if not answer.success} == {f"Task {task_id} already exists"}


def test_both_doors_of_taskandgo_share_their_ids(client: ReflectedClient, cluster: Cluster) -> None:
    task_id = fresh()
    body = {"task_id": task_id, "priority": "low", "data": "x"}
    with httpx.Client(base_url=cluster.url) as http:
        first = http.post("/submit-task", content=json.dumps(body), headers={"content-type": "text/csv"})
        assert (first.status_code, first.json()["message"]) == (201, f"Task {task_id} submitted successfully")
        assert taskandgo_submit(client, **body).message == f"Task {task_id} already exists"
        again = http.post("/submit-task", json=body)
        assert (again.status_code, again.json()["message"]) == (409, f"Task {task_id} already exists")
    assert wait_for(client, task_id).spec.priority == 10


def test_list_says_how_far_a_running_task_is(client: ReflectedClient, cluster: Cluster) -> None:
    gate_path = cluster.folder / fresh("gate")

    def work(path: str) -> None:
        rota.current().set_progress(0.4, "parsing")
        with open(path) as gate:
            gate.readline()

    def listed() -> Any:
        tasks = client.call(f"{TASKANDGO}/ListTasks").tasks
        return next((task for task in tasks if task.task_id == task_id and task.progress), None)

    with Gate(gate_path) as gate, rota.Client(cluster.url) as sdk:
        task = sdk.submit(work, gate.path)
        task_id = task.task_id(timeout=20.0)
        found = wait_until(listed, what="the mark")
        assert (found.status, found.progress) == ("RUNNING", 40)
        gate.open()
        task.result(timeout=20.0)
        assert (listed().status, listed().progress) == ("COMPLETED", 100)


def test_when_too_many_wait_clients_are_asked_to_come_again(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--grpc-port=0", "--max-pending=1") as full:
        full.start_coordinator()
        with ReflectedClient(full.wait_for_grpc()) as client:
            submit(client, shell=":")
            for call in (lambda: submit(client, shell=":"), lambda: taskandgo_submit(client, data="x")):
                error = refused(call)
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert trailing(error) == {"rota-code": "overloaded", "grpc-retry-pushback-ms": "1000"}


def test_token_is_asked_for_by_every_rpc(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--grpc-port=0", token="s3cret") as guarded:
        guarded.start_coordinator()
        address = guarded.wait_for_grpc()
        with grpc.insecure_channel(address) as channel:
            for path in (f"/{ROTA}/ListNodes", f"/{TASKANDGO}/ListTasks"):
                invoke: Any = channel.unary_unary(path)
                error = refused(partial(invoke, b""))
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert trailing(error)["rota-code"] == "unauthorized"


def test_watch_is_told_that_the_coordinator_leaves_and_looks_anew_after_its_restart(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--grpc-port=0") as restarted:
        restarted.start_coordinator()
        with ReflectedClient(restarted.wait_for_grpc()) as client:
            watch = client.stream(f"{ROTA}/WatchEvents")
            watch.initial_metadata()
            submit(client, id="before", shell=":")
            last = next(watch)
            restarted.coordinator.stop()
            error = refused(lambda: list(watch))
            assert (error.code(), trailing(error)["rota-code"]) == (grpc.StatusCode.UNAVAILABLE, "unavailable")
        restarted.start_coordinator()
        with ReflectedClient(restarted.wait_for_grpc()) as client:
            watch = client.stream(f"{ROTA}/WatchEvents", after=last.id)
            assert next(watch).type == "resync"
            assert submit(client, id="before", shell=":") == "before", "it is still there, and the same"
            submit(client, id="later", shell=":")
            assert next(watch).task == "later"
            watch.cancel()
