"""A client of gRPC that knows nothing but an address: what there is to call, it learns by reflection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

__all__ = ["CALL_S_MAX", "ReflectedClient"]

CALL_S_MAX = 30.0
"""Seconds for one call, on a machine that runs other tests."""


class ReflectedClient:
    """Calls by name: ``client.call("rota.v1.Rota/GetTask", id="t1")``.

    Messages are made of the descriptors that the server gave. Use it in a ``with`` block.
    """

    def __init__(self, address: str, *, token: str | None = None) -> None:
        self.channel = grpc.insecure_channel(address)
        self.metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        self._database = ProtoReflectionDescriptorDatabase(self.channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        """What the server says that it serves."""
        return list(self._database.get_services())

    def methods(self, service: str) -> dict[str, MethodDescriptor]:
        """The RPCs of a service, by name."""
        return dict(self._pool.FindServiceByName(service).methods_by_name)

    def call(self, rpc: str, /, **fields: object) -> Any:  # whatever the RPC answers
        """Make one unary call."""
        method = self._method(rpc)
        return self.call_raw(rpc, GetMessageClass(method.input_type)(**fields).SerializeToString())

    def call_raw(self, rpc: str, data: bytes, *, timeout_s: float = CALL_S_MAX) -> Any:  # likewise
        """Make one unary call with bytes that need not be a message."""
        answer = GetMessageClass(self._method(rpc).output_type)
        invoke: Any = self.channel.unary_unary(f"/{rpc}", response_deserializer=answer.FromString)
        return invoke(data, timeout=timeout_s, metadata=self.metadata)

    def stream(self, rpc: str, /, **fields: object) -> Any:  # a call that yields messages, and can be cancelled
        """Make one call that is answered by a stream."""
        method = self._method(rpc)
        request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        invoke: Any = self.channel.unary_stream(f"/{rpc}", response_deserializer=answer.FromString)
        return invoke(request(**fields).SerializeToString(), timeout=CALL_S_MAX, metadata=self.metadata)

    def send(self, rpc: str, messages: Iterable[dict[str, object]], /) -> Any:  # likewise
        """Make one call that is sent a stream, and answered once."""
        method = self._method(rpc)
        request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        invoke: Any = self.channel.stream_unary(f"/{rpc}", request.SerializeToString, answer.FromString)
        return invoke((request(**fields) for fields in messages), timeout=CALL_S_MAX, metadata=self.metadata)

    def type_named(self, name: str) -> Any:  # a class that was made just now
        """The class of a message."""
        return GetMessageClass(self._pool.FindMessageTypeByName(name))

    def _method(self, rpc: str) -> MethodDescriptor:
        service, name = rpc.split("/")
        return self.methods(service)[name]

    def __iter__(self) -> Iterator[str]:
        """All RPCs of the server's own services."""
        for service in self.services():
            if not service.startswith("grpc."):
                yield from (f"{service}/{name}" for name in self.methods(service))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
