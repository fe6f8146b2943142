"""What ``import rota`` gives, how quickly, and what those who check types see."""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import re
import subprocess
import sys
from concurrent.futures import Executor
from pathlib import Path
from textwrap import dedent

import pytest

import rota
from tests.support.house import ROOT

HEAVY = ("asyncio", "msgspec", "concurrent.futures", "urllib3", "uvloop", "cloudpickle", "websockets")


def test_import_loads_nothing_that_takes_time() -> None:
    script = f"import sys, rota; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"


def test_every_name_is_found_and_is_what_its_home_has() -> None:
    for name in rota.__all__:
        assert getattr(rota, name) is not None, name
    assert set(rota.__all__) <= set(dir(rota))


def test_those_who_check_types_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "src" / "rota" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == rota._HOMES
    assert set(rota.__all__) == {*seen, "__version__"}


def test_unknown_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'rota' has no attribute 'clint'"):
        rota.clint  # type: ignore[attr-defined]  # noqa: B018 - that is what is tested


GOOD = """
    import asyncio
    import concurrent.futures
    from collections.abc import Iterator

    from rota import AsyncClient, Client, Future, TaskFailed, current, job, task


    def resize(name: str, *, width: int = 100) -> bytes:
        return name.encode() * width


    @task(retries=3, timeout=60.0)
    def count(text: str) -> int:
        current().set_progress(0.5, "counting")
        return len(text)


    def submits() -> None:
        with Client() as client:
            picture: bytes = client.submit(resize, "a", width=5).result()
            future: Future[int] = client.submit(count, "abc")
            number: int = future.result(timeout=5.0)
            plain: int = count("abc")
            pictures: Iterator[bytes] = client.map(resize, ["a", "b"])
            done, not_done = concurrent.futures.wait([future])
            first: int = next(concurrent.futures.as_completed([future])).result()
            executor: concurrent.futures.Executor = client
            again: list[object] = list(job("nightly").results())
            try:
                future.result()
            except TaskFailed as failed:
                print(failed.signal, failed.worker, picture, number, plain, pictures, first, executor, again, done)


    async def awaits() -> None:
        async with AsyncClient("http://localhost:8080") as client:
            future = await client.submit(resize, "a")
            picture: bytes = await future
            both: tuple[bytes, bytes] = await asyncio.gather(future, future)
            async for number in client.map(count, ["a"]):
                total: int = number + 1
                print(picture, both, total)
"""

BAD = """
    from rota import Client, task


    def resize(name: str, *, width: int = 100) -> bytes:
        return name.encode() * width


    @task(retries=3)
    def count(text: str) -> int:
        return len(text)


    client = Client()
    client.submit(resize, 5)
    client.submit(resize, "a", height=5)
    wrong: int = client.submit(resize, "a").result()
    count(5)
    client.submit(count, 5)
"""


def checked(tmp_path: Path, program: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(dedent(program))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False)
    return [line for line in done.stdout.splitlines() if ": error: " in line]


@pytest.mark.slow
def test_programs_that_users_write_are_typed(tmp_path: Path) -> None:
    assert checked(tmp_path, GOOD) == []


@pytest.mark.slow
def test_mistakes_in_programs_are_seen_by_the_type_checker(tmp_path: Path) -> None:
    errors = checked(tmp_path, BAD)
    assert [int(line.split(":")[1]) for line in errors] == [15, 16, 17, 18, 19], errors


REFERENCE = (ROOT / "docs" / "reference" / "python.md").read_text()


@pytest.mark.parametrize("kind", [rota.Client, rota.AsyncClient, rota.Future, rota.AsyncFuture, rota.Job])
def test_every_public_method_is_in_the_reference(kind: type) -> None:
    own = [name for name in vars(kind) if not name.startswith("_") and callable(getattr(kind, name))]
    known = {*dir(Executor), *dir(concurrent.futures.Future), *dir(asyncio.Future), "settle"}
    new = [name for name in own if name not in known or name in ("submit", "map", "shutdown", "cancel")]
    assert not [name for name in new if not re.search(rf"\b{name}\b", REFERENCE)]
