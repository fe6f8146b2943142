"""The pictures of docs/workloads.md: the command that the page names draws just those that it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.house import ROOT

PAGE = (ROOT / "docs" / "workloads.md").read_text()


def test_the_command_of_the_page_draws_all_its_pictures(tmp_path: Path) -> None:
    assert "python examples/draw_workloads.py docs/pictures" in PAGE
    subprocess.run([sys.executable, ROOT / "examples" / "draw_workloads.py", tmp_path], check=True, capture_output=True)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == set(re.findall(r"\]\(pictures/([\w-]+\.png)\)", PAGE))
    assert all((ROOT / "docs" / "pictures" / name).is_file() for name in drawn)
