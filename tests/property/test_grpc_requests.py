"""Whatever a client says over gRPC, in messages or in bytes that are none, is answered, and never with our insides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.coordinator.grpc.calls import answering, answering_streams
from rota.coordinator.grpc.contracts import public_contracts
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.metrics import Counters
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService

ANSWER_S_MAX: Final = 0.05
"""Streams have no end of their own."""

KNOWN_WORDS: Final = ("t1", "known", "python:pass", "high", "gpu", "true", "1.0", "0" * 64, "cpu", "")

NUMBERS: Final[dict[int, st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 101),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 101),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 7),
    FieldDescriptor.TYPE_DOUBLE: st.floats() | st.floats(0.0, 0.01),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(max_size=300) | st.sampled_from(KNOWN_WORDS),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=50),
}

BLOBS: Final = BlobStore(None)

METHODS: Final = [
    pytest.param(method, contract.implementation.__class__.__name__, id=method.full_name)
    for contract in public_contracts(FakeService(), OpenWatches(), blobs=BLOBS)
    for method in contract.descriptor.methods
]


@pytest.fixture(scope="module", autouse=True)
def _open_blobs() -> Iterator[None]:
    BLOBS.open()
    yield
    BLOBS.close()


class Context:
    """What the library would send."""

    def __init__(self) -> None:
        self.status = grpc.StatusCode.OK
        self.written: list[Message] = []

    def set_code(self, code: grpc.StatusCode) -> None:
        self.status = code

    def set_details(self, details: str) -> None:
        details.encode()

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        for key, value in metadata:
            assert value.isascii(), key

    async def send_initial_metadata(self, _metadata: object) -> None:
        pass

    async def write(self, message: Message) -> None:
        self.written.append(message)


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of a type, with some of their fields, each of which has any value that its type allows."""
    by_field = {field.name: values(field) for field in descriptor.fields}
    make: Callable[..., Message] = GetMessageClass(descriptor)
    return st.fixed_dictionaries({}, optional=by_field).map(lambda fields: _made(make, descriptor, fields))


def _made(make: Callable[..., Message], descriptor: Descriptor, fields: dict[str, Any]) -> Message:
    """Make a message; of fields that exclude each other the last one counts."""
    message = make()
    for name, value in fields.items():
        message.MergeFrom(make(**{name: value}))
    return message


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        entry = field.message_type
        assert entry is not None
        if entry.GetOptions().map_entry:
            key, value = (entry.fields_by_name[name] for name in ("key", "value"))
            return st.dictionaries(values(key), values(value), max_size=3)
        one: st.SearchStrategy[Any] = st.deferred(lambda: messages(entry))
    else:
        one = NUMBERS[field.type]
    return st.lists(one, max_size=3) if field.is_repeated else one


async def twice(data: bytes) -> AsyncIterator[bytes]:
    yield data
    yield data


async def answered(method: MethodDescriptor, service_name: str, data: bytes) -> Context:
    """Call an RPC of a service that knows one task."""
    service = FakeService()
    contracts = public_contracts(service, OpenWatches(), blobs=BLOBS)
    (implementation,) = (
        contract.implementation for contract in contracts if contract.implementation.__class__.__name__ == service_name
    )
    border: Any = answering_streams if method.client_streaming else answering
    call = border(
        getattr(implementation, method.name), GetMessageClass(method.input_type), name="x", counters=Counters()
    )
    context: Any = Context()
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            answer = await call(twice(data) if method.client_streaming else data, context)
    except TimeoutError:
        return Context()
    for message in [*context.written, *([answer] if isinstance(answer, Message) else [])]:
        message.SerializeToString()
    assert isinstance(context, Context)
    return context


@pytest.mark.parametrize("method, service_name", METHODS)
@given(data=st.data())
def test_any_message_is_answered(method: MethodDescriptor, service_name: str, data: st.DataObject) -> None:
    request = data.draw(messages(method.input_type))
    context = asyncio.run(answered(method, service_name, request.SerializeToString()))
    assert context.status is not grpc.StatusCode.INTERNAL, request


@pytest.mark.parametrize("method, service_name", METHODS)
@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_answered(method: MethodDescriptor, service_name: str, data: bytes) -> None:
    context = asyncio.run(answered(method, service_name, data))
    assert context.status is not grpc.StatusCode.INTERNAL
