"""Scratch directories: made as ordered, removed whatever is in them, and nothing outside is ever touched."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rota.core.model import TaskSeq
from rota.worker.cache import CacheDir
from rota.worker.scratch import ScratchFolder
from rota.worker.slots.scratch import Scratch, ScratchFailed, remove_tree
from tests.support.disks import small_disk
from tests.support.house import ROOT

NOBODY = 65534


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_directory_is_private_and_has_its_files(tmp_path: Path) -> None:
    scratch = Scratch((str(tmp_path / "t1-1"), [("task.py", b"print(1)"), ("empty", b"")], "", ""))
    scratch.prepare()
    assert stat.S_IMODE((tmp_path / "t1-1").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "t1-1" / "task.py").stat().st_mode) == 0o600
    assert (tmp_path / "t1-1" / "task.py").read_bytes() == b"print(1)"
    scratch.remove()
    assert listed(tmp_path) == []
    scratch.remove()  # again: there is nothing


def test_what_another_attempt_left_is_not_found_in_it(tmp_path: Path) -> None:
    (tmp_path / "t1-1" / "old").mkdir(parents=True)
    Scratch((str(tmp_path / "t1-1"), [], "", "")).prepare()
    assert listed(tmp_path) == ["t1-1"]
    assert listed(tmp_path / "t1-1") == []


def test_what_can_not_be_made_is_the_machines_fault_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        ScratchFailed, match="no scratch directory could be made on this worker: No such file"
    ) as failed:
        Scratch((str(tmp_path / "missing" / "t1-1"), [], "", "")).prepare()
    assert failed.value.cause == "agent-error"
    with small_disk(tmp_path / "disk", size_mib=1) as disk:
        with pytest.raises(ScratchFailed, match="No space left on device"):
            Scratch((str(disk / "t1-1"), [("big", b"x" * (2 << 20))], "", "")).prepare()
        assert listed(disk) == []


def fill_oddly(folder: Path) -> None:
    """What a task may leave: depth, odd names, links, sockets and pipes, directories without rights."""
    folder.mkdir()
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(3000):  # deeper than any path may be long, and than files may be open
        os.mkdir("d" * 200, dir_fd=inner)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = deeper
    os.close(inner)
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b"*", b" ", b"t1-1.0"):
        (folder / os.fsdecode(name)).mkdir()
        (folder / os.fsdecode(name) / "file").write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    for mode in (0o000, 0o500, 0o300):
        locked = folder / f"mode-{mode:o}"
        (locked / "inner").mkdir(parents=True)
        (locked / "inner" / "file").write_text("x")
        (locked / "inner").chmod(mode)
        locked.chmod(mode)


def test_whatever_is_in_it_is_removed(tmp_path: Path) -> None:
    fill_oddly(tmp_path / "t1-1")
    assert remove_tree(str(tmp_path / "t1-1")) is None
    assert listed(tmp_path) == []


def test_an_ordinary_user_can_remove_what_was_made_read_only(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("as an ordinary user, the test above is this one")
    os.chown(tmp_path, NOBODY, NOBODY)
    program = (
        "import os, pathlib, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.unit.test_slots_scratch import fill_oddly, remove_tree\n"
        f"os.chdir({str(tmp_path)!r}); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "fill_oddly(pathlib.Path('t1-1'))\n"
        "sys.exit(remove_tree('./t1-1'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert listed(tmp_path) == []


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "kept").write_text("x")
    outside.chmod(0o500)
    yard = tmp_path / "yard"
    (yard / "t1-1" / "inner").mkdir(parents=True)
    (yard / "t1-1" / "to-folder").symlink_to(outside)
    (yard / "t1-1" / "inner" / "up").symlink_to("../../..")
    os.link(outside / "folder" / "kept", yard / "t1-1" / "hard")
    assert remove_tree(str(yard / "t1-1")) is None
    assert listed(yard) == []
    assert (outside / "folder" / "kept").read_text() == "x"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
    (yard / "t2-1").symlink_to(outside)
    assert remove_tree(str(yard / "t2-1")) is not None, "it is no directory"
    assert (outside / "folder" / "kept").exists()


def test_a_disk_that_is_mounted_in_it_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "t1-1" / "other").mkdir(parents=True)
    (tmp_path / "t1-1" / "other-file").write_text("x")
    with small_disk(tmp_path / "t1-1" / "disk", size_mib=1) as disk:
        (disk / "kept").write_text("x")
        problem = remove_tree(str(tmp_path / "t1-1"))
        assert problem is not None
        assert "disk: Device or resource busy" in problem
        (left,) = tmp_path.iterdir()
        assert listed(left) == ["disk"]
        assert listed(left / "disk") == ["kept"]
        left.rename(tmp_path / "t1-1")  # where it is unmounted


def test_what_nobody_has_is_swept(tmp_path: Path) -> None:
    scratch = ScratchFolder(CacheDir(tmp_path))
    living = (TaskSeq(5), 1)
    scratch.protect(lambda key: key == living)
    folder = Path(scratch.path_of(living)).parent
    for name in ("t5-1", "t5-2", "t5-2.0", "t5-1.7", "strange"):
        (folder / name / "inner").mkdir(parents=True)
    asyncio.run(scratch.sweep())
    assert listed(folder) == ["lock", "t5-1", "t5-1.7"]


def test_what_dead_workers_left_is_swept_and_what_living_ones_have_is_not(tmp_path: Path) -> None:
    caches = [CacheDir(tmp_path) for _ in range(2)]
    folders = [ScratchFolder(cache) for cache in caches]
    paths = [Path(folder.path_of((TaskSeq(7), 1))) for folder in folders]
    assert [path.parent.name for path in paths] == ["scratch-1", "scratch-2"]
    for path in paths:
        (path / "inner").mkdir(parents=True)
    caches[1].close()  # as if that worker was gone
    heir = ScratchFolder(CacheDir(tmp_path))
    heir._sweep_others()
    assert [path.exists() for path in paths] == [True, False]
    caches[0].close()


def test_without_a_cache_there_is_nothing_to_sweep_and_nothing_is_made(tmp_path: Path) -> None:
    scratch = ScratchFolder(CacheDir(tmp_path / "cache"))
    scratch._sweep_others()
    asyncio.run(scratch.sweep())
    assert not (tmp_path / "cache").exists()
