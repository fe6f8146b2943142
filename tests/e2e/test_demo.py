"""`make demo` does what it says, with a Go toolchain on the machine and without."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.debian import require_program
from tests.support.house import ROOT

pytestmark = pytest.mark.xdist_group("go")

NEEDED = ("cat", "sh", "sleep", "true")
"""What the tasks of the demo call."""

DEMO_S_MAX = 300.0
"""It builds a Go program, perhaps the first of this machine."""


def shown_by_demo(*, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=DEMO_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as it should be" in done.stdout
    return done.stdout


def test_the_demo_does_what_it_says(tmp_path: Path) -> None:
    require_program("go", package="golang-go")
    shown = shown_by_demo(env={"ROTA_CACHE_DIR": str(tmp_path)})
    for name in ("pi.py", "pi.go"):
        assert f"   {name}: 3.14159265358979323846…2164201989, 1,000 digits, checked\n" in shown
    assert "totals checked against a direct count" in shown
    assert "attempt 3 on w" in shown
    assert re.search(r"endless +cancelled", shown)
    assert "killed worker w2" in shown


def test_the_demo_says_that_go_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    if Path("/usr/local/go").exists():
        pytest.skip("there is a toolchain that a worker finds without PATH")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(str(shutil.which(name)))
    shown = shown_by_demo(env={"PATH": str(programs), "ROTA_CACHE_DIR": str(tmp_path / "cache")})
    assert "   go is left out: no worker found its toolchain" in shown
    assert "   pi.py: 3.14159" in shown
    assert "pi.go" not in shown
