"""Programs that move over by a few lines, and the guide's chapter on functions: as shown, so they run.

Each example runs from a clean folder, before its move and after it, and says the same.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.commands import running_cluster
from tests.support.house import ROOT

EXAMPLES: Final = ROOT / "examples" / "moving"

CHANGED_LINES_MAX: Final = 5
"""Of the program proper: the sentence at its top and empty lines don't count."""

CHAPTER: Final = "## Python functions"

RUN_S_MAX: Final = 100.0
"""Seconds alone; much more beside other tests."""


def run(path: Path, folder: Path, **variables: str) -> str:
    """What a program writes, run by the same Python from a folder that has nothing but it."""
    there = folder / path.name.removesuffix(".txt")
    shutil.copy(path, there)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ROTA_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:rota", there.name],
        cwd=folder,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def proper_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines()[1:] if line.strip()]


@pytest.mark.parametrize(
    "before,after", [("executor_before.py", "executor_after.py"), ("sklearn_before.py", "sklearn_after.py")]
)
def test_program_says_the_same_after_its_move(before: str, after: str, tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    assert run(EXAMPLES / before, folders[0]) == run(EXAMPLES / after, folders[1])


def test_program_for_dask_says_the_same_after_its_move(tmp_path: Path) -> None:
    before = EXAMPLES / "dask_before.py.txt"
    compile(before.read_text(), before.name, "exec")
    said = run(EXAMPLES / "dask_after.py", tmp_path)
    assert said.splitlines() == [
        "100 walks, 25.9 steps away on average, 74 at most (seed 88)",
        "[6, 0, -4, -2, -2]",
    ]
    if importlib.util.find_spec("distributed") is not None:
        assert run(before, tmp_path) == said


@pytest.mark.parametrize(
    "before,after",
    [
        ("executor_before.py", "executor_after.py"),
        ("dask_before.py.txt", "dask_after.py"),
        ("sklearn_before.py", "sklearn_after.py"),
    ],
)
def test_few_lines_change(before: str, after: str) -> None:
    lines = list(difflib.ndiff(proper_lines(EXAMPLES / before), proper_lines(EXAMPLES / after)))
    removed = [line for line in lines if line.startswith("- ")]
    added = [line for line in lines if line.startswith("+ ")]
    assert max(len(removed), len(added)) <= CHANGED_LINES_MAX, removed + added


def test_chapter_on_functions_is_a_program_that_runs(tmp_path: Path) -> None:
    chapter = (ROOT / "docs" / "guide.md").read_text().split(CHAPTER)[1].split("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", chapter, re.M | re.S)
    assert len(blocks) > 8
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks))
    folder = tmp_path / "clean"
    folder.mkdir()
    with running_cluster(tmp_path, "--workers", "2", "--resources", "cpu=2000,memory=8G") as (rota, _):
        said = run(program, folder, ROTA_URL=rota.url)
    assert "was killed by SIGABRT" in said
    assert "{'completed': 3}" in said
    assert "Traceback (most recent call last)" in said  # the worker's, as the cause
