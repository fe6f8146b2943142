"""Scratch directories and built programs that a test plays, where no slot is to run anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rota.core.model import AttemptKey
from rota.worker.slots.base import Build

__all__ = ["FakePrograms", "FakeScratch"]


class FakeScratch:
    """Names directories that are never made, or has no place for any."""

    problem: OSError | None = None

    def path_of(self, key: AttemptKey) -> str:
        if self.problem is not None:
            raise self.problem
        return f"/scratch/{key[0]}"


class FakePrograms:
    """Programs that are built when a test says so."""

    source = "main.go"

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.builds: dict[str, asyncio.Future[None]] = {}
        self.is_wanted: Callable[[], bool] = bool

    def build_of(self, code: str) -> Build:
        return Build(f"digest of {code}", code)

    def find(self, name: str) -> str | None:
        return f"/programs/{name}" if name in self.here else None

    async def build(self, build: Build, *, is_wanted: Callable[[], bool]) -> None:
        assert build.code not in self.builds, "one build however many wait"
        self.is_wanted = is_wanted
        self.builds[build.code] = asyncio.get_running_loop().create_future()
        await self.builds[build.code]

    def come(self, code: str) -> None:
        """End the build of this code well."""
        self.here.add(f"digest of {code}")
        self.builds.pop(code).set_result(None)
