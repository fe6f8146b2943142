"""What no decent client sends to the gRPC port: it is refused, and the next caller is served as before."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from rota.wire.grpc.frames import FRAME_BYTES_MAX
from tests.support.grpc_client import ReflectedClient
from tests.support.http2_frames import END_HEADERS, END_STREAM, OPENING, PREFACE, call_headers, frame, message
from tests.support.processes import RunningProcess
from tests.support.real_cluster import Cluster

ROTA = "rota.v1.Rota"
TASKANDGO = "scheduler.Scheduler"

MESSAGE_MIB_MAX = FRAME_BYTES_MAX >> 20
"""What the library takes: a message of a channel may be so large."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("grpc"), "--grpc-port=0") as running:
        running.start_coordinator()
        yield running


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> str:
    return cluster.wait_for_grpc()


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[ReflectedClient]:
    with ReflectedClient(address) as found:
        yield found


def tell(address: str, *parts: bytes) -> bytes:
    """Send bytes as they are, end the sending side, and return what comes back until the other side ends, too."""
    host, _, port = address.rpartition(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=60.0) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                heard += chunk
        except TimeoutError:
            raise
        except OSError:
            pass  # it has heard enough
    return heard


def assert_serves(client: ReflectedClient) -> None:
    assert not client.call(f"{TASKANDGO}/GetTaskStatus", task_id="nobody").found


CALL = call_headers(b"/rota.v1.Rota/GetTask")

JUNK = {
    "random bytes": random.Random(1).randbytes(100_000),
    "nothing": b"",
    "HTTP/1.1": b"POST /rota.v1.Rota/GetTask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(240),
    "half a preface": PREFACE[:10],
    "junk after the preface": PREFACE + random.Random(2).randbytes(10_000),
    "a frame that announces 16 MiB": OPENING + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1000),
    "settings of an odd length": PREFACE + frame(4, b"abc", stream=0),
    "data without a call": OPENING + frame(0, b"abc"),
    "headers that are no HPACK": OPENING + frame(1, b"\xff" * 1000, flags=END_HEADERS),
    "endless headers": OPENING + frame(1, b"") + frame(9, b"\x00" * 16_000) * 20,
    "a call that is left at once": OPENING + CALL,
    "half a length": OPENING + CALL + frame(0, b"\0\0\0", flags=END_STREAM),
    "a message shorter than it says": OPENING + CALL + frame(0, message(b"ab", length=9), flags=END_STREAM),
    "a message of 4 GiB": OPENING + CALL + frame(0, message(b"ab", length=2**32 - 1)),
    "a message that is not compressed as it says": OPENING
    + call_headers(b"/rota.v1.Rota/GetTask", grpc_encoding=b"gzip")
    + frame(0, message(b"ab", compressed=1), flags=END_STREAM),
    "a compression that there is not": OPENING
    + call_headers(b"/rota.v1.Rota/GetTask", grpc_encoding=b"nonsense")
    + frame(0, message(b"ab", compressed=1), flags=END_STREAM),
    "two messages where one is taken": OPENING + CALL + frame(0, message(b"") * 2, flags=END_STREAM),
    "a deadline that is none": OPENING
    + call_headers(b"/rota.v1.Rota/GetTask", grpc_timeout=b"soon")
    + frame(0, message(b""), flags=END_STREAM),
    "a reset of what is not open": OPENING + frame(3, bytes(4), stream=7),
    "a thousand calls that are reset": OPENING
    + b"".join(
        CALL[:5] + struct.pack(">I", stream) + CALL[9:] + frame(3, bytes(4), stream=stream)
        for stream in range(1, 2001, 2)
    ),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_garbage_on_the_port_harms_nobody(address: str, client: ReflectedClient, junk: bytes) -> None:
    tell(address, junk)
    assert_serves(client)


def test_garbage_is_no_mistake_of_ours_in_the_log(cluster: Cluster, address: str) -> None:
    for junk in JUNK.values():
        tell(address, junk)
    log = cluster.coordinator.output()
    assert "Traceback" not in log
    assert "call_failed" not in log


def refused(client: ReflectedClient, rpc: str, data: bytes) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        client.call_raw(rpc, data)
    return caught.value


@pytest.mark.parametrize("rpc", [f"{ROTA}/SubmitTasks", f"{ROTA}/GetTask", f"{TASKANDGO}/SubmitTask"])
@pytest.mark.parametrize("megabytes", [9, MESSAGE_MIB_MAX + 1])
def test_message_over_the_limit_is_refused_and_the_next_is_taken(
    client: ReflectedClient, rpc: str, megabytes: int
) -> None:
    error = refused(client, rpc, bytes(megabytes << 20))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert_serves(client)


def test_millions_of_empty_tasks_are_counted_not_made(cluster: Cluster, client: ReflectedClient) -> None:
    before = peak_memory_kib(cluster.coordinator)
    error = refused(client, f"{ROTA}/SubmitTasks", b"\x0a\x00" * (4 << 20))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert peak_memory_kib(cluster.coordinator) - before < 200 << 10
    assert_serves(client)


def test_calls_that_are_given_up_at_once_leave_a_coordinator_that_works(
    cluster: Cluster, client: ReflectedClient
) -> None:
    task = client.type_named("rota.v1.TaskSpec")(shell=":")
    request = client.type_named("rota.v1.SubmitTasksRequest")(tasks=[task] * 100).SerializeToString()
    invoke: Any = client.channel.unary_unary(f"/{ROTA}/SubmitTasks")
    for number in range(100):
        call = invoke.future(request)
        if number % 2:  # in the middle of it, else before it has begun
            client.call(f"{TASKANDGO}/GetTaskStatus", task_id="nobody")
        call.cancel()
    assert_serves(client)
    count = cluster.count("pending")
    assert count % 100 == 0, "all of a request or none"
    assert "Traceback" not in cluster.coordinator.output()


def test_message_that_unpacks_to_hundreds_of_megabytes_is_not_unpacked(
    cluster: Cluster, address: str, client: ReflectedClient
) -> None:
    before = peak_memory_kib(cluster.coordinator)
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        invoke: Any = channel.unary_unary(f"/{ROTA}/GetTask")
        with pytest.raises(grpc.RpcError) as caught:
            invoke(bytes(300 << 20), compression=grpc.Compression.Gzip, timeout=60.0)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_memory_kib(cluster.coordinator) - before < 100 << 10
    assert_serves(client)


def peak_memory_kib(process: RunningProcess) -> int:
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


@pytest.mark.parametrize("count, code", [(0, "bad_request"), (10_001, "too_large"), (10_000, None)])
def test_request_holds_ten_thousand_tasks_and_no_more(client: ReflectedClient, count: int, code: str | None) -> None:
    task = client.type_named("rota.v1.TaskSpec")(shell=":")
    request = client.type_named("rota.v1.SubmitTasksRequest")(tasks=[task] * count).SerializeToString()
    if code is None:
        assert len(client.call_raw(f"{ROTA}/SubmitTasks", request).ids) == count
    else:
        error = refused(client, f"{ROTA}/SubmitTasks", request)
        assert {said.key: str(said.value) for said in error.trailing_metadata()}["rota-code"] == code


def test_task_over_its_limit_is_refused(client: ReflectedClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.call(f"{ROTA}/SubmitTasks", tasks=[{"shell": "#" * (1 << 20)}])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    answer = client.call(f"{TASKANDGO}/SubmitTask", task={"data": "python:" + "#" * (1 << 20)})
    assert not answer.success
    assert "at most 1,048,576" in answer.message


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x01",  # a number where the id should be
        b"\x0a\x02\xff\xfe",  # an id that is no UTF-8
        b"\x0a\x05ab",  # an id that is shorter than it says
        b"\x0d\0\0\0\0",
        b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01",
        os.urandom(64),
    ],
    ids=["number", "no UTF-8", "short", "float", "field number", "random"],
)
def test_bytes_of_other_types_are_refused_as_bad_or_unknown(client: ReflectedClient, data: bytes) -> None:
    error = refused(client, f"{ROTA}/GetTask", data)
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "task_id",
    ["", "t0", "t999999999999999999999", "-1", "\N{SNOWMAN}", "a\u202eb", "\0", "../../etc/passwd", "x" * 10_000],
)
def test_unknown_id_is_not_found_whatever_it_is(client: ReflectedClient, task_id: str) -> None:
    for rpc in ("GetTask", "CancelTask"):
        with pytest.raises(grpc.RpcError) as caught:
            client.call(f"{ROTA}/{rpc}", id=task_id)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    answer = client.call(f"{TASKANDGO}/GetTaskStatus", task_id=task_id)
    assert (answer.found, answer.message) == (False, f"Task {task_id} not found")


def test_unknown_rpc_is_unimplemented(client: ReflectedClient) -> None:
    for path in (f"/{ROTA}/Nothing", "/nothing.At/All", "/x", "//"):
        with pytest.raises(grpc.RpcError) as caught:
            client.channel.unary_unary(path)(b"", timeout=10.0)  # type: ignore[arg-type]  # bytes are what is sent
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
