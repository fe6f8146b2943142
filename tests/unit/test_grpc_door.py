"""When the gRPC port of a coordinator is opened, and when it is not."""

from __future__ import annotations

import asyncio
import importlib
from types import ModuleType
from typing import Any, cast

import pytest

from rota.coordinator.config import CoordinatorConfig
from rota.coordinator.grpc import door as door_module
from rota.coordinator.grpc.door import GrpcDoor
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.http.guard import Guard, GuardConfig
from rota.coordinator.metrics import Counters
from rota.coordinator.service import Service
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.waiting import wait_until_async


def make_door() -> GrpcDoor:
    config = CoordinatorConfig(port=0, grpc_port=0)
    return GrpcDoor(
        config,
        guard=Guard(GuardConfig(host=config.host, allowed_hosts=frozenset(), token=None)),
        service=cast("Service", FakeService()),
        blobs=BlobStore(None, durable=False),
        counters=Counters(),
        accept=cast("Any", None),
        watches=OpenWatches(),
    )


async def test_one_that_is_closed_while_the_library_is_imported_opens_no_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    door = make_door()
    loop = asyncio.get_running_loop()
    imported = []

    def import_and_close(name: str) -> ModuleType:
        imported.append(name)
        loop.call_soon_threadsafe(door.close)
        return importlib.import_module(name)

    class Importing:
        import_module = staticmethod(import_and_close)

    monkeypatch.setattr(door_module, "importlib", Importing)
    await asyncio.wait_for(door.run(), 20.0)
    assert imported == [door_module._LIBRARY_USERS[0]], "nor is the rest imported"
    assert capsys.readouterr().out == ""


async def test_one_that_is_closed_afterwards_was_open(capsys: pytest.CaptureFixture[str]) -> None:
    door = make_door()
    running = asyncio.ensure_future(door.run())
    said = ""

    async def is_open() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "serving gRPC on 127.0.0.1:" in said

    await wait_until_async(is_open, what="the door to say where it is")
    door.close()
    await asyncio.wait_for(running, 20.0)
