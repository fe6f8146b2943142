"""What clients of TaskAndGo may send and what they are told, whichever way they come."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.coordinator.taskandgo import (
    LISTED_DATA_BYTES_MAX,
    LISTED_MAX,
    NodeLoad,
    list_newest,
    list_usage,
    status_of_task,
    submit_subtask,
    submit_task,
)
from rota.core.errors import BadSpec, Conflict, Overloaded, StoreUnavailable
from rota.core.model import Offer, TaskState, WorkerState
from rota.core.protocol import Usage
from rota.core.spec import decode_spec, kind_of
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(service, guard=GuardConfig(), counters=Counters(), blobs=BlobStore(None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as found:
        yield found


async def submit(service: FakeService, task_id: str = "", *, priority: str = "", data: str = "python:pass") -> str:
    return await submit_task(service, task_id=task_id, priority=priority, data=data)


async def test_task_keeps_its_id_and_one_without_gets_one(service: FakeService) -> None:
    assert await submit(service, "report-1") == "report-1"
    assert await submit(service) == "t2"


async def test_second_task_of_an_id_is_refused_even_if_it_is_the_same(service: FakeService) -> None:
    await submit(service, "report-1")
    with pytest.raises(Conflict, match=r"^Task report-1 already exists$"):
        await submit(service, "report-1")
    with pytest.raises(Conflict, match=r"^Subtask report-1 already exists$"):
        await submit_subtask(service, subtask_id="report-1", parent_id="x", data="")


@pytest.mark.parametrize(
    "data, kind",
    [
        ("python:print(1)", "python"),
        ("go:package main", "go"),
        ("python", "process"),
        ("ruby:puts 1", "process"),
        ("", "process"),
        ("just text \N{SNOWMAN}", "process"),
    ],
)
async def test_whatever_its_data_it_is_accepted(service: FakeService, data: str, kind: str) -> None:
    view = await service.get(await submit(service, data=data))
    spec = decode_spec(view.record.facts.spec)
    assert (kind_of(spec), spec.data) == (kind, data)


@pytest.mark.parametrize(
    "given, number, listed",
    [
        ("", 50, "medium"),
        ("low", 10, "low"),
        ("medium", 50, "medium"),
        ("normal", 50, "medium"),
        ("HIGH", 90, "high"),
        ("critical", 100, "critical"),
        ("7", 7, "7"),
        ("0", 0, "0"),
        ("101", 50, "101"),
        ("-1", 50, "-1"),
        ("urgent", 50, "urgent"),
    ],
)
async def test_priorities_are_words_and_one_that_is_none_counts_as_normal(
    service: FakeService, given: str, number: int, listed: str
) -> None:
    view = await service.get(await submit(service, priority=given))
    assert view.record.facts.priority == number
    assert (await list_newest(service))[0].priority == listed


@pytest.mark.parametrize("task_id", ["has space", "t17", "-x", "a/b", "\N{SNOWMAN}", "x" * 201])
async def test_impossible_id_is_refused_by_the_name_of_its_field(service: FakeService, task_id: str) -> None:
    with pytest.raises(BadSpec, match=r"^task_id: "):
        await submit(service, task_id)
    with pytest.raises(BadSpec, match=r"^subtask_id: "):
        await submit_subtask(service, subtask_id=task_id, parent_id="x", data="")


@pytest.mark.parametrize("text", ["a\nb", "x" * 201])
async def test_what_can_be_no_label_is_refused(service: FakeService, text: str) -> None:
    with pytest.raises(BadSpec, match=r"^parent_task_id: has"):
        await submit_subtask(service, subtask_id="s", parent_id=text, data="")
    with pytest.raises(BadSpec, match=r"^priority: has"):
        await submit(service, priority=text)


async def test_subtask_is_a_task_that_names_its_parent_known_or_not(service: FakeService) -> None:
    for parent, labels in (("nobody", {"parent": "nobody"}), ("", {})):
        task_id = await submit_subtask(service, subtask_id="", parent_id=parent, data="go:package main")
        assert decode_spec((await service.get(task_id)).record.facts.spec).labels == labels
        assert await status_of_task(service, task_id) == "QUEUED"


async def test_states_and_progress_have_their_words(service: FakeService) -> None:
    task_id = await submit(service, "job")
    assert await status_of_task(service, "nobody") is None
    assert await status_of_task(service, task_id) == "QUEUED"
    service.start(task_id)
    assert await status_of_task(service, task_id) == "RUNNING"
    assert [task.progress for task in await list_newest(service)] == [0]
    for fraction, percent in ((None, 0), (0.416, 42), (1.0, 100)):
        service.mark(task_id, fraction, "on it")
        assert [task.progress for task in await list_newest(service)] == [percent]
    service.end(task_id)
    (listed,) = await list_newest(service)
    assert (listed.task_id, listed.status, listed.progress, listed.data) == ("job", "COMPLETED", 100, "python:pass")
    for state in (TaskState.FAILED, TaskState.CANCELLED):
        service.end(await submit(service, state.word), state=state)
        assert await status_of_task(service, state.word) == state.word.upper()


async def test_list_is_bounded_in_number_and_in_bytes(service: FakeService) -> None:
    large = "python:" + "#" * (LISTED_DATA_BYTES_MAX // 2 - 100)
    for number in range(LISTED_MAX + 1):
        await submit(service, f"job-{number}", data=large if number > LISTED_MAX - 3 else "python:pass")
    listed = await list_newest(service)
    assert [task.task_id for task in listed] == [f"job-{number}" for number in range(LISTED_MAX, 0, -1)]
    assert [len(task.data) for task in listed[:4]] == [len(large), len(large), 0, len("python:pass")]


async def test_usage_is_that_of_workers_that_are_there_and_have_said_it(service: FakeService) -> None:
    for name in ("busy", "silent", "lost"):
        service.add_node(name, offer=Offer(resources=()))
    busy = Usage(cpu_percent=37.6, memory_used_mib=512, memory_total_mib=2048, load_1m=1.0)
    service.change_node("busy", usage=busy)
    service.change_node("lost", usage=busy, state=WorkerState.OFFLINE)
    assert await list_usage(service) == [NodeLoad("busy", 38, 25)]


# Over HTTP


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "application/x-www-form-urlencoded"])
async def test_submit_task_takes_json_under_any_content_type(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    body = b'{"task_id": "job-1", "priority": "high", "data": "python:print(1)"}'
    answer = await client.post("/submit-task", content=body, headers={"content-type": content_type or ""})
    assert answer.status_code == 201
    assert answer.json() == {"task_id": "job-1", "success": True, "message": "Task job-1 submitted successfully"}
    again = await client.post("/submit-task", content=body)
    assert again.status_code == 409
    assert again.json() == {"task_id": "job-1", "success": False, "message": "Task job-1 already exists"}


async def test_submit_task_takes_what_leaves_fields_out_and_ignores_others(client: httpx.AsyncClient) -> None:
    answer = await client.post("/submit-task", json={"status": "QUEUED", "progress": 3, "task_id": None})
    assert (answer.status_code, answer.json()["task_id"]) == (201, "t1")
    assert answer.json()["message"] == "Task t1 submitted successfully"


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "No task provided"),
        (b"null", "No task provided"),
        (b"task_id=x", "not valid JSON"),
        (b'{"task_id": "x"', "not valid JSON"),
        (b'{"data": "\xff"}', "not valid JSON"),
        (b'{"x": ' + b"[" * 100_000, "not valid JSON"),
        (b"[]", "must be an object with task_id"),
        (b'"x"', "must be an object with task_id"),
        (b'{"task_id": 7}', "task_id must be text"),
        (b'{"data": {}}', "data must be text"),
        (b'{"task_id": "a b"}', "task_id: must be 1 to 200 letters"),
    ],
)
async def test_submit_task_says_what_is_wrong_in_its_own_form(
    client: httpx.AsyncClient, body: bytes, message: str
) -> None:
    answer = await client.post("/submit-task", content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"task_id", "success", "message"}
    assert answer.json()["success"] is False
    assert message in answer.json()["message"]


@pytest.mark.parametrize("error, status", [(Overloaded("full"), 429), (StoreUnavailable("away"), 503)])
async def test_submit_task_asks_to_come_again(
    client: httpx.AsyncClient, service: FakeService, error: Exception, status: int
) -> None:
    service.fails_with = error
    answer = await client.post("/submit-task", json={"task_id": "job"})
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "1")
    assert answer.json() == {"task_id": "job", "success": False, "message": str(error)}
