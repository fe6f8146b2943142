"""The worker's cache directory, and blobs as files in it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from rota.worker.blobs import BlobFolder
from rota.worker.cache import CacheDir, CacheLock, default_cache_dir
from tests.support.blob_server import digest_of


def put(folder: BlobFolder, content: bytes) -> str:
    file = folder.new_file()
    file.write_bytes(content)
    digest = digest_of(content)
    folder.adopt(file, digest)
    return digest


def age(folder: BlobFolder, *digests: str) -> None:
    """Let files be older than what is spared."""
    for digest in digests:
        os.utime(folder.path_of(digest), (1.0, 1.0))


# The directory


def test_the_cache_is_private_and_made_when_it_is_needed(tmp_path: Path) -> None:
    cache = CacheDir(tmp_path / "a" / "cache")
    assert not (tmp_path / "a").exists()
    folder = cache.folder("environments")
    assert folder.parent == tmp_path / "a" / "cache"
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_an_open_directory_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o777)
    assert stat.S_IMODE(CacheDir(tmp_path / "cache").path.stat().st_mode) == 0o700


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(tmp_path / "cache", 12345, -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        _ = CacheDir(tmp_path / "cache").path


def test_the_default_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "rota"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert CacheDir(None).path == tmp_path / "xdg" / "rota"


def test_without_a_home_the_cache_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache = CacheDir(None)
    path = cache.path
    assert path.is_dir()
    cache.close()
    assert not path.exists()


def test_each_worker_of_a_machine_has_blobs_of_its_own(tmp_path: Path) -> None:
    one, other = CacheDir(tmp_path), CacheDir(tmp_path)
    assert [cache.take_own_folder("blobs").name for cache in (one, other)] == ["blobs-1", "blobs-2"]
    one.close()
    assert CacheDir(tmp_path).take_own_folder("blobs").name == "blobs-1"
    other.close()


def test_a_lock_is_held_alone_or_together(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = CacheLock.take(path, alone=False)
    second = CacheLock.take(path, alone=False)
    assert first is not None
    assert second is not None
    assert CacheLock.take(path, alone=True) is None
    first.release()
    second.release()
    with CacheLock.take(path, alone=True) or pytest.fail("nobody has it"):
        assert CacheLock.take(path, alone=False) is None
    with CacheLock.take(path, alone=False) or pytest.fail("it was released"):
        pass


def test_a_file_system_that_knows_no_locks_costs_no_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = os.listdir("/proc/self/fd")
    for _ in range(10):
        with pytest.raises(OSError, match="No locks available"):
            CacheLock.take(tmp_path / "lock", alone=True)
    assert len(os.listdir("/proc/self/fd")) == len(before)


# Blobs as files


def test_a_blob_is_found_again_after_a_restart(tmp_path: Path) -> None:
    digest = put(BlobFolder(tmp_path, bytes_max=100), b"content")
    path = BlobFolder(tmp_path, bytes_max=100).find(digest)
    assert path is not None
    assert path.read_bytes() == b"content"
    assert BlobFolder(tmp_path, bytes_max=100).find("0" * 64) is None


def test_what_was_used_least_recently_makes_room(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, bytes_max=250)
    one, two, three = (put(folder, bytes([number]) * 100) for number in range(3))
    age(folder, one, two, three)
    folder.find(one)
    assert folder.bytes == 300
    assert folder.make_room(set()) == [two]
    assert folder.find(two) is None
    assert folder.find(one)
    assert folder.find(three)
    assert folder.bytes == 200


def test_what_is_used_stays_even_over_the_limit(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, bytes_max=150)
    one, two, three = (put(folder, bytes([number]) * 100) for number in range(3))
    age(folder, one, two, three)
    assert folder.make_room({one, three}) == [two]
    assert folder.bytes == 200


def test_what_a_slot_has_just_made_stays_until_its_name_has_arrived(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, bytes_max=150)
    one, two = (put(folder, bytes([number]) * 100) for number in range(2))
    age(folder, two)
    assert folder.make_room(set()) == [two]
    assert folder.find(one)


def test_the_order_of_use_survives_a_restart_by_when_files_were_written(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, bytes_max=1000)
    one, two = put(folder, b"a" * 100), put(folder, b"b" * 100)
    os.utime(folder.path_of(one), (20.0, 20.0))
    os.utime(folder.path_of(two), (10.0, 10.0))
    assert BlobFolder(tmp_path, bytes_max=150).make_room(set()) == [two]


def test_files_that_others_removed_no_longer_count(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, bytes_max=150)
    one, two = put(folder, b"a" * 100), put(folder, b"b" * 100)
    age(folder, one, two)
    folder.path_of(one).unlink()
    assert folder.make_room(set()) == [one]
    assert folder.find(two)
    assert folder.bytes == 100


def test_leftovers_of_a_killed_process_are_removed_when_they_are_old(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, bytes_max=100)
    left, written = folder.new_file(), folder.new_file()
    left.write_bytes(b"half")
    written.write_bytes(b"half")
    os.utime(left, (10.0, 10.0))
    folder.remove_leftovers()
    assert not left.exists()
    assert written.exists()


def test_leftovers_of_a_killed_worker_are_removed(tmp_path: Path) -> None:
    BlobFolder(tmp_path, bytes_max=100).new_file().write_bytes(b"half")
    BlobFolder(tmp_path, bytes_max=100)
    assert not list((tmp_path / "incoming").iterdir())
