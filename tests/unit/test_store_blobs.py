"""The blob store: what comes in is what its name says, what is named is on the disk, what is in use stays."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rota.core.errors import BadRequest, StoreBroken, StoreUnavailable, TooLarge
from rota.store import blob_files
from rota.store.blobs import YOUNG_S, BlobStore

START: Final = 1_800_000_000.0
LARGE: Final = 1 << 40
DAY_S: Final = 86_400.0


class Clock:
    """The wall clock of a test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path, clock: Clock) -> Iterator[BlobStore]:
    store = BlobStore(tmp_path / "blobs", clock=clock)
    store.open()
    yield store
    store.close()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(blobs: BlobStore, data: bytes) -> str:
    """Put a blob, whose file is then as old as the test's clock says."""
    digest = digest_of(data)
    blobs.put([data], digest)
    os.utime(blobs.path(digest), (blobs._clock(), blobs._clock()))
    return digest


def place(blobs: BlobStore, data: bytes, *, at: float) -> str:
    """Put a blob as those do who share the directory."""
    digest = digest_of(data)
    draft = Path(blobs.home.path) / "incoming" / "draft"
    draft.write_bytes(data)
    os.link(draft, blobs.path(digest))
    draft.unlink()
    os.utime(blobs.path(digest), (at, at))
    return digest


def sweep(blobs: BlobStore, *pinned: str, wall: float, bytes_max: int = LARGE, max_age_s: float = 7 * DAY_S) -> int:
    return blobs.sweep(frozenset(pinned), wall=wall, bytes_max=bytes_max, max_age_s=max_age_s)


def is_durable(blobs: BlobStore, digest: str) -> bool:
    return blob_files.is_marked_durable(blobs.path(digest).stat())


def read(blobs: BlobStore, digest: str) -> bytes:
    found = blobs.open_blob(digest)
    assert found is not None
    with found[0] as file:
        data = file.read()
    assert found[1] == len(data)
    return data


# Coming


def test_what_was_put_is_there_under_its_digest(blobs: BlobStore) -> None:
    digest = digest_of(b"one two")
    assert blobs.missing([digest]) == [digest]
    assert blobs.put([b"one", b" ", b"two"], digest)
    assert not blobs.put([b"one two"], digest), "it was there"
    assert blobs.missing([digest]) == []
    assert blobs.has(digest)
    assert blobs.size(digest) == 7
    assert read(blobs, digest) == b"one two"
    assert (blobs.count, blobs.total_bytes) == (1, 7)


def test_other_bytes_than_the_digest_names_are_refused_and_leave_nothing(blobs: BlobStore) -> None:
    digest = digest_of(b"right")
    with pytest.raises(BadRequest, match=digest_of(b"wrong")) as caught:
        blobs.put([b"wrong"], digest)
    assert caught.value.code == "wrong_digest"
    assert digest in str(caught.value)
    assert not blobs.has(digest)
    assert not list((Path(blobs.home.path) / "incoming").iterdir())


def test_more_than_a_blob_may_have_is_refused_and_leaves_nothing(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_files, "BLOB_BYTES_MAX", 10)
    blobs.put([b"x" * 10], digest_of(b"x" * 10))
    with pytest.raises(TooLarge, match="at most 10 bytes"):
        blobs.put([b"x" * 6, b"x" * 5], digest_of(b"x" * 11))
    assert not list((Path(blobs.home.path) / "incoming").iterdir())


@pytest.mark.parametrize("name", ["", "abc", "A" * 64, "a" * 63, "a" * 65, "../" + "a" * 61, "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused_or_not_there(blobs: BlobStore, name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        blobs.path(name)
    assert caught.value.code == "bad_digest"
    with pytest.raises(BadRequest):
        blobs.begin(name)
    assert blobs.missing([name]) == [name]


def test_a_name_that_leads_elsewhere_is_not_touched(blobs: BlobStore, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"of somebody else's")
    blobs.make_durable(["../../other", str(other)])
    assert other.stat().st_mode & 0o200


def test_what_others_put_in_place_is_there(blobs: BlobStore) -> None:
    digest = place(blobs, b"theirs", at=START)
    assert blobs.missing([digest]) == []
    assert read(blobs, digest) == b"theirs"
    unseen = place(blobs, b"unseen", at=START)
    blobs.discover()
    assert blobs.count == 2
    assert blobs.size(unseen) == 6


def test_what_is_gone_by_hand_is_missing_once_somebody_wanted_it(blobs: BlobStore) -> None:
    digest = put(blobs, b"data")
    blobs.path(digest).unlink()
    assert blobs.open_blob(digest) is None
    assert blobs.missing([digest]) == [digest]
    assert blobs.total_bytes == 0


def test_only_the_owner_may_look_into_the_directory_and_the_probe_is_new_at_each_start(
    blobs: BlobStore, clock: Clock
) -> None:
    home = Path(blobs.home.path)
    assert home.is_absolute()
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / blobs.home.probe).read_text() == blobs.home.secret
    again = BlobStore(home, clock=clock)
    again.open()
    assert again.home.secret != blobs.home.secret
    again.close()


def test_a_temporary_store_leaves_nothing() -> None:
    store = BlobStore(None, durable=False)
    store.open()
    home = Path(store.home.path)
    digest = put(store, b"data")
    store.make_durable([digest])
    assert store.undurable([digest]) == []
    store.close()
    assert not home.exists()


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = BlobStore(None)
    living.open()
    left, foreign = tmp_path / "rota-blobs-left", tmp_path / "others"
    for path in (left, foreign):
        path.mkdir()
        (path / "file").write_bytes(b"data")
    for path in (left, foreign, Path(living.home.path)):
        os.utime(path, (0, 0))
    new = tmp_path / "rota-blobs-new"  # made just now, and about to be locked
    new.mkdir()
    store = BlobStore(None)
    store.open()
    assert not left.exists()
    assert all(path.exists() for path in (foreign, new, Path(living.home.path)))
    for one in (living, store):
        one.close()


# Durability


def test_a_blob_is_brought_to_the_disk_once(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    digests = [put(blobs, b"%d" % number) for number in range(5)]
    assert blobs.undurable(digests) == digests
    blobs.make_durable(digests)
    blobs.make_durable(digests[:2])
    assert len(synced) == 5
    assert blobs.undurable(digests) == []
    assert all(is_durable(blobs, digest) for digest in digests)


def test_a_new_start_knows_what_is_on_the_disk(blobs: BlobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, other = put(blobs, b"named"), put(blobs, b"unnamed")
    blobs.make_durable([digest])
    again = BlobStore(Path(blobs.home.path), clock=clock)
    again.open()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    again.make_durable([digest])
    assert synced == []
    again.make_durable([other])
    assert len(synced) == 1
    again.close()


def test_a_blob_that_is_not_there_does_not_hold_up_the_others(blobs: BlobStore) -> None:
    digest = put(blobs, b"there")
    blobs.make_durable([digest_of(b"not there"), digest])
    assert is_durable(blobs, digest)
    assert blobs.undurable([digest_of(b"not there")])


@pytest.mark.parametrize("number,error", [(errno.EIO, StoreBroken), (errno.ENOSPC, StoreUnavailable)])
def test_a_blob_that_did_not_reach_the_disk_is_gone(
    blobs: BlobStore, number: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(blobs, b"data")

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(error):
        blobs.make_durable([digest])
    assert blobs.missing([digest]) == [digest], "the kernel may have dropped its bytes, and would not say so again"


@pytest.mark.parametrize("is_synced", [False, True])
def test_after_a_start_of_the_machine_a_damaged_blob_is_not_believed(
    blobs: BlobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, is_synced: bool
) -> None:
    whole, damaged = put(blobs, b"whole"), put(blobs, b"damaged")
    if is_synced:  # then it is not looked at
        blobs.make_durable([damaged])
    os.truncate(blobs.path(damaged), 0)
    monkeypatch.setattr("rota.store.blob_files._boot_id", lambda: "another")
    again = BlobStore(Path(blobs.home.path), clock=clock)
    again.open()
    assert again.has(whole)
    assert again.has(damaged) == is_synced
    again.close()


# Going


def test_what_was_not_used_for_long_goes_and_what_is_pinned_stays(blobs: BlobStore) -> None:
    old, pinned = put(blobs, b"old"), put(blobs, b"pinned")
    wall = START + 8 * DAY_S
    assert sweep(blobs, pinned, wall=wall) == 1
    assert (blobs.has(old), blobs.has(pinned)) == (False, True)
    assert not blobs.path(old).exists()
    assert sweep(blobs, wall=wall) == 0, "it counts as used as long as it was pinned"
    assert blobs.total_bytes == 6


def test_over_its_size_what_was_used_longest_ago_goes_first(blobs: BlobStore, clock: Clock) -> None:
    digests = []
    for number in range(5):
        clock.now = START + number
        digests.append(put(blobs, b"%d" % number * 10))
    clock.now = START + 50
    assert blobs.missing(digests[:1]) == [], "used again"
    wall = START + 100 + YOUNG_S
    assert sweep(blobs, wall=wall, bytes_max=30) == 2
    assert blobs.missing(digests) == digests[1:3]


def test_what_came_or_was_used_just_now_stays_though_there_is_no_room(blobs: BlobStore, clock: Clock) -> None:
    used, new = put(blobs, b"used"), digest_of(b"new")
    wall = START + YOUNG_S + 60.0
    clock.now = START + 120.0
    blobs.missing([used])
    blobs.put([b"new"], new)
    assert sweep(blobs, wall=wall, bytes_max=0) == 0
    assert blobs.missing([used, new]) == []


def test_what_others_have_just_touched_stays(blobs: BlobStore) -> None:
    digest = put(blobs, b"data")
    wall = START + 8 * DAY_S
    os.utime(blobs.path(digest), (wall - 1.0, wall - 1.0))
    assert sweep(blobs, wall=wall) == 0
    assert blobs.has(digest)
    assert blobs.total_bytes == 4


def test_use_outlives_a_restart(blobs: BlobStore, clock: Clock) -> None:
    used, unused = put(blobs, b"used"), put(blobs, b"unused")
    clock.now = START + 5 * DAY_S
    blobs.missing([used])
    blobs.close()
    clock.now = START + 8 * DAY_S
    again = BlobStore(blobs._directory, clock=clock)
    again.open()
    assert sweep(again, wall=clock.now) == 1
    assert again.missing([used, unused]) == [unused]
    again.close()


def test_what_others_left_unfinished_goes_after_a_while(blobs: BlobStore, clock: Clock) -> None:
    incoming = Path(blobs.home.path) / "incoming"
    for name, age_s in (("left", 4_000.0), ("being-written", 60.0)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (START - age_s, START - age_s))
    sweep(blobs, wall=START)
    assert [path.name for path in incoming.iterdir()] == ["being-written"]
    clock.now = START + 4_000.0
    again = BlobStore(Path(blobs.home.path), clock=clock)
    again.open()
    assert not list(incoming.iterdir())
    again.close()


def test_a_step_is_bounded_and_the_next_one_goes_on(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.store.blobs.STEP_BLOBS", 3)
    for number in range(7):
        put(blobs, b"%d" % number)
    wall = START + 8 * DAY_S
    assert [sweep(blobs, wall=wall) for _ in range(4)] == [3, 3, 1, 0]


def test_a_clock_that_was_set_back_removes_nothing(blobs: BlobStore) -> None:
    digest = put(blobs, b"data")
    assert sweep(blobs, wall=START - 365 * DAY_S, bytes_max=0) == 0
    assert blobs.has(digest)


def test_a_clock_that_was_set_back_does_not_stop_the_removal(blobs: BlobStore, clock: Clock) -> None:
    digest = put(blobs, b"from the future")
    blobs.missing([digest])
    clock.now -= 365 * DAY_S

    def sweep() -> int:
        return blobs.sweep(frozenset(), wall=clock.now, bytes_max=0, max_age_s=DAY_S)

    assert sweep() == 0, "it was used just now, for all we know"
    clock.now += YOUNG_S + 1.0
    assert sweep() == 1
    assert not blobs.has(digest)
