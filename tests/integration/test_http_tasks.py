"""The tasks of the REST API over a real server: what is sent, what comes back, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.http.body import BODY_BYTES_MAX
from rota.coordinator.metrics import Counters
from rota.core.errors import Overloaded, StoreUnavailable, Unavailable
from rota.core.model import Reason, TaskState
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server
from tests.support.waiting import wait_until_async

TRUE = {"command": ["true"]}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService) -> AsyncIterator[RunningServer]:
    async with running_server(
        build_app(service, guard=GuardConfig(), counters=Counters(), blobs=BlobStore(None))
    ) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url + "/api/v1") as found:
        yield found


async def submit(client: httpx.AsyncClient, **fields: object) -> str:
    answer = await client.post("/tasks", json={**TRUE, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_one_object_gives_one_task(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/tasks", json={"shell": "echo hi", "priority": "high", "start_at": "2030-01-01T00:00:00Z"}
    )
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/tasks/t1"
    task = answer.json()
    assert (task["id"], task["kind"], task["shell"], task["command"]) == ("t1", "process", "echo hi", None)
    assert (task["priority"], task["resources"], task["queue"]) == (90, {"cpu": 1000}, "default")
    assert (task["state"], task["reason"], task["start_at"]) == ("pending", "no-workers", "2030-01-01T00:00:00.000Z")
    assert (task["created_at"], task["started_at"]) == ("2026-01-01T00:00:00.250Z", None)


async def test_an_array_gives_an_array_in_the_same_order(client: httpx.AsyncClient) -> None:
    answer = await client.post("/tasks", json=[{**TRUE, "name": name} for name in ("a", "b", "c")])
    assert answer.status_code == 201
    assert [task["name"] for task in answer.json()] == ["a", "b", "c"]


async def test_an_array_with_one_bad_task_is_refused_whole_and_names_the_index(client: httpx.AsyncClient) -> None:
    answer = await client.post("/tasks", json=[TRUE, {"comand": ["true"]}])
    assert answer.status_code == 400
    assert answer.json()["details"] == {"field": "comand", "index": 1}
    assert "`command`" in answer.json()["error"]
    assert (await client.get("/tasks")).json() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"7",
        b'{"command": ["\xff"]}',
        b'{"command": ["a\\u0000b"]}',
        b'{"command": []}',
        b'{"command": "true"}',
        b'{"command": ["true"], "resources": {"cpu": -1}}',
        b'{"command": ["true"], "resources": {"cpu": 99999999999999999999}}',
        b'{"command": ["true"], "kind": "magic"}',
        b"[" * 100_000,
        b'{"command": ["\\ud800"]}',
    ],
)
async def test_what_makes_no_sense_is_refused_in_the_common_form(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/tasks", content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "code", "details"}
    assert answer.json()["code"] in ("bad_request", "bad_spec")


async def test_the_same_id_gives_the_same_task_and_with_another_spec_a_conflict(client: httpx.AsyncClient) -> None:
    first = await client.post("/tasks", json={**TRUE, "id": "nightly"})
    again = await client.post("/tasks", json={**TRUE, "id": "nightly"})
    other = await client.post("/tasks", json={"command": ["false"], "id": "nightly"})
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert again.json() == first.json()
    assert other.json()["code"] == "conflict"


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(server: RunningServer) -> None:
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answer = await server.talk(head % (BODY_BYTES_MAX + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_large"' in answer


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(client: httpx.AsyncClient) -> None:
    async def spaces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * (1 << 20)

    answer = await client.post("/tasks", content=spaces())
    assert answer.status_code == 413
    assert "over the limit" in answer.json()["error"]


async def test_a_body_of_exactly_the_limit_is_read(client: httpx.AsyncClient) -> None:
    body = b'{"command": ["true"]}'
    answer = await client.post("/tasks", content=body + b" " * (BODY_BYTES_MAX - len(body)))
    assert answer.status_code == 201


async def test_more_tasks_than_a_request_may_hold_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/tasks", content=b"[" + b",".join([b'{"shell":":"}'] * 10_001) + b"]")
    assert answer.status_code == 413
    assert "10,000" in answer.json()["error"]


@pytest.mark.parametrize("ending,status", [(b"{}]", 413), (b"", 400), (b"1]", 413)])
async def test_millions_of_tasks_are_refused_before_they_are_made(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, ending: bytes, status: int
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("tasks were made")

    monkeypatch.setattr("rota.coordinator.http.tasks.parse_requests", never)
    answer = await client.post("/tasks", content=b"[" + b"{}," * 1_000_000 + ending)
    assert answer.status_code == status


async def test_braces_in_a_single_task_are_not_taken_for_many(client: httpx.AsyncClient) -> None:
    assert (await client.post("/tasks", json={"shell": "{" * 20_000})).status_code == 201
    assert (await client.post("/tasks", json=[{"shell": "{" * 20_000}])).status_code == 201


async def test_a_client_that_goes_away_in_the_middle_of_a_body_leaves_nothing(
    client: httpx.AsyncClient, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    whole = b'{"command": ["true"]}'
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (len(whole) + 10)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head + whole)
    await writer.drain()
    await wait_until_async(lambda: server.server.server_state.tasks, what="the request to begin")
    writer.transport.abort()
    del reader
    await wait_until_async(lambda: not server.server.server_state.tasks, what="the request to be over")
    assert (await client.get("/tasks")).json() == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    "failure,status,code",
    [
        (Overloaded("full"), 429, "overloaded"),
        (Unavailable("stopping"), 503, "unavailable"),
        (StoreUnavailable("disk full"), 503, "store_unavailable"),
    ],
)
async def test_who_comes_too_early_is_told_when_to_come_again(
    client: httpx.AsyncClient, service: FakeService, *, failure: Exception, status: int, code: str
) -> None:
    service.fails_with = failure
    answer = await client.post("/tasks", json=TRUE)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert int(answer.headers["retry-after"]) >= 1


async def test_what_was_not_foreseen_is_answered_without_our_insides(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    service.fails_with = RuntimeError("secret detail")
    answer = await client.post("/tasks", json=TRUE)
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text


async def test_an_unknown_task_is_not_found_on_every_path(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "/tasks/t9"),
        ("GET", "/tasks/t9?wait=1"),
        ("DELETE", "/tasks/t9"),
        ("GET", "/tasks/t9/logs"),
        ("GET", "/tasks/t9/attempts"),
        ("GET", "/tasks/t9/explain"),
        ("POST", "/tasks/t9/retry"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


async def test_waiting_answers_when_the_task_has_ended(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await submit(client)
    waiting = asyncio.create_task(client.get(f"/tasks/{task_id}?wait=30"))
    await wait_until_async(lambda: service.waits, what="the wait to begin")
    service.start(task_id)
    service.end(task_id)
    task = (await waiting).json()
    assert (task["state"], task["exit_code"], task["cpu_seconds"], task["peak_memory"]) == ("completed", 0, 0.25, 2.1)
    assert task["ended_at"] == "2026-01-01T00:00:03.250Z"


async def test_waiting_answers_when_the_time_is_over(client: httpx.AsyncClient) -> None:
    task_id = await submit(client)
    answer = await client.get(f"/tasks/{task_id}?wait=0.01")
    assert (answer.status_code, answer.json()["state"]) == (200, "pending")


async def test_a_wait_ends_when_its_client_goes_away(
    client: httpx.AsyncClient, service: FakeService, server: RunningServer
) -> None:
    task_id = await submit(client)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /api/v1/tasks/{task_id}?wait=300 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await wait_until_async(lambda: service.waits, what="the wait to begin")
    writer.transport.abort()
    del reader
    await wait_until_async(lambda: not service.waits, what="the wait to end")


async def test_cancelling_is_accepted_and_after_the_end_changes_nothing(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    task_id = await submit(client)
    service.start(task_id)
    answer = await client.delete(f"/tasks/{task_id}")
    assert (answer.status_code, answer.json()["state"], answer.json()["cancel_requested"]) == (202, "running", True)
    service.end(task_id, state=TaskState.CANCELLED)
    again = await client.delete(f"/tasks/{task_id}")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")


async def test_a_failed_task_is_brought_back_and_its_attempts_stay(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    task_id = await submit(client)
    assert (await client.post(f"/tasks/{task_id}/retry")).status_code == 409
    service.start(task_id)
    service.end(task_id, state=TaskState.FAILED, exit_code=3)
    current = (await client.get(f"/tasks/{task_id}/attempts")).json()
    assert [(one["number"], one["current"], one["cause"]) for one in current] == [(1, True, "exit")]
    answer = await client.post(f"/tasks/{task_id}/retry")
    assert (answer.status_code, answer.json()["state"]) == (200, "pending")
    service.start(task_id, worker="w2")
    attempts = (await client.get(f"/tasks/{task_id}/attempts")).json()
    assert [(one["number"], one["current"], one["worker"]) for one in attempts] == [(1, False, "w1"), (2, True, "w2")]


async def test_pages_follow_the_link_and_keep_the_filters(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await submit(client, name=f"n{number}", labels={"team": "a&b" if number != 2 else "c"})
    seen: list[str] = []
    target: str | None = "/tasks?label=team:a%26b&limit=2&state=pending,running"
    while target is not None:
        answer = await client.get(target)
        seen += [task["name"] for task in answer.json()]
        link = answer.links.get("next")
        target = None if link is None else link["url"].removeprefix("/api/v1")
    assert seen == ["n4", "n3", "n1", "n0"]


async def test_lists_leave_out_what_may_be_large(client: httpx.AsyncClient) -> None:
    task_id = await submit(client, env={"KEY": "value"}, stdin="text")
    listed = (await client.get("/tasks")).json()[0]
    shown = (await client.get(f"/tasks/{task_id}")).json()
    assert not {"env", "stdin", "code", "data"} & set(listed)
    assert (shown["env"], shown["stdin"]) == ({"KEY": "value"}, "text")


async def test_filters_reach_the_store_as_they_are_meant(client: httpx.AsyncClient, service: FakeService) -> None:
    parameters = (
        "state=failed&state=pending,running&queue=q&name=n*&worker=w1&label=a=b:c&label=d:e"
        "&since=2026-01-01T02:00:00+02:00&until=2026-01-02T00:00:00Z&limit=7&cursor=99"
    )
    assert (await client.get(f"/tasks?{parameters}")).status_code == 200
    query = service.queries[-1]
    assert query.states == frozenset({TaskState.FAILED, TaskState.PENDING, TaskState.RUNNING})
    assert (query.queue, query.name, query.worker, query.labels) == ("q", "n*", "w1", {"a": "b:c", "d": "e"})
    assert (query.since, query.until) == (1_767_225_600.0, 1_767_312_000.0)
    assert (query.limit, query.before) == (7, 99)


@pytest.mark.parametrize(
    "query,hint",
    [
        ("stat=failed", "`state`"),
        ("state=done", "completed"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=2", "twice"),
        ("cursor=99999999999999999999", "cursor"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "timezone"),
        ("label=plain", "key:value"),
        ("label=a:b&label=a:c", "two values"),
        ("&".join(f"label=l{number}:" for number in range(65)), "at most 64"),
        ("name=%ff", "UTF-8"),
        ("name=%zz", "hexadecimal"),
        ("name=a%00b", "control"),
        ("&".join(["state=failed"] * 300), "parameters"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(client: httpx.AsyncClient, query: str, hint: str) -> None:
    answer = await client.get(f"/tasks?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")
    assert hint in answer.json()["error"]


@pytest.mark.parametrize("wait", ["-1", "301", "nan", "inf", "soon", ""])
async def test_a_wait_is_0_to_300_seconds(client: httpx.AsyncClient, wait: str) -> None:
    task_id = await submit(client)
    assert (await client.get(f"/tasks/{task_id}?wait={wait}")).status_code == 400


@pytest.mark.parametrize(
    "path,status",
    [
        (b"/api/v1/tasks/a%00b", 400),
        (b"/api/v1/tasks/%ff", 400),
        (b"/api/v1/tasks/%zz", 400),
        (b"/api/v1/tasks/..%2f..%2fetc", 404),
        (b"/api/v1/tasks/", 404),
        (b"/api/v1/nothing", 404),
        (b"/%00", 400),
        (b"/api/v1/tasks/" + b"a" * 4000, 404),
    ],
)
async def test_a_strange_path_is_never_our_failure(server: RunningServer, path: bytes, status: int) -> None:
    answer = await server.talk(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'"code":' in answer


async def test_a_wrong_method_is_told_of_all_the_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.put("/tasks", json=TRUE)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_head_is_answered_like_get_without_a_body(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await submit(client)
    for path in ("/tasks", f"/tasks/{task_id}/logs", "/events"):
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert (service.open_logs, service.open_events) == (0, 0)


async def test_a_pending_task_says_why_it_waits(client: httpx.AsyncClient) -> None:
    task = (await client.get(f"/tasks/{await submit(client)}")).json()
    assert task["reason"] == Reason.NO_WORKERS.value
    assert task["reason_text"] == "no worker is connected"


async def test_a_task_is_explained_whatever_state_it_is_in(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await submit(client)
    answer = (await client.get(f"/tasks/{task_id}/explain")).json()
    assert (answer["id"], answer["state"], answer["reason"]) == (task_id, "pending", "no-workers")
    assert answer["text"] == "no worker is connected"
    assert answer["blockers"] == [{"reason": "tags", "workers": 3, "text": "3 workers lack tag gpu"}]
    assert answer["nearest"] is answer["start"] is None
    service.start(task_id)
    answer = (await client.get(f"/tasks/{task_id}/explain")).json()
    assert (answer["state"], answer["text"], answer["reason"]) == ("running", "runs on w1, attempt 1", None)
    service.end(task_id, state=TaskState.FAILED, exit_code=3)
    answer = (await client.get(f"/tasks/{task_id}/explain")).json()
    assert (answer["state"], answer["text"]) == ("failed", "has failed: exit")
