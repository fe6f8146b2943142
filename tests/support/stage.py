"""A coordinator inside the test's process that serves real channels, for clients and workers that a test plays."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.eager_worker import EagerWorker
from tests.support.http_server import running_server
from tests.support.inner_coordinator import InnerCoordinator, inner_coordinator
from tests.support.raw_client import RawClient, template_of

__all__ = ["Stage", "stage"]


class Stage:
    """Where they meet. ``coordinator`` has gates before its store; all speak to ``url``."""

    def __init__(self, coordinator: InnerCoordinator, url: str) -> None:
        self.coordinator = coordinator
        self.url = url

    async def client(self, *, session: str | None = None) -> RawClient:
        """Let a client in."""
        client = RawClient(self.url, session=session)
        await client.enter()
        return client

    async def worker(self, name: str = "w1", **options: Any) -> EagerWorker:
        """Let a worker in."""
        worker = EagerWorker(name, **options)
        await worker.enter(self.url)
        return worker

    def function(self, content: bytes = b"a function", **fields: Any) -> bytes:
        """Put a blob, and return the template of the function that it is said to be."""
        return template_of(function=self.blob(content), **fields)

    def blob(self, content: bytes) -> str:
        """Put a blob, and return its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.coordinator.house.blobs.put([content], digest)
        return digest


@asynccontextmanager
async def stage(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Stage]:
    """Run a coordinator with its port until the block ends."""
    async with inner_coordinator(folder, monkeypatch, **settings) as coordinator:
        house = coordinator.house
        async with running_server(house.app, channels=house.channel_protocol) as server:
            yield Stage(coordinator, server.url)
