"""Whatever a coordinator calls the files, and whatever is in the folder already, nothing is written outside of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.client.landing import Landing
from rota.core.errors import RotaError

parts = st.sampled_from(["..", ".", "", "a", "b", "link", "up", "\\", "a\0", "~"])
names = st.lists(parts, min_size=1, max_size=5).map("/".join)
CONTENT = b"theirs"


def outside_of(root: Path) -> dict[str, str]:
    """All that is beside the folder, with what it holds."""
    found = {}
    for folder, folders, files in os.walk(root, followlinks=False):
        for name in [*folders, *files]:
            path = Path(folder, name)
            if path == root / "here":
                continue
            if not path.is_relative_to(root / "here"):
                found[str(path)] = path.read_text() if path.is_file() else ""
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(names, min_size=1, max_size=4))
def test_nothing_is_written_outside_of_the_folder(given: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        here = root / "here"
        here.mkdir()
        (root / "outside").mkdir()
        (root / "outside" / "a").write_text("mine")
        (here / "link").symlink_to("../outside")
        (here / "up").symlink_to("..")
        before = outside_of(root)
        with Landing(here) as landing:
            for name in given:
                with suppress(RotaError):
                    digest = hashlib.sha256(CONTENT).hexdigest()
                    landing.write(name, [CONTENT], digest=digest, executable=False)
                    assert (here / name).resolve().is_relative_to(here)
                    assert (here / name).read_bytes() == CONTENT
        assert outside_of(root) == before
        assert not list(root.rglob("*.rota"))
