"""What lies in a scratch directory is counted, a slice at a time, and no more than it should."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rota.worker.slots import filling
from rota.worker.slots.filling import FillingWatch

MIB = 1 << 20


def verdict(folder: Path, limit_mib: int) -> str | None:
    """Of one whole walk."""
    watch = FillingWatch(str(folder), limit_mib, started=0.0)
    for _ in range(10_000):
        said = watch.look(watch.next_look)
        if said is not None or watch._walk is None:
            return said
    raise AssertionError("the walk has no end")


def test_what_is_over_the_limit_is_said_with_how_much_it_is(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(bytes(2 * MIB))
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(2 * MIB))
    assert verdict(tmp_path, 5) is None
    said = verdict(tmp_path, 3)
    assert said is not None
    assert "held 5 MiB, and this worker's limit is 3 MiB (--scratch-limit)" in said  # 4 MiB, and its directories


def test_it_is_looked_at_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(2 * MIB))
    began = time.monotonic()
    watch = FillingWatch(str(tmp_path), 1, started=began)
    assert watch.look(began) is None
    assert watch.next_look == began + filling.PERIOD_S
    assert watch.look(watch.next_look) is not None
    assert watch.next_look > began + filling.PERIOD_S - 1.0


def test_a_large_directory_is_walked_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SLICE_S", 0.0)
    for number in range(3 * filling.ENTRIES_A_STEP):
        (tmp_path / f"{number}").write_bytes(bytes(8192))
    watch = FillingWatch(str(tmp_path), 1, started=0.0)
    slices = 0
    while (said := watch.look(watch.next_look)) is None:
        slices += 1
        assert slices < 10
    assert slices >= 3
    assert "held 2 MiB" in said


def test_links_holes_and_pipes_are_not_taken_for_more_than_they_are(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "big").write_bytes(bytes(4 * MIB))
    (folder / "link").symlink_to(elsewhere)
    (folder / "file-link").symlink_to(elsewhere / "big")
    os.mkfifo(folder / "pipe")
    with (folder / "holes").open("wb") as sparse:
        sparse.truncate(64 * MIB)
    (folder / "once").write_bytes(bytes(MIB))
    for number in range(5):
        (folder / f"again{number}").hardlink_to(folder / "once")
    assert verdict(folder, 2) is None
    assert verdict(folder, 1) is not None


def test_what_goes_away_while_it_is_walked_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SLICE_S", 0.0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2 * filling.ENTRIES_A_STEP):
            (tmp_path / name / f"{number}").write_bytes(b"x")
    watch = FillingWatch(str(tmp_path), 100, started=0.0)
    assert watch.look(watch.next_look) is None
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    while watch._walk is not None:
        assert watch.look(watch.next_look) is None
    tmp_path.rmdir()
    assert watch.look(watch.next_look) is None


def test_an_attempt_that_ends_in_the_middle_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "SLICE_S", 0.0)
    for number in range(2 * filling.ENTRIES_A_STEP):
        (tmp_path / f"{number}").write_bytes(b"x")
    before = sorted(os.listdir("/proc/self/fd"))
    watch = FillingWatch(str(tmp_path), 100, started=0.0)
    watch.look(watch.next_look)
    assert len(os.listdir("/proc/self/fd")) > len(before)
    watch.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
