"""Builds of Go programs with toolchains that are scripts: once for equal code, within limits, and nothing half done."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rota.core.model import Cause
from rota.worker import builds
from rota.worker.builds import GoBuilds, compiler_message, trim
from rota.worker.cache import CacheDir
from rota.worker.slots.base import SuppliesFailed
from rota.worker.toolchain import GoToolchain, find_go
from tests.support.waiting import wait_until_async

GOOD = "cp main.go program"
"""A compiler as good as any where programs are scripts."""


def toolchain(folder: Path, script: str, *, version: str = "go1.19.8") -> GoToolchain:
    """A toolchain that writes a line of its own for each build into ``calls``, and does what the script says."""
    path = folder / "go"
    path.write_text(f'#!/bin/sh\necho "$$ $GOFLAGS $GOPROXY $CGO_ENABLED" >> {folder}/calls\n{script}\n')
    path.chmod(0o700)
    return GoToolchain(str(path), version, "linux/amd64")


def calls(folder: Path) -> int:
    path = folder / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def is_there(pid: Path) -> bool:
    return Path("/proc", pid.read_text().strip()).exists()


async def build(made: GoBuilds, code: str, *, is_wanted: Callable[[], bool] = lambda: True) -> str:
    what = made.build_of(code)
    await made.build(what, is_wanted=is_wanted)
    path = made.find(what.name)
    assert path is not None
    return path


def nothing_is_left(cache: Path) -> bool:
    return not list((cache / "go-1" / "work").iterdir()) and not list(
        (cache / "go-1" / "programs" / "incoming").iterdir()
    )


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[CacheDir]:
    made = CacheDir(tmp_path / "cache")
    yield made
    made.close()


async def test_a_program_is_named_by_all_that_makes_it_what_it_is(cache: CacheDir, tmp_path: Path) -> None:
    made = GoBuilds(cache, toolchain(tmp_path, GOOD))
    path = await build(made, "#!/bin/sh\nexit 7")
    assert await (await asyncio.create_subprocess_exec(path)).wait() == 7
    newer = GoBuilds(cache, toolchain(tmp_path, GOOD, version="go1.20"))
    names = {one.build_of(code).name for one in (made, newer) for code in ("a", "b")}
    assert len(names) == 4
    assert nothing_is_left(cache.path)


async def test_a_build_that_fails_leaves_nothing_and_says_what_the_compiler_said(
    cache: CacheDir, tmp_path: Path
) -> None:
    made = GoBuilds(cache, toolchain(tmp_path, "echo partial > program; echo ./main.go:3:4: no >&2; exit 1"))
    with pytest.raises(SuppliesFailed, match=r"\Amain.go:3:4: no\Z") as failed:
        await build(made, "x")
    assert failed.value.cause is Cause.LAUNCH_ERROR
    assert made.find(made.build_of("x").name) is None
    assert nothing_is_left(cache.path)


async def test_a_full_disk_is_not_the_tasks_fault(cache: CacheDir, tmp_path: Path) -> None:
    made = GoBuilds(cache, toolchain(tmp_path, "echo write /x: no space left on device; exit 1"))
    with pytest.raises(SuppliesFailed) as failed:
        await build(made, "x")
    assert failed.value.cause is Cause.AGENT_ERROR
    made = GoBuilds(cache, GoToolchain("/no/such/go", "go1.19", "linux/amd64"))
    with pytest.raises(SuppliesFailed, match="no Go program can be built here") as failed:
        await build(made, "x")
    assert failed.value.cause is Cause.AGENT_ERROR


@pytest.mark.parametrize(
    "name, value, script, message",
    [
        ("BUILD_S_MAX", 0.3, "sleep 600 & wait", "not done after 0.3 s"),
        ("BUILD_MIB_MAX", 100, "python3 -c 'x = bytearray(200 << 20); input()' < /dev/zero", "100 MiB of memory"),
        ("PROGRAM_BYTES_MAX", 1 << 20, "exec head -c 3000000 /dev/zero > program", "killed by signal 25"),
    ],
)  # fmt: skip
async def test_a_build_has_limits(
    cache: CacheDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    value: float,
    script: str,
    message: str,
) -> None:
    monkeypatch.setattr(builds, name, value)
    made = GoBuilds(cache, toolchain(tmp_path, script))
    with pytest.raises(SuppliesFailed, match=message) as failed:
        await build(made, "x")
    assert failed.value.cause is Cause.LAUNCH_ERROR
    assert nothing_is_left(cache.path)


async def test_what_a_killed_worker_was_building_is_removed(cache: CacheDir, tmp_path: Path) -> None:
    for folder in ("work/0123", "programs/incoming"):
        (cache.path / "go-1" / folder).mkdir(parents=True)
    (cache.path / "go-1" / "work" / "0123" / "main.go").write_text("x")
    (cache.path / "go-1" / "programs" / "incoming" / "half").write_text("x")
    await build(GoBuilds(cache, toolchain(tmp_path, GOOD)), "x")
    assert nothing_is_left(cache.path)


async def test_a_build_that_nobody_wants_any_more_stops(cache: CacheDir, tmp_path: Path) -> None:
    made = GoBuilds(cache, toolchain(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 600 & wait"))
    with pytest.raises(SuppliesFailed) as failed:
        await build(made, "x", is_wanted=lambda: not (tmp_path / "pid").exists())
    assert failed.value.cause is Cause.RETURNED
    assert not is_there(tmp_path / "pid")
    assert nothing_is_left(cache.path)


async def test_a_worker_that_leaves_takes_the_compiler_with_it(cache: CacheDir, tmp_path: Path) -> None:
    made = GoBuilds(cache, toolchain(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 600 & wait"))
    building = asyncio.create_task(build(made, "x"))
    await wait_until_async(lambda: bool(calls(tmp_path)), what="the build")
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert nothing_is_left(cache.path)


async def test_programs_stay_within_their_limit_and_those_in_use_stay(
    cache: CacheDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "PROGRAM_BYTES_MAX", 25_000)
    made = GoBuilds(cache, toolchain(tmp_path, GOOD))
    codes = [f"{number}" + "x" * 9_999 for number in range(4)]
    made.protect(lambda: {made.build_of(codes[0]).name})
    paths = []
    for code in codes:
        paths.append(Path(await build(made, code)))
        long_ago = time.time() - 3600
        os.utime(paths[-1], (long_ago, long_ago))
    assert [path.exists() for path in paths] == [True, False, False, True]


def test_the_compilers_own_files_are_trimmed_oldest_first(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / "ab" / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (number, number))
    (tmp_path / "README").write_text("kept")
    assert trim(tmp_path, 10_000) == 0
    assert trim(tmp_path, 8_000) == 4_000
    assert sorted(os.listdir(tmp_path / "ab")) == ["4", "5", "6", "7", "8", "9"]
    assert (tmp_path / "README").exists()


def test_what_the_compiler_says_is_bounded() -> None:
    assert compiler_message("") == "the compiler failed without a word"
    assert len(compiler_message("main.go:1:1: x\n" * 100).splitlines()) == 20
    assert len(compiler_message("x" * 5000)) == 2000


@pytest.mark.parametrize(
    "script, version",
    [
        ("printf '%s\\n' go1.22.1 $ROOT linux amd64", "1.22"),
        ("printf '%s\\n' 'devel go1.30-abc' $ROOT linux arm64", "1.30"),
        ("printf '%s\\n' go1.22.1 /nowhere linux amd64", None),
        ("echo 'cannot find GOROOT' >&2; exit 2", None),
        ("echo nonsense", None),
        ("printf '%s\\n' nonsense $ROOT linux amd64", None),
    ],
)
def test_only_a_toolchain_that_works_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str | None
) -> None:
    monkeypatch.setattr("rota.worker.toolchain.USUAL_PATH", "/no/such/go")
    (tmp_path / "src" / "fmt").mkdir(parents=True)
    assert find_go({"PATH": str(tmp_path)}) is None
    path = tmp_path / "go"
    path.write_text(f"#!/bin/sh\nROOT={tmp_path}\n{script}\n")
    path.chmod(0o700)
    found = find_go({"PATH": str(tmp_path)})
    assert (None if found is None else found.language) == version
    if found is not None:
        assert found.tags == {"go", f"go-{version}"}
