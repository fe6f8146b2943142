"""What is read of files that are to travel, and sent: one look at each, whatever becomes of it meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rota.client import files as files_module
from rota.client.files import FileCalls
from rota.core.errors import BadRequest, TooLarge

OK, MISSING = 200, 404


class Answer:
    def __init__(self, status: int) -> None:
        self.status = status


class Transport:
    """Takes blobs, and does something to the machine's files just before one is sent."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.sent = 0
        self.before_sending: Callable[[], object] = lambda: None

    def send(self, method: str, path: str, *, body: bytes | None = None, **_: Any) -> Answer:
        digest = path.rpartition("/")[2]
        if method == "HEAD":
            self.before_sending()
            return Answer(OK if digest in self.blobs else MISSING)
        assert (method, hashlib.sha256(body or b"").hexdigest()) == ("PUT", digest)
        self.blobs[digest] = body or b""
        self.sent += 1
        return Answer(OK)

    def raise_for_status(self, answer: Answer) -> None:
        assert answer.status == OK


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def files(transport: Transport) -> FileCalls:
    return FileCalls(transport)  # type: ignore[arg-type]  # as much of one as is needed


@pytest.mark.parametrize("happens", ["it changes", "it goes", "it grows"])
def test_what_is_sent_is_what_was_read_whatever_happens_meanwhile(
    transport: Transport, files: FileCalls, tmp_path: Path, happens: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"as it was read")
    does: dict[str, Callable[[], object]] = {
        "it changes": lambda: path.write_bytes(b"another"),
        "it goes": path.unlink,
        "it grows": lambda: path.write_bytes(b"as it was read, and more"),
    }
    transport.before_sending = does[happens]
    digest = hashlib.sha256(b"as it was read").hexdigest()
    assert files.ship({"in.csv": path}) == {"in.csv": digest}
    assert transport.blobs == {digest: b"as it was read"}


def test_a_file_that_vanishes_before_it_is_read_is_named(
    transport: Transport, files: FileCalls, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    transport.before_sending = lambda: (tmp_path / "b").unlink(missing_ok=True)
    with pytest.raises(BadRequest, match=f"can't read {tmp_path}/b: No such file or directory"):
        files.ship({"a": tmp_path / "a", "b": tmp_path / "b"})


def test_a_file_that_grows_over_the_limit_after_it_was_measured_is_not_sent(
    transport: Transport, files: FileCalls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "FILES_BYTES_MAX", 10)
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    transport.before_sending = lambda: (tmp_path / "b").write_bytes(b"x" * 100)
    with pytest.raises(TooLarge, match="b has grown to more than 10 bytes while it was read"):
        files.ship({"a": tmp_path / "a", "b": tmp_path / "b"})


def test_equal_files_are_sent_once(transport: Transport, files: FileCalls, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    (tmp_path / "b").chmod(0o755)
    digest = hashlib.sha256(b"same").hexdigest()
    shipped = files.ship({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert shipped == {"a": digest, "b": {"digest": digest, "executable": True}}
    assert transport.sent == 1


def test_of_a_folder_all_files_go_and_links_to_files_are_followed(
    transport: Transport, files: FileCalls, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").write_bytes(b"1")
    (folder / "deep" / "b").write_bytes(b"2")
    (folder / "link").symlink_to("deep/b")
    assert set(files.ship({"d": folder})) == {"d/.hidden", "d/deep/b", "d/link"}
    (folder / "loop").symlink_to(".")
    with pytest.raises(BadRequest, match="loop is a link to a folder: only regular files"):
        files.ship({"d": folder})


def test_a_pipe_is_not_waited_for(files: FileCalls, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadRequest, match="pipe is no regular file"):
        files.ship({"a": tmp_path / "pipe"})
