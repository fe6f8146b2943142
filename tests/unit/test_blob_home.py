"""Who may use the coordinator's own directory of blobs: its user on its machine, and nobody else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rota.client import blobs as client_blobs
from rota.core.protocol import BlobHome
from rota.store.blobs import BlobStore
from rota.worker import blobs as worker_blobs

OTHER_USER = 12_345

both_ends = pytest.mark.parametrize("is_ours", [client_blobs._is_ours, worker_blobs._is_ours], ids=["client", "worker"])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[BlobHome]:
    store = BlobStore(tmp_path / "blobs", durable=False)
    store.open()
    yield store.home
    store.close()


@both_ends
def test_the_same_user_on_the_same_machine_may(home: BlobHome, is_ours: Callable[[BlobHome], bool]) -> None:
    assert is_ours(home)


@both_ends
def test_another_machine_may_not(home: BlobHome, tmp_path: Path, is_ours: Callable[[BlobHome], bool]) -> None:
    assert not is_ours(BlobHome(str(tmp_path / "elsewhere"), home.probe, home.secret))
    assert not is_ours(BlobHome(home.path, home.probe, "a" * len(home.secret))), "another one's directory of this name"


@both_ends
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_may_not_use_the_directory_of_another_user(home: BlobHome, is_ours: Callable[[BlobHome], bool]) -> None:
    os.chown(home.path, OTHER_USER, -1)
    assert not is_ours(home), "the coordinator could not read what root puts there"
