"""Virtual environments: built once however many ask, by real installers, from wheels made here."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.core.model import Cause
from rota.worker import environments as module
from rota.worker.cache import CacheDir, CacheLock
from rota.worker.environments import EnvironmentStore, name_of_environment, remove_unused
from rota.worker.slots.base import SuppliesFailed
from tests.support.waiting import wait_until_async
from tests.support.wheels import make_wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CacheDir]:
    made = CacheDir(tmp_path / "cache")
    yield made
    made.close()


def ask(python: str, expression: str) -> str:
    program = f"import rota_test_tiny, cloudpickle, sys; print({expression})"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def installs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Notes what is installed from now on."""
    noted: list[list[str]] = []
    build = EnvironmentStore._build

    def noting(self: EnvironmentStore, path: Path, requirements: list[str], lock: CacheLock) -> None:
        noted.append(list(requirements))
        build(self, path, requirements, lock)

    monkeypatch.setattr(EnvironmentStore, "_build", noting)
    return noted


async def test_an_environment_has_what_was_asked_for_and_what_the_worker_has(
    wheels: Path, cache: CacheDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = installs(monkeypatch)
    make_wheel(wheels, "rota_test_tiny", "1.0", requires=("rota_test_dependency",))
    make_wheel(wheels, "rota_test_dependency", "3.0")
    make_wheel(wheels, "rota_test_tiny", "2.0")
    store, other = EnvironmentStore(cache), EnvironmentStore(cache)
    python = await store.interpreter(["rota_test_tiny==1.0"])
    assert Path(python).is_relative_to(cache.path / "environments")
    assert ask(python, "rota_test_tiny.version") == "1.0"
    # What the worker has installed, and programs of other Pythons would not.
    assert ask(python, "__import__('msgspec').__name__") == "msgspec"
    # Two workers of a machine, and both at once.
    pythons = await asyncio.gather(*(one.interpreter(["rota_test_tiny==1.0"]) for one in (store, other, other)))
    assert set(pythons) == {python}
    assert noted == [["rota_test_tiny==1.0"]]
    store.close()
    other.close()


def test_machines_of_another_kind_have_environments_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here = name_of_environment(["x"])
    monkeypatch.setattr("sysconfig.get_platform", lambda: "linux-elsewhere")
    assert name_of_environment(["x"]) != here


async def test_two_workers_that_ask_at_once_build_once(
    wheels: Path, cache: CacheDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = installs(monkeypatch)
    make_wheel(wheels, "rota_test_tiny", "1.0")
    stores = [EnvironmentStore(cache) for _ in range(2)]
    pythons = await asyncio.gather(*(store.interpreter(["rota_test_tiny"]) for store in stores))
    assert len(set(pythons)) == 1
    assert len(noted) == 1
    for store in stores:
        store.close()


async def test_an_environment_that_another_worker_has_built_and_uses_is_not_waited_for(
    cache: CacheDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find that it is not there; the other is first to build it, and keeps it."""
    folder, name = cache.folder("environments"), name_of_environment(["x"])
    others: list[CacheLock] = []
    take = CacheLock.take

    def take_after_the_other(path: Path, *, alone: bool) -> CacheLock | None:
        if alone and not others:
            other = take(path, alone=False)
            assert other is not None
            others.append(other)
            (folder / name).mkdir()
            (folder / name / module.READY).touch()
        return take(path, alone=alone)

    monkeypatch.setattr(CacheLock, "take", staticmethod(take_after_the_other))
    store = EnvironmentStore(cache)
    async with asyncio.timeout(10.0):
        assert await store.interpreter(["x"]) == str(folder / name / "bin" / "python")
    store.close()
    others[0].release()


async def test_a_failed_build_says_what_the_installer_said_and_may_succeed_later(wheels: Path, cache: CacheDir) -> None:
    store = EnvironmentStore(cache)
    with pytest.raises(SuppliesFailed, match="No matching distribution found for rota_test_tiny") as failed:
        await store.interpreter(["rota_test_tiny"])
    assert "the environment for rota_test_tiny could not be built: " in str(failed.value)
    assert failed.value.cause is Cause.LAUNCH_ERROR
    assert not (cache.path / "environments" / name_of_environment(["rota_test_tiny"])).exists()
    make_wheel(wheels, "rota_test_tiny", "1.0")
    assert ask(await store.interpreter(["rota_test_tiny"]), "rota_test_tiny.version") == "1.0"
    store.close()


async def test_a_requirement_is_no_option_of_the_installer(wheels: Path, cache: CacheDir) -> None:
    store = EnvironmentStore(cache)
    with pytest.raises(SuppliesFailed, match="Invalid requirement"):
        await store.interpreter(["--target=/tmp/rota-test-elsewhere"])
    store.close()


async def test_without_pip_uv_installs(wheels: Path, cache: CacheDir, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("there is no uv here")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "which", lambda name: uv)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    make_wheel(wheels, "rota_test_tiny", "1.0")
    store = EnvironmentStore(cache)
    assert ask(await store.interpreter(["rota_test_tiny"]), "rota_test_tiny.version") == "1.0"
    store.close()


async def test_without_any_installer_the_task_is_told(cache: CacheDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "which", lambda name: None)
    store = EnvironmentStore(cache)
    with pytest.raises(SuppliesFailed, match="neither pip nor uv"):
        await store.interpreter(["rota_test_tiny"])
    store.close()


async def test_a_worker_that_leaves_stops_what_it_builds(cache: CacheDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installer", lambda python: ["sh", "-c", "sleep 60 & wait"])
    store = EnvironmentStore(cache)
    building = asyncio.create_task(store.interpreter(["x"]))
    log = cache.path / "environments" / f"{name_of_environment(['x'])}.log"
    await wait_until_async(lambda: log.with_suffix("").joinpath("pyvenv.cfg").exists(), what="a build", timeout_s=60.0)
    began = time.monotonic()
    store.close()
    with pytest.raises(SuppliesFailed, match="leaving") as failed:
        await building
    assert failed.value.cause is Cause.RETURNED
    assert time.monotonic() - began < 30


async def test_a_build_that_takes_too_long_is_given_up(cache: CacheDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installer", lambda python: ["sh", "-c", "sleep 60 & wait"])
    monkeypatch.setattr(module, "BUILD_S_MAX", 1.0)
    store = EnvironmentStore(cache)
    with pytest.raises(SuppliesFailed, match="not done after 1 s"):
        await store.interpreter(["x"])
    store.close()


# What is removed


def environment(folder: Path, name: str, *, used_at: float) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "ready").touch()
    (folder / f"{name}.log").touch()
    os.utime(path / "ready", (used_at, used_at))
    return path


def test_environments_that_nobody_used_for_long_are_removed(tmp_path: Path) -> None:
    now = time.time()
    old = environment(tmp_path, "old", used_at=now - 31 * 86400)
    new = environment(tmp_path, "new", used_at=now - 29 * 86400)
    assert remove_unused(tmp_path) == ["old"]
    assert not old.exists()
    assert new.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("old")] == []


def test_of_many_environments_those_used_last_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    now = time.time()
    for index, name in enumerate("abcd"):
        environment(tmp_path, name, used_at=now - index)
    assert sorted(remove_unused(tmp_path)) == ["c", "d"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["a", "b"]


def test_what_another_worker_uses_is_not_removed(tmp_path: Path) -> None:
    path = environment(tmp_path, "old", used_at=1.0)
    lock = CacheLock.take(tmp_path / "old.lock", alone=False)
    assert lock is not None
    assert remove_unused(tmp_path) == []
    lock.release()
    assert remove_unused(tmp_path) == ["old"]
    assert not path.exists()
