"""Whatever comes, is used, is pinned and is swept, in any order: what must stay stays, and what may go goes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.store import blobs as blobs_module
from rota.store.blob_files import listed_blobs
from rota.store.blobs import YOUNG_S, BlobStore

START: Final = 1_800_000_000.0
MAX_AGE_S: Final = 10 * YOUNG_S
CONTENTS: Final = [bytes([number]) * (10 * number + 1) for number in range(6)]
DIGESTS: Final = [hashlib.sha256(content).hexdigest() for content in CONTENTS]

of_blobs = st.tuples(st.sampled_from(["put", "place", "use", "sync", "pin", "unpin", "vanish"]), st.integers(0, 5))
of_time = st.one_of(
    st.tuples(st.just("pass"), st.sampled_from([60, int(YOUNG_S), int(MAX_AGE_S)])),
    st.tuples(st.just("sweep"), st.sampled_from([0, 100, 1 << 40])),
    st.tuples(st.just("restart"), st.just(0)),
)
histories = st.lists(st.one_of(of_blobs, of_time, of_time), min_size=5, max_size=25)


class World:
    """A store, and a dumb model of it: when each blob that must be there was used last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = START
        self.pinned: set[str] = set()
        self.used: dict[str, float] = {}
        self.spared: dict[str, float] = {}  # when a sweep met what is pinned, which then counts as used
        self.store = self._opened()

    def do(self, verb: str, number: int) -> None:
        """Take a step, and see that what the store says is so."""
        match verb:
            case "put" | "place" | "use" | "sync" | "vanish":
                getattr(self, verb)(CONTENTS[number], DIGESTS[number])
            case "pin" if DIGESTS[number] in self.used:
                self.pinned.add(DIGESTS[number])
                self.use(CONTENTS[number], DIGESTS[number])  # whoever names a blob has asked for it
            case "unpin":
                self.pinned.discard(DIGESTS[number])
            case "pass":
                self.now += number
            case "sweep":
                self.sweep(number)
            case "restart":
                self.store.close()
                self.store = self._opened()
                self.check()

    def put(self, content: bytes, digest: str) -> None:
        assert self.store.put([content], digest) == (digest not in self.used)
        self._has_used(digest)

    def place(self, content: bytes, digest: str) -> None:
        """Put it as others do, who touch what is there."""
        path = self.store.path(digest)
        if not path.exists():
            path.write_bytes(content)
        self._has_used(digest)

    def use(self, content: bytes, digest: str) -> None:
        is_there = not self.store.missing([digest])
        assert is_there == (digest in self.used)
        if is_there:
            self.used[digest] = self.now

    def sync(self, content: bytes, digest: str) -> None:
        self.store.make_durable([digest])
        assert (self.store.undurable([digest]) == []) == (digest in self.used)
        if digest in self.used:
            self.used[digest] = self.now

    def vanish(self, content: bytes, digest: str) -> None:
        """Remove a file by hand, and let somebody find it gone."""
        self.store.path(digest).unlink(missing_ok=True)
        assert self.store.open_blob(digest) is None
        self.used.pop(digest, None)
        self.pinned.discard(digest)

    def sweep(self, bytes_max: int) -> None:
        """Sweep to the end: bounds hold, but for what must stay."""
        while self.store.sweep(self.pinned, wall=self.now, bytes_max=bytes_max, max_age_s=MAX_AGE_S):
            pass
        left = self._on_disk()
        for digest, used_at in list(self.used.items()):
            if digest in left:
                continue
            assert digest not in self.pinned, "what is needed was removed"
            assert self.now - used_at >= YOUNG_S, "what is about to be named was removed"
            del self.used[digest]
        self.spared |= dict.fromkeys(self.pinned, self.now)
        may_go = [
            digest
            for digest in left - self.pinned
            if self.now - max(self.used[digest], self.spared.get(digest, 0.0)) >= YOUNG_S
        ]
        assert not [digest for digest in may_go if self.now - self.used[digest] > MAX_AGE_S + YOUNG_S]
        assert not may_go or self.store.total_bytes <= bytes_max
        self.check()

    def check(self) -> None:
        """What is on the disk is what must be there, each with its own bytes; what is counted is there."""
        assert self._on_disk() == set(self.used)
        self.store.discover()
        sizes = {digest: len(content) for digest, content in zip(DIGESTS, CONTENTS, strict=True)}
        assert self.store.count == len(self.used)
        assert self.store.total_bytes == sum(sizes[digest] for digest in self.used)

    def _has_used(self, digest: str) -> None:
        os.utime(self.store.path(digest), (self.now, self.now))  # the clock of the disk is the test's
        self.used[digest] = self.now

    def _on_disk(self) -> set[str]:
        folders = {digest[:2] for digest in DIGESTS}
        return {entry.name for folder in folders for entry in listed_blobs(self.directory, folder)}

    def _opened(self) -> BlobStore:
        store = BlobStore(self.directory, durable=False, clock=lambda: self.now)
        store.open()
        return store


@settings(max_examples=60)
@given(histories)
def test_what_must_stay_stays_and_what_may_go_goes(history: Sequence[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        for number in (0, 2, 4):
            world.do("put", number)
        world.do("pin", 2)
        for verb, number in history:
            world.do(verb, number)
        world.check()
        world.store.close()


def test_what_was_said_to_be_there_is_there_whoever_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    young_s = 0.1
    monkeypatch.setattr(blobs_module, "YOUNG_S", young_s)
    store = BlobStore(tmp_path / "blobs", durable=False)
    store.open()
    stop = threading.Event()
    wrong: list[str] = []

    def use(content: bytes, digest: str) -> None:
        for _ in range(200):
            began = time.monotonic()
            if store.missing([digest]):
                store.put([content], digest)
            opened = store.open_blob(digest)
            if opened is not None:
                opened[0].close()
            elif time.monotonic() - began < young_s / 2:
                wrong.append(f"{digest} was removed {time.monotonic() - began:.3f} s after it was used")

    def sweep() -> None:
        while not stop.is_set():
            store.sweep(frozenset(), wall=time.time(), bytes_max=0, max_age_s=0.0)

    sweeper = threading.Thread(target=sweep)
    users = [threading.Thread(target=use, args=pair) for pair in zip(CONTENTS[:4] * 2, DIGESTS[:4] * 2, strict=True)]
    for thread in (sweeper, *users):
        thread.start()
    for thread in users:
        thread.join(30.0)
    stop.set()
    sweeper.join(30.0)
    store.close()
    assert not wrong
