"""The border of gRPC: bytes to messages, errors to statuses, and streams that end when they must."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import grpc
import pytest
import structlog

from rota.coordinator.grpc.calls import FIELDS_MAX, REQUEST_BYTES_MAX, answering
from rota.coordinator.grpc.errors import GRPC_STATUS_OF
from rota.coordinator.grpc.watching import WATCHES_MAX, OpenWatches
from rota.coordinator.metrics import Counters
from rota.core import errors
from rota.v1 import rota_pb2
from tests.support.house import ROOT

CONTRACT = (ROOT / "proto" / "rota" / "v1" / "rota.proto").read_text(encoding="utf-8")


class FakeContext:
    """What the library would send."""

    def __init__(self) -> None:
        self.status: grpc.StatusCode | None = None
        self.message = ""
        self.metadata: dict[str, str] = {}

    def set_code(self, code: grpc.StatusCode) -> None:
        self.status = code

    def set_details(self, details: str) -> None:
        self.message = details

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.metadata = dict(metadata)


async def ended(data: bytes, *, error: Exception | None = None) -> FakeContext:
    """Call an RPC that raises, or answers with nothing."""

    async def behave(request: rota_pb2.SubmitTasksRequest, _context: object) -> rota_pb2.SubmitTasksResponse:
        if error is not None:
            raise error
        return rota_pb2.SubmitTasksResponse(ids=["x"] * len(request.tasks))

    context: Any = FakeContext()
    counters = Counters()
    await answering(behave, rota_pb2.SubmitTasksRequest, name="Submit", counters=counters)(data, context)
    assert isinstance(context, FakeContext)
    assert counters.grpc_calls == {("Submit", context.status.name if context.status is not None else "OK"): 1}
    return context


def sent_errors() -> list[type[errors.RotaError]]:
    """Those that a coordinator sends."""
    named = [getattr(errors, name) for name in errors.__all__]
    tree = (errors.__doc__ or "").splitlines()
    local = {name for line in tree if "raised by" in line for name in line.split()[1:2]}
    ours = [one for one in named if inspect.isclass(one) and issubclass(one, errors.RotaError)]
    return [one for one in ours if one.__name__ not in {*local, "RotaError"}]


@pytest.mark.parametrize("error", sent_errors(), ids=lambda error: error.__name__)
def test_every_error_has_a_status_that_the_contract_explains(error: type[errors.RotaError]) -> None:
    status = next(GRPC_STATUS_OF[cls] for cls in error.__mro__ if cls in GRPC_STATUS_OF)
    assert status is grpc.StatusCode.PERMISSION_DENIED or f"//   {status.name} " in CONTRACT


async def test_error_in_a_task_names_its_place() -> None:
    context = await ended(b"", error=errors.BadSpec("tags", "are wrong", index=3))
    assert (context.status, context.message) == (grpc.StatusCode.INVALID_ARGUMENT, "task 3: tags: are wrong")
    assert context.metadata == {"rota-code": "bad_spec", "rota-field": "tags", "rota-index": "3"}


@pytest.mark.parametrize(
    "error, status",
    [
        (errors.Overloaded("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.StoreUnavailable("away"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_what_may_succeed_later_says_when_to_come_again(error: errors.RotaError, status: grpc.StatusCode) -> None:
    context = await ended(b"", error=error)
    assert (context.status, context.metadata["rota-code"]) == (status, error.code)
    assert context.metadata["grpc-retry-pushback-ms"] == "1000"


async def test_our_own_mistake_is_logged_and_not_told() -> None:
    with structlog.testing.capture_logs() as logs:
        context = await ended(b"", error=KeyError("secret"))
    assert (context.status, context.metadata) == (grpc.StatusCode.INTERNAL, {"rota-code": "internal"})
    assert "secret" not in context.message
    assert [line["event"] for line in logs] == ["call_failed"]


async def test_long_sentence_is_cut_to_what_clients_take() -> None:
    context = await ended(b"", error=errors.BadRequest("\N{SNOWMAN}" * 10_000))
    assert len(context.message.encode()) * 3 < 8 << 10


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\x0a\xff", b"{}", b"\0"])
async def test_bytes_that_are_no_message_are_a_bad_request(data: bytes) -> None:
    context = await ended(data)
    assert (context.status, context.metadata["rota-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")


async def test_too_many_bytes_are_not_read() -> None:
    context = await ended(bytes(REQUEST_BYTES_MAX + 1))
    assert context.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert context.metadata == {"rota-code": "too_large"}


EMPTY_TASK = b"\x0a\x00"


@pytest.mark.parametrize(
    "data, code",
    [
        (EMPTY_TASK * FIELDS_MAX, None),
        (EMPTY_TASK * (FIELDS_MAX + 1), "too_large"),
        (EMPTY_TASK * (REQUEST_BYTES_MAX // 2), "too_large"),
        (b"\x10\x01" * (FIELDS_MAX + 1), "too_large"),
        (b"\x09" + bytes(8) + EMPTY_TASK * FIELDS_MAX, "too_large"),
        (b"\x0d" + bytes(4) + EMPTY_TASK * FIELDS_MAX, "too_large"),
        (b"\x0b\x0c" + EMPTY_TASK * FIELDS_MAX, "bad_request"),
        (b"\x80" * REQUEST_BYTES_MAX, "bad_request"),
        (b"\x0a\xff\xff\xff\xff\x0f" + EMPTY_TASK * FIELDS_MAX, "bad_request"),
    ],
    ids=["as many", "one more", "millions", "numbers", "doubles", "floats", "group", "endless number", "too long"],
)
async def test_entries_are_counted_before_they_are_made(data: bytes, code: str | None) -> None:
    assert (await ended(data)).metadata.get("rota-code") == code


# What stays open


async def test_watches_are_broken_off_when_the_server_stops() -> None:
    watches = OpenWatches()
    entered = asyncio.Event()

    async def watch() -> None:
        async with watches.one_more():
            entered.set()
            await asyncio.Event().wait()

    watching = asyncio.create_task(watch())
    await entered.wait()
    assert len(watches) == 1
    watches.stop()
    with pytest.raises(errors.Unavailable, match="call again in a moment"):
        await watching
    assert len(watches) == 0
    with pytest.raises(errors.Unavailable):
        await watch()


async def test_there_are_only_so_many_watches() -> None:
    watches = OpenWatches()
    with pytest.raises(errors.Overloaded, match="1000 calls are open already"):
        await asyncio.gather(*(hold(watches) for _ in range(WATCHES_MAX + 1)))


async def hold(watches: OpenWatches) -> None:
    async with watches.one_more():
        await asyncio.sleep(0)


async def test_time_that_runs_out_inside_is_not_taken_for_the_end_of_the_server() -> None:
    with pytest.raises(TimeoutError):
        async with OpenWatches().one_more():
            raise TimeoutError
