"""The gRPC port of a real coordinator: which it is, who may call, and what is said when it can't be had."""

from __future__ import annotations

import queue
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from rota.coordinator.config import GRPC_PORT_DEFAULT
from rota.coordinator.grpc.handlers import Contract
from rota.core.model import Offer, WorkerId
from rota.core.protocol import PROTOCOL_VERSION, Hello
from rota.v1 import scheduler_pb2
from rota.wire.messages import WORKER_CODEC
from tests.support.network import free_port
from tests.support.processes import running_rota
from tests.support.real_cluster import START_S_MAX, Cluster

TOKEN = "s3cret-token"
HELLO = Hello(PROTOCOL_VERSION, WorkerId("reflected"), "i1", Offer((("cpu", 1),)), None, [], [], 0.0)


class _WithToken(grpc.StreamStreamClientInterceptor):
    """Sends a token with each call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_stream_stream(self, continuation, client_call_details, request_iterator):  # type: ignore[no-untyped-def]  # as the library declares it
        details = client_call_details._replace(metadata=[("authorization", f"Bearer {self._token}")])
        return continuation(details, request_iterator)


def listed_services(address: str, *, token: str | None = None) -> list[str]:
    """What a server says that it serves."""
    with grpc.insecure_channel(address) as channel:
        asked = channel if token is None else grpc.intercept_channel(channel, _WithToken(token))
        return list(ProtoReflectionDescriptorDatabase(asked).get_services())


@contextmanager
def taken_port(port: int = 0) -> Iterator[int]:
    """A port that somebody else listens on; skips nothing if it is taken already."""
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            yield port
            return
        other.listen()
        yield other.getsockname()[1]


def test_reflection_says_what_is_served(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--grpc-port=0") as cluster:
        cluster.start_coordinator()
        assert "grpc.reflection.v1alpha.ServerReflection" in listed_services(cluster.wait_for_grpc())


@pytest.mark.parametrize("given", [None, "wrong", "s3cret-toke", ""])
def test_without_the_right_token_nothing_is_told(tmp_path: Path, given: str | None) -> None:
    with Cluster(tmp_path, "--grpc-port=0", token=TOKEN) as cluster:
        cluster.start_coordinator()
        address = cluster.wait_for_grpc()
        with pytest.raises(grpc.RpcError) as caught:
            listed_services(address, token=given)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert listed_services(address, token=TOKEN)


def test_a_worker_made_of_nothing_but_reflection_is_let_in(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--grpc-port=0") as cluster:
        cluster.start_coordinator()
        with grpc.insecure_channel(cluster.wait_for_grpc()) as line:
            service = DescriptorPool(ProtoReflectionDescriptorDatabase(line)).FindServiceByName("rota.v1.Channel")
            method = service.methods_by_name["Open"]
            frame = GetMessageClass(method.input_type)
            said: queue.SimpleQueue[Any] = queue.SimpleQueue()
            answers: Any = line.stream_stream(
                f"/{service.full_name}/{method.name}",
                request_serializer=frame.SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )(iter(said.get, None), timeout=10.0)
            assert not next(answers).messages
            said.put(frame(messages=[WORKER_CODEC.encode(HELLO)]))
            (welcome,) = next(answers).messages
            assert msgspec.msgpack.decode(welcome)["type"] == "welcome"
            assert cluster.node("reflected") is not None
            said.put(frame(close={"code": 1000, "reason": "that was all"}))
            assert list(answers) == []
            assert answers.code() is grpc.StatusCode.OK
            said.put(None)
        cluster.coordinator.wait_for_line(r"closed by the other side: that was all \(1000\)")


def test_the_usual_port_gives_way_to_whoever_has_it(tmp_path: Path) -> None:
    with taken_port(GRPC_PORT_DEFAULT), Cluster(tmp_path, "--grpc-port=auto") as cluster:
        cluster.start_coordinator()
        address = cluster.wait_for_grpc()
        assert not address.endswith(f":{GRPC_PORT_DEFAULT}")
        assert "grpc_port_taken" in cluster.coordinator.output()
        assert listed_services(address)


@pytest.mark.parametrize("command", ["coordinator", "up"])
def test_a_port_that_was_asked_for_and_is_taken_is_refused(tmp_path: Path, command: str) -> None:
    with taken_port() as port:
        arguments = ["--port", str(free_port()), "--grpc-port", str(port), "--state-dir", str(tmp_path / "state")]
        with running_rota(command, *arguments, log_path=tmp_path / "log") as refused:
            assert refused.wait_for_exit(timeout_s=START_S_MAX) != 0
            assert f"port {port}" in refused.output()
            assert re.search(r"choose (one|another) with .*--grpc-port", refused.output())


def test_off_means_that_the_library_is_not_even_loaded(tmp_path: Path) -> None:
    look = "import atexit, sys; atexit.register(lambda: print('loaded' if 'grpc' in sys.modules else 'not loaded'))"
    with Cluster(tmp_path, "--grpc-port=off") as cluster:
        coordinator = cluster.start_coordinator(prelude=look)
        coordinator.stop()
        assert coordinator.output().splitlines()[-1] == "not loaded"


def test_a_service_without_all_its_methods_is_no_service() -> None:
    class Half:
        def SubmitTask(self) -> None: ...  # noqa: N802 - the name of the RPC

    descriptor: ServiceDescriptor = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
    with pytest.raises(TypeError, match=r"scheduler\.Scheduler is without SubmitSubTask, GetTaskStatus"):
        Contract(descriptor, Half())
