"""What a client should not send, sent to a real coordinator: a clear answer, and everybody else unharmed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

TRUE: Final = {"command": ["true"]}
BODY_BYTES_MAX: Final = 8 << 20
SPEC_BYTES_MAX: Final = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all: what one test does to it must not disturb the next, and that is tested, too."""
    with Cluster(tmp_path_factory.mktemp("bad-input"), "--impossible-after=3s") as running:
        running.start_coordinator()
        running.start_worker("small", "--resources=cpu=1000,memory=512M")
        running.start_worker("large", "--resources=cpu=2000,memory=1G", "--tags=fast")
        yield running
        assert "Traceback" not in running.coordinator.output()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{cluster.url}/api/v1", timeout=20.0) as client:
        before = set(cluster.tasks())
        yield client
        assert cluster.client.is_ready()
        # Whatever came before: a sound task still runs.
        sound = client.post("/tasks", json=TRUE).json()
        assert cluster.wait_for_end(sound["id"])["state"] == "completed"
        assert before <= set(cluster.tasks())


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()
    assert set(error) == {"error", "code", "details"}
    assert error["code"] == code
    assert "Traceback" not in answer.text
    return error


def talk(port: int, data: bytes) -> bytes:
    """Send raw bytes and return what comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
        return answer


@pytest.mark.parametrize(
    "spec,says",
    [
        pytest.param({"comand": ["true"]}, "did you mean `command`?", id="unknown-field"),
        pytest.param({"command": "true"}, "must be an array of strings; use `shell`", id="command-is-text"),
        pytest.param({"command": [1]}, "command", id="word-is-a-number"),
        pytest.param({**TRUE, "retries": "many"}, "retries", id="wrong-type"),
        pytest.param({**TRUE, "resources": {"cpu": -1}}, "resources", id="negative-resource"),
        pytest.param({**TRUE, "resources": {"cpu": 10**15}}, "resources", id="enormous-resource"),
        pytest.param({**TRUE, "resources": {"cpu": 10**30}}, "resources", id="resource-over-64-bits"),
        pytest.param({**TRUE, "resources": {"cpu": 0.5}}, "cpu in thousandths of a core", id="fraction-of-a-millicore"),
        pytest.param({**TRUE, "timeout": -1}, "timeout", id="negative-timeout"),
        pytest.param({**TRUE, "timeout": 1e300}, "it must be 0.001 to 316,224,000", id="enormous-timeout"),
        pytest.param({**TRUE, "priority": 101}, "priority", id="priority-over-100"),
        pytest.param({**TRUE, "priority": "urgent"}, "priority", id="unknown-priority-word"),
        pytest.param({**TRUE, "start_at": "tomorrow"}, "start_at", id="no-time"),
        pytest.param({"command": []}, "command", id="empty-command"),
        pytest.param({"command": [""]}, "command", id="empty-program"),
        pytest.param({"shell": ""}, "shell", id="empty-shell"),
        pytest.param({"command": ["a\0b"]}, "command", id="nul-in-argv"),
        pytest.param({"shell": "a\0b"}, "shell", id="nul-in-shell"),
        pytest.param({**TRUE, "env": {"A\0": "b"}}, "env", id="nul-in-env"),
        pytest.param({**TRUE, "env": {"A=B": "c"}}, "env", id="equals-sign-in-the-name-of-a-variable"),
        pytest.param({**TRUE, "cwd": "a\0b"}, "cwd", id="nul-in-cwd"),
        pytest.param({**TRUE, "kind": "magic"}, "kind", id="unknown-kind"),
        pytest.param({**TRUE, "shell": "true"}, "command", id="two-kinds-of-work"),
        pytest.param({}, "command", id="no-work"),
        pytest.param({**TRUE, "id": "t7"}, "looks like an id that the coordinator gives", id="id-of-ours"),
        pytest.param({**TRUE, "id": "../../etc"}, "id", id="id-that-is-a-path"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused_and_the_field_named(
    client: httpx.Client, spec: dict[str, Any], says: str
) -> None:
    known = client.get("/stats").json()["tasks"]
    assert says in refused(client.post("/tasks", json=spec), 400, "bad_spec")["error"]
    many = refused(client.post("/tasks", json=[TRUE, spec]), 400, "bad_spec")
    assert says in many["error"]
    assert many["details"]["index"] == 1, many
    now = client.get("/stats").json()["tasks"]
    assert sum(now.values()) == sum(known.values()), "an array is taken whole or not at all"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"null",
        b"[]",
        b'{"command": ["\xff"]}',
        b'{"command": ["true"]',
        b'\xef\xbb\xbf{"command": ["true"]}',
        b"[" * 200_000,
        b'{"command": ["\\ud800"]}',
        "{'command': ['true']}".encode("utf-16"),
    ],
)
def test_a_body_that_is_no_task_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/tasks", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("bad_request", "bad_spec")


def test_a_body_over_the_limit_is_refused_however_it_comes(client: httpx.Client, cluster: Cluster) -> None:
    spaces = b" " * (1 << 20)
    refused(client.post("/tasks", content=b" " * (BODY_BYTES_MAX + 1)), 413, "too_large")
    # A length that was not announced.
    refused(client.post("/tasks", content=(spaces for _ in range(9))), 413, "too_large")
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "
    assert talk(cluster.port, head + b"99999999999999999999\r\n\r\n").startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert talk(cluster.port, head + b"-1\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_too_many_tasks_and_too_large_a_task_are_refused(client: httpx.Client) -> None:
    many = b"[" + b",".join([b'{"shell":":"}'] * 10_001) + b"]"
    assert "10,000" in refused(client.post("/tasks", content=many), 413, "too_large")["error"]
    large = {"command": ["cat"], "stdin": "x" * (SPEC_BYTES_MAX + 1)}
    assert "1,048,576" in refused(client.post("/tasks", json=large), 413, "too_large")["error"]


LARGE: Final = {**TRUE, "stdin": "x" * SPEC_BYTES_MAX}
TAKEN: Final = {"id": "taken", "shell": ":"}

ONE_OF_MANY: Final = {
    "too-large": (LARGE, 413, "too_large", None, "the task is 1,048,6"),
    "policy": ({**TRUE, "placement": "binpak"}, 400, "bad_spec", "placement", "did you mean `binpack`?"),
    "limit": ({**TRUE, "limits": {"none": 1}}, 400, "bad_spec", "limits", "there is no limit 'none'"),
    "blob": ({**TRUE, "files": {"a": "0" * 64}}, 400, "blob_missing", None, "there is no blob"),
    "field": ({**TRUE, "retires": 1}, 400, "bad_spec", "retires", "did you mean `retries`?"),
    "value": ({**TRUE, "retries": -1}, 400, "bad_spec", "retries", "is -1"),
    "shape": (["true"], 400, "bad_spec", "task", "Expected `object`"),
    "taken": ({**TAKEN, "shell": "true"}, 409, "conflict", None, "id 'taken' is taken"),
}


@pytest.mark.parametrize("bad,status,code,field,says", ONE_OF_MANY.values(), ids=ONE_OF_MANY)
def test_a_task_that_is_refused_is_named_among_many_wherever_it_is_found_out(
    client: httpx.Client, bad: Any, status: int, code: str, field: str | None, says: str
) -> None:
    # One that exists already stands before: it is not sent on to the core, and counts all the same.
    assert client.post("/tasks", json=TAKEN).is_success
    lines = [TRUE if code == "conflict" else TAKEN, TRUE, bad, TRUE]
    error = refused(client.post("/tasks", json=lines), status, code)
    assert error["error"].startswith(f"task 2: {field}: " if field else "task 2: ")
    assert says in error["error"]
    assert error["details"] == {"field": field, "index": 2}
    if isinstance(bad, dict):
        alone = refused(client.post("/tasks", json=[bad]), status, code)
        assert alone["details"] == {"field": field, "index": 0}, "an array of one is an array"
        single = refused(client.post("/tasks", json=bad), status, code)
        assert single["details"] == (field and {"field": field, "index": None})
        assert not single["error"].startswith("task ")


def test_a_gang_that_does_not_agree_with_itself_is_named_among_many(client: httpx.Client) -> None:
    client.post("/tasks", json=TAKEN)
    lines = [TAKEN, {**TRUE, "gang": {"id": "odd", "size": 2}}, {**TRUE, "gang": {"id": "odd", "size": 3}}]
    error = refused(client.post("/tasks", json=lines), 409, "conflict")
    assert error["error"].startswith("task 2: gang 'odd' has size 2, not 3")
    assert error["details"] == {"field": None, "index": 2}


def test_a_page_of_large_tasks_is_bounded_by_bytes_and_the_next_goes_on(client: httpx.Client) -> None:
    large = {**TRUE, "name": "heavy", "stdin": "x" * 1_000_000, "tags": ["nowhere"]}
    ids = [client.post("/tasks", json=large).json()["id"] for _ in range(20)]
    pages, path = [], "/tasks?name=heavy&limit=1000"
    while path:
        answer = client.get(path)
        pages.append([task["id"] for task in answer.json()])
        path = answer.links["next"]["url"].removeprefix("/api/v1") if "next" in answer.links else ""
    assert [len(page) for page in pages] == [8, 8, 4]
    assert [task_id for page in pages for task_id in page] == ids[::-1]
    for task_id in ids:
        client.delete(f"/tasks/{task_id}")


def test_the_largest_task_that_is_taken_runs(client: httpx.Client, cluster: Cluster) -> None:
    stdin = "x" * (SPEC_BYTES_MAX - 1_000)
    task = client.post("/tasks", json={"command": ["wc", "-c"], "stdin": stdin}).json()
    assert cluster.wait_for_end(task["id"])["state"] == "completed"
    assert client.get(f"/tasks/{task['id']}/logs").text.strip() == str(len(stdin))


def test_a_chosen_id_with_another_spec_is_a_conflict(client: httpx.Client) -> None:
    first = client.post("/tasks", json={**TRUE, "id": "mine"})
    same = client.post("/tasks", json={**TRUE, "id": "mine"})
    assert (first.status_code, same.status_code) == (201, 201)
    assert same.json()["created_at"] == first.json()["created_at"]
    other = client.post("/tasks", json={"command": ["false"], "id": "mine"})
    assert "'mine' is taken by a task with another spec" in refused(other, 409, "conflict")["error"]
    twice = client.post("/tasks", json=[{**TRUE, "id": "both"}, {**TRUE, "id": "both"}])
    refused(twice, 409, "conflict")
    refused(client.get("/tasks/both"), 404, "not_found")


@pytest.mark.parametrize("method,path", [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/logs")])
def test_an_unknown_task_is_not_found(client: httpx.Client, method: str, path: str) -> None:
    for task_id in ("t999999999", "nobody", "t" + "9" * 30, "%F0%9F%92%A9", "..%2F..%2Fetc"):
        answer = client.request(method, f"/tasks/{task_id}{path}")
        assert answer.status_code == 404, answer.text


def test_an_unknown_node_is_not_found(client: httpx.Client) -> None:
    for method, path in (("GET", ""), ("POST", "/drain"), ("POST", "/resume")):
        refused(client.request(method, f"/nodes/nobody{path}"), 404, "not_found")


def test_more_than_any_worker_has_waits_as_impossible_and_fails_in_the_end(
    client: httpx.Client, cluster: Cluster
) -> None:
    task = client.post("/tasks", json={**TRUE, "resources": {"cpu": 64_000}}).json()
    assert task["reason"] == "impossible"
    assert task["reason_text"] == "needs 64 cores; the largest worker, large, has 2"
    together = client.post("/tasks", json={**TRUE, "resources": {"memory": 1_000}, "tags": ["slow"]}).json()
    assert together["reason"] == "tags"
    ended = cluster.wait_for_end(task["id"])
    assert (ended["state"], ended["cause"], ended["attempt"]) == ("failed", "impossible", 0)
    assert "large" in ended["message"]
    assert client.delete(f"/tasks/{together['id']}").status_code == 202


def test_a_kind_that_no_worker_can_run_waits_for_one(client: httpx.Client) -> None:
    task = client.post("/tasks", json={"image": "debian:12"}).json()
    assert (task["reason"], task["kind"]) == ("tags", "container")
    assert client.delete(f"/tasks/{task['id']}").json()["state"] == "cancelled"


def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing(client: httpx.Client, cluster: Cluster) -> None:
    body = json.dumps({**TRUE, "id": "half"}).encode()
    heads = (
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (len(body) + 5),
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(body) + 5),
        b"POST /api/v1/ta",
    )
    for head in heads:
        with socket.create_connection(("127.0.0.1", cluster.port), timeout=60.0) as connection:
            connection.sendall(head + body)
    refused(client.get("/tasks/half"), 404, "not_found")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    ],
    ids=["tls", "version", "no-http", "long-path", "bad-chunk", "many-headers"],
)
def test_what_is_no_request_is_answered_or_cut_and_harms_nobody(
    client: httpx.Client, cluster: Cluster, data: bytes
) -> None:
    try:
        answer = talk(cluster.port, data)
    except ConnectionError:
        return
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]


def test_many_who_connect_and_say_nothing_harm_nobody(client: httpx.Client, cluster: Cluster) -> None:
    silent = [socket.create_connection(("127.0.0.1", cluster.port), timeout=60.0) for _ in range(200)]
    try:
        wait_until(lambda: client.get("/stats").status_code == 200, what="an answer")
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method,path", [("GET", "/tasks"), ("POST", "/tasks"), ("DELETE", "/tasks/t1")])
def test_a_page_of_a_foreign_site_is_refused(
    client: httpx.Client, headers: dict[str, str], method: str, path: str
) -> None:
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] in ("forbidden_host", "forbidden_origin")


def test_listening_to_the_world_without_a_token_is_refused(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with cluster.launch_coordinator("--host=0.0.0.0") as process:
        assert process.wait_for_exit() == 2
        assert "set a token" in process.output()
    assert not cluster.state_dir.exists()
    cluster.client.close()
