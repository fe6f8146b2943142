"""Where files that came back are written: below one folder, whatever they are called, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.client.landing import Landing
from rota.core.errors import Conflict, RotaError
from tests.support.disks import small_disk


def write(folder: Path, name: str, content: bytes = b"new", *, executable: bool = False) -> None:
    with Landing(folder) as landing:
        digest = hashlib.sha256(content).hexdigest()
        landing.write(name, [content[:1], content[1:]], digest=digest, executable=executable)


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_written_with_their_folders_and_modes(tmp_path: Path) -> None:
    folder = tmp_path / "made/on/the/way"
    write(folder, "a.csv")
    write(folder, "out/deep/März é.txt", b"text")
    write(folder, "run.sh", b"#!/bin/sh", executable=True)
    assert all_files(folder) == {"a.csv": b"new", "out/deep/März é.txt": b"text", "run.sh": b"#!/bin/sh"}
    assert [os.access(folder / name, os.X_OK) for name in ("run.sh", "a.csv")] == [True, False]


@pytest.mark.parametrize(
    "name",
    ["../x", "../../x", "/tmp/rota-x", "a/../../x", "..", ".", "", "a//b", "a\\..\\b", "a\0b", "a\nb", "\ud800", "a/"],
)
def test_a_name_that_leads_elsewhere_is_written_nowhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "here"
    with pytest.raises(RotaError, match="it is not written anywhere"):
        write(folder, name)
    with Landing(folder) as landing, pytest.raises(RotaError, match="it is not written anywhere"):
        landing.check_free([name])
    assert all_files(tmp_path) == {}


def test_no_link_on_the_way_is_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "here", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "out").symlink_to(outside)
    with pytest.raises(RotaError, match="a file or a link is in the place of one of its folders"):
        write(folder, "out/a.csv")
    (outside / "secret").write_bytes(b"old")
    (folder / "link").symlink_to(outside / "secret")
    write(folder, "link")  # replaces the link, and not what it leads to
    assert all_files(tmp_path) == {"here/link": b"new", "outside/secret": b"old"}
    assert not (folder / "link").is_symlink()


def test_what_is_in_the_way_is_named_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"mine")
    (tmp_path / "c").symlink_to("nowhere")
    (tmp_path / "d").write_bytes(b"a file where a folder should be")
    for name in ("e", "f"):
        (tmp_path / name).mkdir()
    with Landing(tmp_path) as landing:
        landing.check_free(["a", "new/a"])
        with pytest.raises(Conflict) as caught:
            landing.check_free(["a", "b", "c", "d/x", "e", "f"])
    shown = ", ".join(str(tmp_path / name) for name in ("b", "c", "d/x"))
    assert str(caught.value) == f"{shown} and 2 more would be overwritten: nothing was written"


def test_the_same_content_is_known(tmp_path: Path) -> None:
    write(tmp_path, "a/b", b"same")
    (tmp_path / "link").symlink_to("a/b")
    os.mkfifo(tmp_path / "pipe")
    digest = hashlib.sha256(b"same").hexdigest()
    with Landing(tmp_path) as landing:
        assert [landing.has(name, digest) for name in ("a/b", "link", "a", "no", "no/b", "a/b/c")] == [
            True,
            False,
            False,
            False,
            False,
            False,
        ]
        assert not landing.has("a/b", "0" * 64)
        assert not landing.has("pipe", digest)  # and does not wait for a writer


def test_other_bytes_than_those_of_the_digest_are_not_put_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with Landing(tmp_path) as landing, pytest.raises(RotaError, match="did not come as it was kept"):
        landing.write("a", [b"damaged"], digest=hashlib.sha256(b"right").hexdigest(), executable=False)
    assert all_files(tmp_path) == {"a": b"old"}


def test_what_breaks_off_leaves_the_old_file_alone(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RotaError("the connection broke")

    (tmp_path / "a").write_bytes(b"old")
    with Landing(tmp_path) as landing, pytest.raises(RotaError, match="the connection broke"):
        landing.write("a", broken(), digest="0" * 64, executable=False)
    assert all_files(tmp_path) == {"a": b"old"}


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a" / "full").mkdir(parents=True)
    with pytest.raises(RotaError, match=r"can't write .*/a: Is a directory"):
        write(tmp_path, "a")
    assert all_files(tmp_path) == {}


def test_a_place_that_is_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RotaError, match="can't write into"):
        write(tmp_path / "file", "a")


@pytest.mark.xdist_group("disk")
def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=1) as disk:
        (disk / "a").write_bytes(b"old")
        with pytest.raises(RotaError, match="No space left on device"):
            write(disk, "a", b"x" * (2 << 20))
        assert all_files(disk) == {"a": b"old"}
