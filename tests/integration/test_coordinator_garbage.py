"""The coordinator's cyclic collector is off: so whatever is done with it, there must be nothing for it to find."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
import httpx
import msgspec
import pytest
from grpc import StatusCode, aio

from rota.coordinator.grpc.sweeping import CALLS_A_SWEEP
from rota.core.client_protocol import Submit
from rota.core.model import Offer, TaskSeq, WorkerId
from rota.core.protocol import PROTOCOL_VERSION, Hello
from rota.wire.channel import CloseCode, Transport
from rota.wire.grpc.frames import FRAME_BYTES_MAX, METHOD, close_frame, pack, unpack
from rota.wire.messages import WORKER_CODEC
from tests.support.grpc_client import ReflectedClient
from tests.support.raw_client import TRUE, RawClient, template_of
from tests.support.real_cluster import Cluster, Gate
from tests.support.waiting import wait_until

COLLECTING: Final = """
import collections, gc, signal
def collect(*_):
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = collections.Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.garbage)
    print("garbage", len(gc.garbage), dict(kinds.most_common(12)), flush=True)
    gc.garbage.clear()
    gc.set_debug(0)
    gc.collect()
signal.signal(signal.SIGUSR1, collect)
"""

ANSWER: Final = re.compile(r"^(garbage (\d+) .*)\n", re.MULTILINE)
"""Up to the end of its line: print writes in pieces."""

LEFT_OF_A_CALL: Final = 5
"""Objects, if the client sends no metadata of its own."""

TASKS: Final = 500
REQUESTS: Final = 60

TOKEN: Final = "of-some-letters"

STRANGER: Final = Hello(PROTOCOL_VERSION, WorkerId("stranger"), "i1", Offer((("cpu", 1),)), None, [], [], 0.0)

Stream = aio.StreamStreamCall[bytes, bytes]

UPGRADE: Final = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def garbage(cluster: Cluster) -> tuple[int, str]:
    """Let the coordinator look for garbage; return how many objects it found, and of which types."""
    before = len(ANSWER.findall(cluster.coordinator.output()))
    cluster.coordinator.send_signal(signal.SIGUSR1)
    wait_until(lambda: len(ANSWER.findall(cluster.coordinator.output())) > before, what="its answer")
    said, count = ANSWER.findall(cluster.coordinator.output())[-1]
    return int(count), said


def run_tasks(cluster: Cluster, client: httpx.Client) -> None:
    before = cluster.count("completed")
    body = msgspec.json.encode([{"name": "brief", "command": ["true"]}] * TASKS)
    assert client.post("/tasks", content=body).status_code == 201
    cluster.wait_for_all(before + TASKS, timeout_s=60.0)


def read_and_wait(cluster: Cluster, client: httpx.Client) -> None:
    for _ in range(REQUESTS):
        task = client.post("/tasks", json={"shell": "echo hello"}).json()
        client.get(f"/tasks/{task['id']}", params={"wait": 10})
        client.get(f"/tasks/{task['id']}/logs", params={"follow": 1})
        client.get("/tasks", params={"limit": 3})


def be_refused(cluster: Cluster, client: httpx.Client) -> None:
    for number in range(REQUESTS):
        assert client.post("/tasks", json={"comand": ["true"]}).status_code == 400
        assert client.post("/tasks", content=b"no json").status_code == 400
        assert client.get("/tasks/nobody").status_code == 404
        client.post("/tasks", json={"id": f"chosen-{number}", "command": ["true"]})
        assert client.post("/tasks", json={"id": f"chosen-{number}", "command": ["false"]}).status_code == 409
        assert client.get("/tasks", headers={"Host": "evil.example"}).status_code == 403


def give_up_waiting(cluster: Cluster, client: httpx.Client) -> None:
    task = client.post("/tasks", json={"shell": "sleep 60"}).json()
    for path in ("?wait=30", "/logs?follow=1"):
        for _ in range(REQUESTS):
            with socket.create_connection(("127.0.0.1", cluster.port), timeout=60.0) as connection:
                connection.sendall(f"GET /api/v1/tasks/{task['id']}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    for _ in range(REQUESTS):
        assert client.get(f"/tasks/{task['id']}", params={"wait": 0.001}).status_code == 200
    client.delete(f"/tasks/{task['id']}")
    cluster.wait_for_end(task["id"])


def listen_to_events(cluster: Cluster, client: httpx.Client) -> None:
    for _ in range(REQUESTS):
        with client.stream("GET", "/events") as stream:
            client.post("/tasks", json={"command": ["true"]})
            next(stream.iter_lines())


def break_channels(cluster: Cluster, client: httpx.Client) -> None:
    for way in ("closed", "junk", "reset", "refused"):
        for _ in range(REQUESTS // 3):
            path = "/api/v1/channel" if way != "refused" else "/nowhere"
            with socket.create_connection(("127.0.0.1", cluster.port), timeout=60.0) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\n".encode() + UPGRADE)
                assert connection.recv(4096).startswith(b"HTTP/1.1 404" if way == "refused" else b"HTTP/1.1 101")
                if way == "junk":
                    connection.sendall(b"\x82\x85\0\0\0\0junk!")
                    connection.recv(4096)
                elif way == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def break_streams(cluster: Cluster, client: httpx.Client) -> None:
    async def open_and_break(way: str) -> None:
        async with aio.insecure_channel(f"127.0.0.1:{cluster.channel_port}") as line:
            token = "wrong" if way == "refused" else TOKEN
            method = "/rota.v1.Channel/Shut" if way == "unknown" else METHOD
            stream: Stream = line.stream_stream(method)(metadata=aio.Metadata(("authorization", f"Bearer {token}")))
            if way in {"refused", "unknown"}:
                assert await stream.code() in {StatusCode.UNAUTHENTICATED, StatusCode.UNIMPLEMENTED}
                return
            assert await read(stream) == b""
            if way == "closed":
                await stream.write(close_frame(CloseCode.NORMAL, "enough"))
                assert await stream.read() is aio.EOF
            elif way in {"junk", "no frame"}:
                await stream.write(pack([b"junk!"]) if way == "junk" else b"\xff\xff")
                _, close = unpack(await read(stream))
                assert close is not None
                assert close.code == CloseCode.BAD_MESSAGE
            elif way == "too large":
                await stream.write(bytes(FRAME_BYTES_MAX + 1))
                assert await stream.code() is StatusCode.RESOURCE_EXHAUSTED
            elif way == "welcomed":
                await stream.write(pack([WORKER_CODEC.encode(STRANGER)]))
                await read(stream)
            # and the rest is cut off with the connection

    async def all_of_them() -> None:
        for way in ("closed", "junk", "no frame", "too large", "welcomed", "reset", "refused", "unknown"):
            for _ in range(REQUESTS // 3):
                await open_and_break(way)

    asyncio.run(all_of_them())


async def read(stream: Stream) -> bytes:
    frame = await asyncio.wait_for(stream.read(), 10.0)
    assert isinstance(frame, bytes)
    return frame


def lose_workers(cluster: Cluster, client: httpx.Client) -> None:
    for _ in range(2):
        with Gate(cluster.folder / f"gate-{uuid.uuid4().hex}") as gate:
            worker = cluster.start_worker("doomed", "--resources=cpu=8000,memory=1G,special=8")
            spec = {"shell": gate.shell, "resources": {"special": 1}, "losses": 0}
            ids = [task["id"] for task in client.post("/tasks", json=[spec] * 8).json()]
            cluster.wait_for_state(ids[0], "running")
            worker.kill()
            replacement = cluster.start_worker("doomed", "--resources=cpu=1000,memory=1G")
            cluster.wait_for_end(ids[0])
            for task_id in ids:
                client.delete(f"/tasks/{task_id}")
            replacement.kill()


def come_and_go_as_clients(cluster: Cluster, client: httpx.Client) -> None:
    async def one(number: int) -> None:
        raw = RawClient(cluster.url)
        await raw.enter()
        raw.submit(TRUE, b"nonsense", template_of(function="ab" * 32), template_of(command=["true"], retries=-1))
        raw.follow(TaskSeq(10**6))
        await raw.wait_for_outcomes([1])
        raw.leave()
        await raw.come_back()
        if number % 3 == 0:
            raw.send(Submit(0, 0, []))
            await raw.wait_until_closed()
        elif number % 3 == 1:
            await raw.connect()  # in place of the one before, and cut off at once
        await raw.leave_for_good()

    async def all_of_them() -> None:
        for number in range(REQUESTS):
            await one(number)

    asyncio.run(all_of_them())


def call_by_grpc(cluster: Cluster, client: httpx.Client) -> None:
    with ReflectedClient(cluster.wait_for_grpc()) as grpc_client:
        for number in range(REQUESTS):
            (task_id,) = grpc_client.call("rota.v1.Rota/SubmitTasks", tasks=[{"shell": "echo hello"}]).ids
            grpc_client.call("rota.v1.Rota/GetTask", id=task_id, wait=10.0)
            grpc_client.call("rota.v1.Rota/ListTasks", limit=3)
            grpc_client.call("rota.v1.Rota/CancelTask", id=task_id)
            grpc_client.call("rota.v1.Rota/ListNodes")
            name = f"grpc-{uuid.uuid4().hex}"
            grpc_client.call("scheduler.Scheduler/SubmitTask", task={"task_id": name, "data": str(number)})
            grpc_client.call("scheduler.Scheduler/GetTaskStatus", task_id=name)
            grpc_client.call("scheduler.Scheduler/ListTasks")
            grpc_client.call("scheduler.Scheduler/GetResourceUsage")


def be_refused_by_grpc(cluster: Cluster, client: httpx.Client) -> None:
    with ReflectedClient(cluster.wait_for_grpc()) as grpc_client:
        for _ in range(REQUESTS):
            for rpc, data in (
                ("rota.v1.Rota/SubmitTasks", b""),
                ("rota.v1.Rota/SubmitTasks", b"no message"),
                ("rota.v1.Rota/GetTask", b"\x0a\x06nobody"),
                ("scheduler.Scheduler/SubmitTask", b"\xff"),
            ):
                with pytest.raises(grpc.RpcError):
                    grpc_client.call_raw(rpc, data)
            nothing: Any = grpc_client.channel.unary_unary("/rota.v1.Rota/Nothing")
            with pytest.raises(grpc.RpcError):
                nothing(b"")
            assert not grpc_client.call("scheduler.Scheduler/SubmitTask").success


def watch_by_grpc(cluster: Cluster, client: httpx.Client) -> None:
    with ReflectedClient(cluster.wait_for_grpc()) as grpc_client:
        for number in range(REQUESTS):
            watch = grpc_client.stream("rota.v1.Rota/WatchEvents")
            watch.initial_metadata()
            if number % 2:
                client.post("/tasks", json={"command": ["true"]})
                next(watch)
            watch.cancel()
        task = client.post("/tasks", json={"shell": "sleep 60"}).json()
        for _ in range(REQUESTS):
            data = b"\x0a%c%b\x11%b" % (len(task["id"]), task["id"].encode(), struct.pack("<d", 30.0))
            with pytest.raises(grpc.RpcError):
                grpc_client.call_raw("rota.v1.Rota/GetTask", data, timeout_s=0.02)
        client.delete(f"/tasks/{task['id']}")
        cluster.wait_for_end(task["id"])


OVER_WEBSOCKET: Final = (
    run_tasks,
    read_and_wait,
    be_refused,
    give_up_waiting,
    listen_to_events,
    break_channels,
    come_and_go_as_clients,
    lose_workers,
    call_by_grpc,
    be_refused_by_grpc,
    watch_by_grpc,
)
OVER_GRPC: Final = (run_tasks, break_streams)
"""What becomes of the tasks of a lost worker does not depend on how it was connected."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "collecting,use",
    [*(("websocket", use) for use in OVER_WEBSOCKET), *(("grpc", use) for use in OVER_GRPC)],
    indirect=["collecting"],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_using_the_coordinator_leaves_no_garbage(
    collecting: Cluster, use: Callable[[Cluster, httpx.Client], None]
) -> None:
    token = {"Authorization": f"Bearer {TOKEN}"} if collecting.transport == "grpc" else {}
    with httpx.Client(base_url=f"{collecting.url}/api/v1", headers=token, timeout=20.0) as client:
        use(collecting, client)  # what is made at first use stays
        garbage(collecting)
        use(collecting, client)
    found, said = garbage(collecting)
    assert found - left_by_the_library(said) < REQUESTS // 4, said


def left_by_the_library(said: str) -> int:
    """What gRPC itself leaves of calls, which is swept up every now and then: see `rota.coordinator.grpc.sweeping`."""
    closures = re.search(r"_find_method_handler': (\d+)", said)
    metadata = re.search(r"_Metadatum': (\d+)", said)
    if closures is None:
        return 0
    return (LEFT_OF_A_CALL - 1) * int(closures[1]) + (int(metadata[1]) if metadata is not None else 0)


@pytest.mark.parametrize("collecting", ["websocket"], indirect=True)
def test_what_the_library_leaves_of_calls_is_swept_up(collecting: Cluster) -> None:
    with ReflectedClient(collecting.wait_for_grpc()) as client:
        for _ in range(2 * CALLS_A_SWEEP):
            client.call("scheduler.Scheduler/GetTaskStatus", task_id="nobody")
    found, said = garbage(collecting)
    assert found <= LEFT_OF_A_CALL * (CALLS_A_SWEEP + 1), said


@pytest.fixture(scope="module")
def collecting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose coordinator looks for garbage when it is told to; that whose workers speak gRPC wants a token."""
    transport: Transport = request.param
    token = TOKEN if transport == "grpc" else None
    options = () if transport == "grpc" else ("--grpc-port=0",)
    with Cluster(tmp_path_factory.mktemp("garbage"), *options, token=token, transport=transport) as cluster:
        cluster.start_coordinator(prelude=COLLECTING)
        cluster.start_worker("w1", "--resources=cpu=4000,memory=1G")
        yield cluster
