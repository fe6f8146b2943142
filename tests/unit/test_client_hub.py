"""The engines of clients by themselves, with no coordinator in sight: whatever fails, no future waits for ever."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from rota.client import link
from rota.client.aio import AsyncClient
from rota.client.aio_hub import AsyncFuture, AsyncHub
from rota.client.callables import Template
from rota.client.futures import Future
from rota.client.hub import Hub
from rota.client.link import Address
from rota.client.session import BLOB_MISSING, Rejection
from rota.core.client_protocol import Outcome
from rota.core.errors import BadRequest, ClientClosed, NoCoordinator, RotaError
from rota.core.model import TaskSeq, TaskState
from rota.core.spec import TaskSpec, encode_spec
from rota.functions.envelope import pack_blob
from tests.support.waiting import wait_until

NOBODY_THERE: Final = Address("http://127.0.0.1:9")
SOON_S: Final = 10.0
SPEC: Final = TaskSpec(function="ab" * 32, callable="f", python="3.11")
TEMPLATE: Final = Template(encode_spec(SPEC), "ab" * 32, b"pickled", "f")
LARGE: Final = Outcome(TaskSeq(1), TaskState.COMPLETED, None, pack_blob("ab" * 32, 100_000))


def fail(*_: object) -> Any:
    raise MemoryError("no memory for this")


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(NOBODY_THERE)
    yield hub
    hub.close(cancel_futures=True, wait=True)


def test_function_that_can_not_be_brought_again_ends_its_tasks(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub._functions[TEMPLATE.function_digest] = TEMPLATE
    monkeypatch.setattr(hub, "bring_again", fail)
    future: Future[object] = Future(hub, TEMPLATE.encoded, b"args")
    future.verdict = Rejection(BLOB_MISSING, "there is no such function")
    hub._call_soon(hub.refused, [future])
    with pytest.raises(BadRequest, match="no such function"):
        future.result(SOON_S)
    wait_until(lambda: not hub._errands, what="the end of the errand: a close would wait for it")


def test_program_that_ends_takes_its_thread_along(hub: Hub) -> None:
    assert hub.leave(SOON_S)
    assert not hub._thread.is_alive()


def test_program_that_ends_waits_for_what_is_to_be_submitted_a_second_time(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_brought = threading.Event()
    hub._functions[TEMPLATE.function_digest] = TEMPLATE
    monkeypatch.setattr(hub, "bring_again", lambda _: is_brought.wait(SOON_S))
    future: Future[object] = Future(hub, TEMPLATE.encoded, b"args")
    future.verdict = Rejection(BLOB_MISSING, "there is no such function")
    hub._call_soon(hub.refused, [future])
    wait_until(lambda: hub._errands, what="the errand")
    assert not hub.leave(0.0)
    is_brought.set()


def test_function_is_worth_bringing_again_for_all_of_its_templates(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.blobs, "put", lambda *_: None)
    hub.bring_again(TEMPLATE)
    calls = [
        SPEC,
        TaskSpec(function="ab" * 32, callable="f", python="3.11", priority=3),
        TaskSpec(function="ab" * 32, callable="f", python="3.11", blobs=["ef" * 32]),
        TaskSpec(function="cd" * 32, callable="g", python="3.11"),
    ]
    tickets = []
    for spec in calls:
        future: Future[object] = Future(hub, encode_spec(spec), b"args")
        future.verdict = Rejection(BLOB_MISSING, "there is no such function")
        tickets.append(future)
    assert [hub.is_worth_resending(ticket) for ticket in tickets] == [True, True, True, False]
    assert hub.templates_of(tickets[:3]) == [TEMPLATE]


def test_callback_does_not_wait_for_a_coordinator_that_only_its_own_thread_could_hear(hub: Hub) -> None:
    raised: list[RotaError] = []

    def call_back() -> None:
        try:
            hub.be_patient(NoCoordinator("nobody there"))
        except NoCoordinator as error:
            raised.append(error)

    hub._call_soon(call_back)
    wait_until(lambda: raised, what="the error")


def test_task_that_is_followed_while_the_client_ends_is_given_up(hub: Hub) -> None:
    hub.close(cancel_futures=False, wait=True)
    hub._problem = None  # as who looked just before saw it
    future: Future[object] = Future(hub, b"", None)
    future.seq = TaskSeq(1)
    hub.follow([future])
    with pytest.raises(ClientClosed):
        future.result(SOON_S)


async def test_value_that_can_not_be_fetched_for_want_of_memory_ends_its_future(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = AsyncHub(NOBODY_THERE)
    monkeypatch.setattr(hub.blobs, "opened", fail)
    future: AsyncFuture[object] = AsyncFuture(hub, b"", b"")
    future.verdict = LARGE
    hub.ended([future])
    began = time.monotonic()
    with pytest.raises(MemoryError):
        await future
    assert time.monotonic() - began < SOON_S
    await hub.close(cancel_futures=True)


async def test_function_that_can_not_be_brought_again_ends_its_awaited_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = AsyncHub(NOBODY_THERE)
    hub._functions[TEMPLATE.function_digest] = TEMPLATE
    monkeypatch.setattr(hub, "bring_again", fail)
    future: AsyncFuture[object] = AsyncFuture(hub, TEMPLATE.encoded, b"args")
    future.verdict = Rejection(BLOB_MISSING, "there is no such function")
    hub.refused([future])
    with pytest.raises(BadRequest, match="no such function"):
        await future
    await hub.close(cancel_futures=True)


async def test_connecting_that_the_program_gives_up_leaves_nothing_behind() -> None:
    client = AsyncClient(NOBODY_THERE.url)
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.connect()
    assert asyncio.all_tasks() == before


async def test_client_that_found_no_coordinator_looks_again_when_it_is_told_to() -> None:
    client = AsyncClient(NOBODY_THERE.url, connect_timeout=0.05)
    for _ in range(2):
        with pytest.raises(NoCoordinator):
            await client.connect()


async def test_tasks_that_connect_one_client_at_once_have_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    hubs: list[AsyncHub] = []

    async def connect(hub: AsyncHub, *, seconds: float) -> None:
        hubs.append(hub)
        await asyncio.sleep(seconds)

    monkeypatch.setattr(AsyncHub, "connect", connect)
    client = AsyncClient(NOBODY_THERE.url, connect_timeout=0.0)
    await asyncio.gather(client.connect(), client.connect())
    assert len(hubs) == 1
    await client.shutdown(cancel_futures=True)


async def test_error_that_is_raised_again_and_again_does_not_grow() -> None:
    hub = AsyncHub(NOBODY_THERE)
    hub.link.failure = NoCoordinator("there will never be one")
    frames = []
    for _ in range(3):
        with pytest.raises(NoCoordinator) as raised:
            hub.check_open()
        frames.append(len(raised.traceback))
    assert len(set(frames)) == 1
    await hub.close(cancel_futures=True)


def test_client_that_is_closed_does_not_wait_for_a_machine_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "CONNECT_S_MAX", 10 * SOON_S)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = Hub(Address(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        peer, _ = silent.accept()
        with peer:
            began = time.monotonic()
            with pytest.raises(NoCoordinator):
                hub.connect(0.0)
            assert time.monotonic() - began < SOON_S
