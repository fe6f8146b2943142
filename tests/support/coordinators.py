"""A coordinator's real HTTP edge over the fake service, in a thread, for tests of blocking clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server

__all__ = ["LiveCoordinator", "live_coordinator"]

T = TypeVar("T")


class LiveCoordinator:
    """What a test sees of it: its address, and its service through `do`."""

    def __init__(self, server: RunningServer, service: FakeService, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self.service = service

    @property
    def url(self) -> str:
        return self._server.url

    def do(self, change: Callable[[], T]) -> T:
        """Call something of the service where it lives: in the thread of its loop."""

        async def call() -> T:
            return change()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10.0)


@contextmanager
def live_coordinator(*, token: str | None = None) -> Iterator[LiveCoordinator]:
    """Serve a `FakeService` over real sockets until the block ends."""
    ready = threading.Event()
    found: list[LiveCoordinator] = []

    async def live() -> None:
        service = FakeService()
        app = build_app(service, guard=GuardConfig(token=token), counters=Counters(), blobs=BlobStore(None))
        stop = asyncio.Event()
        async with running_server(app) as server:
            loop = asyncio.get_running_loop()
            found.append(LiveCoordinator(server, service, loop))
            stops.append(lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()
            await stop.wait()

    stops: list[Callable[[], object]] = []
    thread = threading.Thread(target=lambda: asyncio.run(live()), name="coordinator")
    thread.start()
    try:
        assert ready.wait(10.0), "the server has not started"
        yield found[0]
    finally:
        stops[0]()
        thread.join(10.0)
