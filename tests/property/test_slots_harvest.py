"""Whatever a task makes of its scratch directory, only its own regular files are taken, under names that are sound."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.filenames import FilePattern, find_flaw_in_name
from rota.core.protocol import Ended
from rota.worker.slots.harvest import harvested

parts = st.sampled_from(["a", "b", ".c", "d e", "x\ny", "w\\v", "a.csv"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)
targets = st.sampled_from(["/etc", "..", "../outside", "../outside/secret", ".", "a", "../../..", "loop", "/dev/null"])
things = st.lists(st.tuples(st.sampled_from(["file", "link", "pipe", "folder"]), names, targets), max_size=20)
patterns = st.lists(
    st.sampled_from(
        ["*", "**", "a", "a/**", "**/a", "*/*", "a/b", ".c", "*.csv", "**/*.csv", "loop", "a/*/b", "**/.c"]
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


def plant(root: Path, things: list[tuple[str, str, str]]) -> None:
    """Do as a task might, but never through a link: the machine is not to suffer from a test."""
    for number, (kind, name, target) in enumerate(things):
        path = root / name
        with suppress(OSError):  # it may stand in the way of another
            if path.parent.resolve() != path.parent:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case "file":
                    with open(path, "x") as file:
                        file.write(f"inside {number}")
                case "link":
                    path.symlink_to(target)
                case "pipe":
                    os.mkfifo(path)
                case _:
                    path.mkdir()


def really_there(root: Path) -> Iterator[str]:
    """The regular files below a folder, by another way: without following links."""
    for folder, _, files in os.walk(root, followlinks=False):
        for file in files:
            path = Path(folder, file)
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(root))


def is_meant(pattern: str, name: str) -> bool:
    whole = FilePattern(pattern)
    folders = name.split("/")
    return whole.matches(name) or (
        whole.may_name_folder and any(whole.matches("/".join(folders[:end])) for end in range(1, len(folders)))
    )


@settings(max_examples=100, deadline=None)
@given(things, patterns)
def test_exactly_the_regular_files_that_match_are_taken(things: list[tuple[str, str, str]], given: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, blobs = Path(folder, "scratch").resolve(), Path(folder, "blobs")
        root.mkdir()
        Path(folder, "outside").mkdir()
        Path(folder, "outside", "secret").write_text("outside")
        plant(root, things)
        expected = {
            name
            for name in really_there(root)
            if find_flaw_in_name(name) is None and any(is_meant(pattern, name) for pattern in given)
        }
        inside = {name: (root / name).read_text() for name in expected}
        fields = (1, 1, None, 0, None, 1.0, 2.0, 1.0, None, None, 0, 0, b"", b"", None)
        ended = msgspec.convert(harvested(fields, str(root), ([], given, str(blobs)), own=[]), Ended)
        assert ended.cause is None, ended.message
        taken = {output.name: (blobs / output.digest[:2] / output.digest).read_text() for output in ended.outputs}
        assert taken == inside
        assert all(text.startswith("inside") for text in taken.values())
