"""Placement alone over real HTTP, with the bytes that clients of dtask-scheduler send and what they must get back."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from rota.coordinator import advice as advice_module
from rota.coordinator.advice import AdviceDesk
from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.core.config import SchedulerConfig
from rota.core.errors import StoreUnavailable
from rota.core.model import Offer
from rota.process.clock import steady_s
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server
from tests.support.inner_coordinator import inner_coordinator
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until, wait_until_async

GO_BEAT: Final = (
    b'{"worker_id":"worker-001","timestamp":"2026-01-31T12:00:00.123456789+01:00","resource_tags":["gpu","cuda-12.0"],'
    b'"max_tasks":30,"current_tasks":15,"address":"192.168.1.100:9000"}\n'
)
"""As ``json.NewEncoder(w).Encode`` writes the struct, with a ``time.Time``."""

UNIX_BEAT: Final = (
    b'{"worker_id":"worker-002","timestamp":1702540800,"resource_tags":null,"max_tasks":4,"current_tasks":3,'
    b'"address":"192.168.1.101:9000","metrics":{"cpu_usage":0.45}}'
)
"""From a version with seconds since 1970, and a nil slice; with a field that later ones have."""

NO_ROOM: Final = b'{"error":"no available worker matching requirements"}'


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [
        b"POST /api/v1/%b HTTP/1.1" % path.encode(),
        b"Host: localhost:8080",
        b"User-Agent: Go-http-client/1.1",
        b"Content-Length: %d" % len(body),
        b"Content-Type: application/json",
        b"Accept-Encoding: gzip",
        b"Connection: close",
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def parted(answer: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, body


@pytest.fixture
def desk() -> AdviceDesk:
    return AdviceDesk(SchedulerConfig())


@pytest.fixture
async def server(desk: AdviceDesk) -> AsyncIterator[RunningServer]:
    service = FakeService()
    service.add_node("ours", offer=Offer(resources=(("cpu", 1000),)))
    app = build_app(service, guard=GuardConfig(), counters=Counters(), blobs=BlobStore(None), advice=desk)
    async with running_server(app) as running:
        yield running


async def ask(server: RunningServer, path: str, body: bytes) -> tuple[int, bytes]:
    status, _, answer = parted(await server.talk(post(path, body)))
    return status, answer


async def get(server: RunningServer, path: str) -> Any:  # a JSON document
    answer = await server.talk(
        b"GET /api/v1/%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
    )
    return json.loads(parted(answer)[2])


class Clients:
    """Those who ask and don't wait for their answers; all gone in the end."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.writers: list[asyncio.StreamWriter] = []

    async def begin(self, fields: dict[str, object]) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        self.writers.append(writer)
        writer.write(post("schedule", json.dumps(fields).encode()))
        return reader


@pytest.fixture
async def clients(server: RunningServer) -> AsyncIterator[Clients]:
    clients = Clients(server)
    yield clients
    for writer in clients.writers:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def waiting(desk: AdviceDesk, count: int) -> None:
    await wait_until_async(lambda: desk.waiting == count, what=f"{count} requests to wait")


async def placed(reader: asyncio.StreamReader) -> object:
    """Which worker an answer names, or its error."""
    async with asyncio.timeout(5.0):
        answer = json.loads(parted(await reader.read())[2])
    return answer.get("worker_id") or answer["error"]


async def test_a_worker_beats_and_gets_a_task_as_the_old_clients_expect_it(server: RunningServer) -> None:
    assert await ask(server, "heartbeat", GO_BEAT) == (200, b'{"status":"ok"}')
    status, answer = await ask(server, "schedule", b'{"task_id":"task-001","required_tags":["gpu","cuda-12.0"]}\n')
    assert (status, answer) == (200, b'{"worker_id":"worker-001","address":"192.168.1.100:9000"}')


async def test_no_room_is_said_in_the_old_words(server: RunningServer) -> None:
    status, head, body = parted(await server.talk(post("schedule", b'{"task_id":"task-001","required_tags":null}')))
    assert (status, body) == (503, NO_ROOM)
    assert b"content-type: application/json" in head
    assert b"retry-after: 1" in head


async def test_workers_are_listed_in_the_old_words(server: RunningServer) -> None:
    assert await get(server, "workers") == []
    await ask(server, "heartbeat", UNIX_BEAT)
    await ask(server, "heartbeat", GO_BEAT)
    await ask(server, "schedule", b'{"task_id":"task-001","required_tags":["gpu"]}')
    first, second = await get(server, "workers")
    heard = first.pop("LastHeartbeat")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", heard)
    assert first == {
        "WorkerID": "worker-001",
        "Address": "192.168.1.100:9000",
        "ResourceTags": ["cuda-12.0", "gpu"],
        "MaxTasks": 30,
        "CurrentTasks": 16,
        "Available": 14,
        "Status": "online",
    }
    assert (second["WorkerID"], second["ResourceTags"], second["Available"]) == ("worker-002", [], 1)


@pytest.mark.parametrize(
    "method,path",
    [("GET", "heartbeat"), ("GET", "schedule"), ("PUT", "schedule"), ("POST", "workers"), ("GET", "schedule/batch")],
)
async def test_wrong_method_is_405(server: RunningServer, method: str, path: str) -> None:
    request = f"{method} /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    status, _, body = parted(await server.talk(request.encode()))
    assert (status, json.loads(body)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "path,body,hint",
    [
        ("schedule", b'{"task_id":"","required_tags":[]}', "task_id"),
        ("schedule", b'{"required_tags":[]}', "task_id"),
        ("schedule", b"{}", "task_id"),
        ("schedule", b"", "body"),
        ("schedule", b"null", "body"),
        ("schedule", b"[]", "body"),
        ("schedule", b"{", "body"),
        ("schedule", b"\xff\xfe", "body"),
        ("schedule", b"[" * 5000, "body"),
        ("schedule", b'{"task_id":7}', "task_id"),
        ("schedule", b'{"task_id":"t","required_tags":"gpu"}', "required_tags"),
        ("schedule", b'{"task_id":"t","required_tags":[1]}', "required_tags"),
        ("schedule", b'{"task_id":"t","required_tags":["cuda>="]}', "character 7"),
        ("schedule", b'{"task_id":"t","max_wait_ms":"1s"}', "max_wait_ms"),
        ("schedule", b'{"task_id":"t","placement":"best"}', "least-loaded"),
        ("schedule", b'{"task_id":"t","priority":101}', "priority"),
        ("schedule", b'{"task_id":"t","priority":"urgent"}', "high"),
        ("schedule", b'{"task_id":"t","resources":{"memory":-1}}', "memory"),
        ("schedule", b'{"task_id":"t","resources":{"memory":1.5}}', "resources"),
        ("heartbeat", b"{}", "worker_id"),
        ("heartbeat", b'{"worker_id":""}', "worker_id"),
        ("heartbeat", b'{"worker_id":"a\\u0000b"}', "control"),
        ("heartbeat", b'{"worker_id":"w","max_tasks":-1}', "max_tasks"),
        ("heartbeat", b'{"worker_id":"w","max_tasks":99999999}', "1,000,000"),
        ("heartbeat", b'{"worker_id":"w","current_tasks":-1}', "current_tasks"),
        ("heartbeat", b'{"worker_id":"w","timestamp":"yesterday"}', "timestamp"),
        ("heartbeat", b'{"worker_id":"w","resource_tags":["\\n"]}', "tag"),
        ("heartbeat", b'{"worker_id":"w","resources":{"memory":-1}}', "memory"),
        ("schedule/batch", b"{}", "body"),
        ("schedule/batch", b'[{"task_id":"t"},{"task_id":""}]', "task 1"),
        ("schedule/batch", b'[{"task_id":"t"},{"task_id":"t","required_tags":["!"]}]', "task 1"),
        ("schedule/batch", b'[{"task_id":"t","max_wait_ms":5}]', "max_wait_ms"),
    ],
)  # fmt: skip
async def test_bad_body_is_400_and_says_what_is_wrong(server: RunningServer, path: str, body: bytes, hint: str) -> None:
    await ask(server, "heartbeat", GO_BEAT)
    status, answer = await ask(server, path, body)
    assert status == 400
    assert hint in json.loads(answer)["error"]
    (worker,) = await get(server, "workers")
    assert worker["CurrentTasks"] == 15  # nothing of it was counted


@pytest.mark.parametrize("path", ["heartbeat", "schedule", "schedule/batch"])
async def test_huge_body_is_refused_by_its_length(server: RunningServer, path: str) -> None:
    request = post(path, b"").replace(b"Content-Length: 0", b"Content-Length: 99999999")
    assert parted(await server.talk(request))[0] == 413


async def test_batch_of_too_many_tasks_or_kinds_is_refused(server: RunningServer) -> None:
    many = json.dumps([{"task_id": "t"}] * 10_001).encode()
    kinds = json.dumps([{"task_id": "t", "required_tags": [f"x{number}"]} for number in range(100)]).encode()
    assert (await ask(server, "schedule/batch", many))[0] == 413
    assert (await ask(server, "schedule/batch", kinds))[0] == 413


async def test_unknown_fields_are_ignored_as_go_does(server: RunningServer) -> None:
    assert (await ask(server, "heartbeat", GO_BEAT.replace(b"{", b'{"metrics":{"cpu":1},', 1)))[0] == 200
    assert (await ask(server, "schedule", b'{"task_id":"t","deadline":"soon"}'))[0] == 200


async def test_batch_places_by_priority_and_answers_in_order(server: RunningServer) -> None:
    await ask(server, "heartbeat", UNIX_BEAT)
    tasks = [{"task_id": "a"}, {"task_id": "b", "priority": "high"}, {"task_id": "c", "required_tags": ["tpu"]}]
    status, answer = await ask(server, "schedule/batch", json.dumps(tasks).encode())
    assert status == 200
    no_room = "no available worker matching requirements"
    assert json.loads(answer) == [
        {"task_id": "a", "error": no_room},
        {"task_id": "b", "worker_id": "worker-002", "address": "192.168.1.101:9000"},
        {"task_id": "c", "error": no_room},
    ]


async def test_resources_and_placement_of_a_request_mean_something(server: RunningServer) -> None:
    for name, memory, current in (("small", 100, 0), ("large", 900, 3)):
        beat = {"worker_id": name, "max_tasks": 9, "current_tasks": current, "resources": {"memory": memory}}
        await ask(server, "heartbeat", json.dumps(beat).encode())
    for fields, worker in (
        ({}, "small"),
        ({"resources": {"memory": 500}}, "large"),
        ({"placement": "binpack"}, "large"),
        ({"placement": "first-fit"}, "small"),
    ):
        _, answer = await ask(server, "schedule", json.dumps({"task_id": "t", **fields}).encode())
        assert json.loads(answer)["worker_id"] == worker


async def test_who_waits_is_served_in_order_when_a_heartbeat_brings_room(
    server: RunningServer, desk: AdviceDesk, clients: Clients
) -> None:
    readers = []
    for number, priority in enumerate(("normal", "normal", "high"), 1):
        readers.append(await clients.begin({"task_id": "t", "max_wait_ms": 60_000, "priority": priority}))
        await waiting(desk, number)
    beat = b'{"worker_id":"%b","max_tasks":1,"current_tasks":0,"address":"a:1"}'
    for name, reader in ((b"w1", readers[2]), (b"w2", readers[0]), (b"w3", readers[1])):
        await ask(server, "heartbeat", beat % name)
        assert await placed(reader) == name.decode()


async def test_who_waited_in_vain_is_told_in_the_old_words(server: RunningServer, desk: AdviceDesk) -> None:
    began = time.monotonic()
    assert await ask(server, "schedule", b'{"task_id":"t","max_wait_ms":80}') == (503, NO_ROOM)
    assert time.monotonic() - began >= 0.08
    assert desk.waiting == 0


async def test_wait_is_withdrawn_when_the_client_goes(
    server: RunningServer, desk: AdviceDesk, clients: Clients
) -> None:
    await clients.begin({"task_id": "t", "max_wait_ms": 60_000})
    await waiting(desk, 1)
    stays = await clients.begin({"task_id": "u", "max_wait_ms": 60_000})
    await waiting(desk, 2)
    clients.writers[0].transport.abort()
    await waiting(desk, 1)
    await ask(server, "heartbeat", b'{"worker_id":"w","max_tasks":1,"current_tasks":0}')
    assert await placed(stays) == "w"


async def test_longest_wait_is_cut_not_refused(desk: AdviceDesk, clients: Clients) -> None:
    await clients.begin({"task_id": "t", "max_wait_ms": 10**9})
    await waiting(desk, 1)
    clients.writers[0].transport.abort()
    await waiting(desk, 0)


async def test_stop_sends_away_who_waits(desk: AdviceDesk, clients: Clients) -> None:
    first = await clients.begin({"task_id": "t", "max_wait_ms": 60_000})
    await waiting(desk, 1)
    desk.stop()
    assert "stopping" in str(await placed(first))
    assert "stopping" in str(await placed(await clients.begin({"task_id": "t", "max_wait_ms": 60_000})))


async def test_standstill_of_the_coordinator_makes_nobody_suspicious(
    server: RunningServer, desk: AdviceDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = steady_s()
    monkeypatch.setattr(advice_module, "steady_s", lambda: now)
    desk.pulse()
    await ask(server, "heartbeat", GO_BEAT)
    now += 25.0  # without a pulse: it is us who slept
    (worker,) = await get(server, "workers")
    assert worker["Status"] == "online"
    for _ in range(50):  # with pulses: it is the worker
        now += 0.25
        desk.pulse()
    (worker,) = await get(server, "workers")
    assert worker["Status"] == "suspicious"
    assert (await ask(server, "schedule", b'{"task_id":"t"}'))[1] == NO_ROOM


async def test_both_kinds_of_workers_are_nodes(server: RunningServer) -> None:
    await ask(server, "heartbeat", GO_BEAT)
    nodes = await get(server, "nodes")
    assert [(node["id"], node["kind"], node["state"]) for node in nodes] == [
        ("ours", "rota", "online"),
        ("worker-001", "placement-only", "online"),
    ]
    node = await get(server, "nodes/worker-001")
    assert (node["addr"], node["max_tasks"], node["tasks"]) == ("192.168.1.100:9000", 30, 15)
    status, answer = await ask(server, "nodes/worker-001/drain", b"")
    assert (status, json.loads(answer)["code"]) == (409, "conflict")


async def test_it_answers_while_a_commit_is_under_way_and_while_the_store_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.store.commits_open.clear()
        submit = coordinator.begin_submit()
        await coordinator.wait_until_waiting()
        beat = json.loads(GO_BEAT)
        assert await coordinator.ask("POST", "/api/v1/heartbeat", beat) == (200, {"status": "ok"})
        assert (await coordinator.ask("POST", "/api/v1/schedule", {"task_id": "t"}))[0] == 200
        coordinator.store.commit_failure = StoreUnavailable("no room left")
        coordinator.store.commits_open.set()
        assert (await submit)[0] == 503
        assert not await coordinator.is_ready()
        assert (await coordinator.ask("POST", "/api/v1/heartbeat", beat))[0] == 200
        assert (await coordinator.ask("POST", "/api/v1/schedule", {"task_id": "t"}))[0] == 200
        (worker,) = (await coordinator.ask("GET", "/api/v1/workers"))[1]
        assert worker["CurrentTasks"] == 16


def post_json(cluster: Cluster, path: str, fields: object) -> Any:  # a JSON document
    request = urllib.request.Request(f"{cluster.url}/api/v1/{path}", json.dumps(fields).encode())
    with urllib.request.urlopen(request, timeout=10.0) as answer:
        return json.load(answer)


def test_workers_are_known_again_by_their_heartbeats_after_a_restart(tmp_path: Path) -> None:
    beat = json.loads(GO_BEAT)
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        post_json(cluster, "heartbeat", beat)
        tasks = cluster.client.submit({"command": ["true"]})
        assert post_json(cluster, "schedule", {"task_id": "t"})["worker_id"] == "worker-001"
        cluster.coordinator.kill()
        cluster.start_coordinator()
        assert cluster.client.nodes() == []
        post_json(cluster, "heartbeat", beat)
        assert post_json(cluster, "schedule", {"task_id": "t"})["worker_id"] == "worker-001"
        (node,) = cluster.client.nodes()
        assert (node["id"], node["kind"], node["tasks"]) == ("worker-001", "placement-only", 16)
        wait_until(lambda: cluster.client.task(tasks["id"])["state"] == "pending", what="no task to go there")
        assert cluster.client.task(tasks["id"])["reason"] == "no-workers"
