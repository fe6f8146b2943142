"""Room on the disk is told when it gets low, once, and when there is some again."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from rota.coordinator.disk import DiskWatch

GIB = 1 << 30


def test_low_room_is_told_once_and_so_is_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DiskWatch(tmp_path)
    told: list[list[str]] = []
    for free in (50 * GIB, GIB - 1, GIB // 2, GIB + 1, 2 * GIB, GIB // 2):
        room = SimpleNamespace(f_bavail=free // 4096, f_blocks=100 * GIB // 4096, f_frsize=4096)
        monkeypatch.setattr(os, "statvfs", lambda _, room=room: room)
        with capture_logs() as logs:
            watch.run_once()
        told.append([entry["event"] for entry in logs])
    assert told == [[], ["disk_low"], [], [], ["disk_roomy"], ["disk_low"]]


def test_of_a_small_disk_a_tenth_is_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = SimpleNamespace(f_bavail=200, f_blocks=1000, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    with capture_logs() as logs:
        DiskWatch(tmp_path).run_once()
    assert logs == []


def test_what_the_state_holds_is_told_by_part(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name, size in (("rota.db", 10), ("rota.db-wal", 5), ("logs/1.seg", 7), ("logs/index.db", 1), ("rota.lock", 99)):
        (tmp_path / name).write_bytes(bytes(size))
    watch = DiskWatch(tmp_path)
    watch.run_once()
    assert watch.used_bytes == {"database": 15, "logs": 8}


def test_a_directory_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path / "nowhere")
    watch.run_once()
    assert (watch.free_bytes(), watch.used_bytes) == (None, {"database": 0, "logs": 0})
