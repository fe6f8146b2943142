"""What is taken out of a scratch directory, and what is said of what is not."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from rota.core.model import OUTPUT_FILES_MAX, Cause
from rota.core.protocol import Ended
from rota.worker.slots import harvest
from tests.support.disks import small_disk

SECRET: Final = b"what is outside"
NOBODY: Final = 65534


class Field:
    """A scratch directory, and where blobs of it go."""

    def __init__(self, folder: Path) -> None:
        self.blob_dir = folder / "blobs"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        (folder / "outside").mkdir()
        self.secret = folder / "outside" / "secret"
        self.secret.write_bytes(SECRET)

    def write(self, name: str, content: bytes | str = b"x") -> Path:
        path = self.scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def harvest(
        self, *patterns: str, cause: str | None = None, message: str | None = None, came: dict[str, bytes] | None = None
    ) -> Ended:
        inputs = [(name, digest_of(content), "", False) for name, content in (came or {}).items()]
        freight = (inputs, list(patterns), str(self.blob_dir))
        ended = (1, 1, cause, None, None, 1.0, 2.0, 1.0, None, None, 0, 0, b"", b"", message)
        return msgspec.convert(harvest.harvested(ended, str(self.scratch), freight, own=[]), Ended)

    def taken(self, ended: Ended) -> dict[str, bytes]:
        """What was taken, read from where it was stored."""
        found = {}
        for output in ended.outputs:
            content = (self.blob_dir / output.digest[:2] / output.digest).read_bytes()
            assert (digest_of(content), len(content)) == (output.digest, output.bytes)
            found[output.name] = content
        assert not list((self.blob_dir / "incoming").iterdir()) if self.blob_dir.exists() else True
        return found


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


@pytest.mark.parametrize(
    "patterns,names",
    [
        (["a.csv"], ["a.csv"]),
        (["*.csv"], ["a.csv"]),
        (["out"], ["out/.hidden", "out/b.csv", "out/deep/c.csv"]),
        (["out/*"], ["out/b.csv"]),
        (["out/**"], ["out/b.csv", "out/deep/c.csv"]),
        (["**/*.csv"], ["a.csv", "out/b.csv", "out/deep/c.csv"]),
        (["*/deep"], ["out/deep/c.csv"]),
        (["*"], ["a.csv", "März é"]),
        (["M*"], ["März é"]),
        (["?.csv", "*.csv", "out/.hidden"], ["a.csv", "out/.hidden"]),
    ],
)
def test_files_that_match_are_taken_with_their_names(field: Field, patterns: list[str], names: list[str]) -> None:
    for name in ("a.csv", "out/b.csv", "out/deep/c.csv", "out/.hidden", "März é", ".rc"):
        field.write(name, f"this is {name}")
    ended = field.harvest(*patterns)
    assert (ended.cause, ended.message) == (None, None)
    assert field.taken(ended) == {name: f"this is {name}".encode() for name in names}


def test_an_executable_stays_one_and_what_is_equal_is_stored_once(field: Field) -> None:
    field.write("run.sh", "same").chmod(0o755)
    field.write("copy", "same")
    ended = field.harvest("*")
    assert [(output.name, output.executable) for output in ended.outputs] == [("copy", False), ("run.sh", True)]
    assert len({output.digest for output in ended.outputs}) == 1
    assert field.taken(field.harvest("*")) == field.taken(ended)  # again, where the blob is there


def test_what_came_with_the_task_is_taken_where_it_is_named_or_changed(field: Field) -> None:
    field.write("in.csv", "as it came")
    field.write("changed.csv", "changed")
    came = {"in.csv": b"as it came", "changed.csv": b"before"}
    assert set(field.taken(field.harvest("*.csv", came=came))) == {"changed.csv"}
    assert set(field.taken(field.harvest("in.csv", came=came))) == {"in.csv"}
    ended = field.harvest("in.*", came=came)
    assert (ended.outputs, ended.message) == ((), "no new file matched 'in.*'")


def test_a_pattern_that_matched_nothing_is_said_and_no_failure(field: Field) -> None:
    field.write("a.csv")
    (field.scratch / "empty").mkdir()
    ended = field.harvest("a.csv", "b.csv", "empty", "*.png", "x", "y")
    assert ended.cause is None
    assert ended.message == "no file matched 'b.csv', 'empty', '*.png' and 2 more"
    assert set(field.taken(ended)) == {"a.csv"}


@pytest.mark.parametrize("cause", ["exit", "signal", "timeout", "oom"])
def test_what_a_failed_attempt_left_is_taken_too(field: Field, cause: str) -> None:
    field.write("partial.csv")
    ended = field.harvest("*.csv", "*.png", cause=cause, message="as it was")
    assert (ended.cause, ended.message) == (cause, "as it was; no file matched '*.png'")
    assert set(field.taken(ended)) == {"partial.csv"}


@pytest.mark.parametrize("cause", ["cancelled", "preempted", "agent-error", "worker-lost"])
def test_of_an_attempt_that_was_stopped_nothing_is_taken(field: Field, cause: str) -> None:
    field.write("a.csv")
    ended = field.harvest("a.csv", cause=cause)
    assert (ended.cause, ended.message, ended.outputs) == (cause, None, ())


def test_links_are_not_followed_wherever_they_stand(field: Field) -> None:
    field.write("real/a.csv", "mine")
    (field.scratch / "link.csv").symlink_to(field.secret)
    (field.scratch / "folder").symlink_to(field.secret.parent)
    (field.scratch / "inner.csv").symlink_to("real/a.csv")
    (field.scratch / "real" / "up").symlink_to("../..")
    ended = field.harvest("link.csv", "folder", "folder/secret", "**/*.csv", "real")
    assert field.taken(ended) == {"real/a.csv": b"mine"}
    assert ended.cause is None
    assert ended.message is not None
    for said in ("no file matched 'folder/secret'", "'link.csv', which is a link", "and 1 more"):
        assert said in ended.message
    assert SECRET not in [path.read_bytes() for path in field.blob_dir.rglob("*") if path.is_file()]


def test_a_scratch_directory_that_became_a_link_gives_nothing(field: Field) -> None:
    field.scratch.rmdir()
    field.scratch.symlink_to(field.secret.parent)
    ended = field.harvest("secret")
    assert (ended.cause, ended.outputs) == (Cause.ERROR, ())
    assert "the scratch directory is not there any more" in (ended.message or "")


def test_a_link_on_the_way_to_a_file_is_noticed_when_it_is_opened(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the task runs any more, but if something did, it would gain nothing."""
    field.write("folder/secret", "mine")
    take = harvest._Harvest._take

    def swapped(self: harvest._Harvest, root: int, name: str, bytes_max: int) -> harvest.Output:
        (field.scratch / "folder").rename(field.scratch / "was")
        (field.scratch / "folder").symlink_to(field.secret.parent)
        return take(self, root, name, bytes_max)

    monkeypatch.setattr(harvest._Harvest, "_take", swapped)
    ended = field.harvest("folder/secret")
    assert (ended.cause, ended.outputs) == (Cause.ERROR, ())
    assert "'folder/secret' can't be read" in (ended.message or "")


def test_what_is_no_regular_file_is_not_opened(field: Field) -> None:
    os.mkfifo(field.scratch / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(field.scratch / "s"))
        ended = field.harvest("pipe", "s")
    assert (ended.cause, ended.outputs) == (None, ())
    assert ended.message == "not brought back: 'pipe', which is a named pipe, 's', which is a socket"


@pytest.mark.parametrize("name", ["a\nb.csv", "a\\b.csv", "\x1b[2Jb.csv", b"\xff\xfeb.csv"])
def test_a_name_that_nobody_else_takes_is_said(field: Field, name: str | bytes) -> None:
    path = os.path.join(os.fsencode(field.scratch), os.fsencode(name))
    with open(path, "wb"):
        pass
    field.write("b.csv")
    ended = field.harvest("*.csv")
    assert set(field.taken(ended)) == {"b.csv"}
    assert ended.message is not None
    assert ended.message.isprintable()
    assert "not brought back: " in ended.message


def test_too_many_files_fail_the_attempt_with_what_to_do(field: Field) -> None:
    assert harvest.FILES_MAX == OUTPUT_FILES_MAX
    for number in range(harvest.FILES_MAX):
        field.write(f"{number}.csv")
    assert len(field.harvest("*").outputs) == harvest.FILES_MAX
    field.write("one-more.csv")
    ended = field.harvest("*")
    assert (ended.cause, ended.outputs) == (Cause.ERROR, ())
    assert ended.message == ("its outputs could not be kept: there are more than 256: pack them into one archive")
    failed = field.harvest("*", cause="exit")
    assert (failed.cause, failed.message) == (Cause.EXIT, ended.message)


def test_too_many_bytes_fail_the_attempt_before_they_are_read(field: Field) -> None:
    with field.write("a-small").open("wb") as file:
        file.write(b"x")
    with (field.scratch / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    ended = field.harvest("*")
    assert (ended.cause, ended.outputs) == (Cause.ERROR, ())
    assert "more than 1,073,741,824 bytes together" in (ended.message or "")
    assert "an object store such as S3" in (ended.message or "")


def test_the_limit_is_for_all_files_together(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "BYTES_MAX", 10)
    field.write("a", b"12345")
    field.write("b", b"12345")
    assert len(field.harvest("*").outputs) == 2
    field.write("c", b"1")
    assert field.harvest("*").cause is Cause.ERROR


def test_only_folders_that_a_pattern_leads_to_are_looked_at(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "ENTRIES_MAX", 10)
    for number in range(20):
        field.write(f"cache/{number}")
    field.write("out/a.csv")
    assert set(field.taken(field.harvest("out/*.csv"))) == {"out/a.csv"}
    ended = field.harvest("**/*.csv")
    assert (ended.cause, "name a folder" in (ended.message or "")) == (Cause.ERROR, True)


def test_patterns_that_take_too_long_fail_the_attempt(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "LOOK_S_MAX", -1.0)
    field.write("a/b")
    ended = field.harvest("**", "*/b")
    assert ended.cause is Cause.ERROR
    assert "to look through 1 files for 2 patterns takes more than" in (ended.message or "")


def test_a_file_too_deep_is_said(field: Field) -> None:
    field.write("d/" * harvest.DEPTH_MAX + "reached")
    field.write("e/" * (harvest.DEPTH_MAX + 1) + "lost")
    ended = field.harvest("**")
    assert set(field.taken(ended)) == {"d/" * harvest.DEPTH_MAX + "reached"}
    assert "folders deep" in (ended.message or "")


@pytest.mark.parametrize("shut", ["shut", "folder"])
def test_what_can_t_be_read_fails_the_attempt(field: Field, tmp_path: Path, shut: str) -> None:
    """As an ordinary user: root reads everything."""
    field.write("shut")
    field.write("folder/inner")
    (field.scratch / shut).chmod(0)
    program = (
        "import json, os, sys\n"
        "from rota.worker.slots.harvest import harvested\n"
        f"os.chdir({str(tmp_path)!r})\n"
        f"if os.geteuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"freight = ([], [{shut!r}], 'blobs')\n"
        "ended = (1, 1, None, 0, None, 1.0, 2.0, 1.0, None, None, 0, 0, b'', b'', None)\n"
        "found = harvested(ended, 'scratch', freight, own=[])\n"
        "print(json.dumps([found[2], found[14], found[17]]))\n"
    )
    if os.geteuid() == 0:
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    (field.scratch / shut).chmod(0o700)
    message = f"its outputs could not be kept: {shut!r} can't be read: Permission denied"
    assert (done.stderr, json.loads(done.stdout)) == ("", ["error", message, []])


@pytest.mark.xdist_group("disk")
def test_a_full_disk_is_the_machine_s_fault_and_leaves_nothing(field: Field, tmp_path: Path) -> None:
    field.write("a.csv", b"x" * (4 << 20))
    with small_disk(tmp_path / "disk", size_mib=2) as disk:
        field.blob_dir = disk / "blobs"
        ended = field.harvest("a.csv")
        assert (ended.cause, ended.outputs) == (Cause.AGENT_ERROR, ())
        assert "they can't be written on this worker: No space left on device" in (ended.message or "")
        assert not list((field.blob_dir / "incoming").iterdir())
