"""What a broken, full or foreign state directory does: a clear error, never a hang, never half a commit."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import pytest

from rota.core.changes import Changes
from rota.core.errors import StoreUnavailable, StoreUnusable
from rota.core.model import TaskState
from rota.store import SqliteStore, TaskQuery
from rota.store.conformance import leading, make_facts
from rota.store.sqlite import DATABASE_NAME
from tests.support.processes import RunningProcess

NOBODY = 65534
NEEDS_MOUNT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")

LOCKER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
import time
time.sleep(60)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "rota-test", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this machine does not let us mount: {mounted.stderr.decode()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Leave no byte free."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return ballast


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def make_state(state_dir: Path, *, tasks: int = 2_000) -> None:
    async with leading(lambda: SqliteStore(state_dir)) as leader:
        await leader.accept(*(make_facts(seq, spec=b"s" * 200) for seq in range(1, tasks + 1)))


async def campaign_error(state_dir: Path) -> str:
    with pytest.raises(StoreUnusable) as caught:
        async with leading(lambda: SqliteStore(state_dir)) as leader:
            await leader.unfinished()
    return str(caught.value)


@NEEDS_MOUNT
async def test_full_disk_refuses_commits_until_there_is_room(small_disk: Path) -> None:
    async with leading(lambda: SqliteStore(small_disk / "state")) as leader:
        await leader.accept(make_facts(1))
        ballast = fill(small_disk)
        for seq in range(2, 5):
            with pytest.raises(StoreUnavailable, match="no room"):
                await leader.accept(make_facts(seq, spec=b"x" * 100_000))
        assert await leader.seqs(TaskQuery()) == [1]
        ballast.unlink()
        await leader.accept(make_facts(2, spec=b"x" * 100_000))
        assert await leader.seqs(TaskQuery()) == [2, 1]
    async with leading(lambda: SqliteStore(small_disk / "state")) as leader:
        assert [record.facts.seq for record in await leader.unfinished()] == [1, 2]


@NEEDS_MOUNT
async def test_disk_that_fills_up_while_tasks_come_loses_none_that_was_taken(small_disk: Path) -> None:
    taken = 0
    async with leading(lambda: SqliteStore(small_disk / "state")) as leader:
        with suppress(StoreUnavailable):
            while taken < 1_000:
                await leader.accept(make_facts(taken + 1, spec=bytes(20_000)))
                taken += 1
        assert 10 < taken < 1_000
        assert (await leader.store.count_by_state())[TaskState.PENDING] == taken
    async with leading(lambda: SqliteStore(small_disk / "state")) as leader:
        assert [record.facts.seq for record in await leader.unfinished()] == list(range(1, taken + 1))


@NEEDS_MOUNT
async def test_start_on_a_full_disk_says_so(small_disk: Path) -> None:
    fill(small_disk)
    store = SqliteStore(small_disk / "state")
    with pytest.raises(StoreUnavailable, match="no room"):
        await store.campaign("late")
    await store.close()


@NEEDS_MOUNT
async def test_read_only_disk_says_so(small_disk: Path) -> None:
    await make_state(small_disk / "state", tasks=10)
    make_read_only(small_disk)
    assert "can't be written to" in await campaign_error(small_disk / "state")


def test_read_only_directory_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:  # the test's own folder is below one that only root may enter
        folder = Path(name)
        folder.chmod(0o555)
        try:
            with not_as_root():
                assert "can't be written to" in asyncio.run(campaign_error(folder / "state"))
        finally:
            folder.chmod(0o700)


@contextmanager
def not_as_root() -> Iterator[None]:
    """Be somebody whom file modes bind."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


async def test_garbage_instead_of_a_database_says_so(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"\x7fELF" + bytes(range(256)) * 64)
    assert "is damaged" in await campaign_error(tmp_path)


async def test_damaged_header_says_so(tmp_path: Path) -> None:
    await make_state(tmp_path)
    with (tmp_path / DATABASE_NAME).open("r+b") as file:
        file.write(b"\xff" * 100)
    assert "is damaged" in await campaign_error(tmp_path)


async def test_damaged_page_is_told_when_it_is_met(tmp_path: Path) -> None:
    await make_state(tmp_path)
    connection = apsw.Connection(str(tmp_path / DATABASE_NAME))
    middle = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = 'task' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 20"
    ).get
    connection.close()
    with (tmp_path / DATABASE_NAME).open("r+b") as file:
        file.seek((middle - 1) * 4096)
        file.write(b"\xff" * 64)
    assert "is damaged" in await campaign_error(tmp_path)


async def test_file_cut_short_says_so(tmp_path: Path) -> None:
    await make_state(tmp_path)
    with (tmp_path / DATABASE_NAME).open("r+b") as file:
        file.truncate(5 * 4096)
    assert "is damaged" in await campaign_error(tmp_path)


async def test_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    await make_state(tmp_path, tasks=1)
    connection = apsw.Connection(str(tmp_path / DATABASE_NAME))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer version of Rota (schema 99" in await campaign_error(tmp_path)


async def test_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / DATABASE_NAME))
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    assert "another program" in await campaign_error(tmp_path)


async def test_directory_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert "can't be used" in await campaign_error(tmp_path / "state")


async def test_failed_start_can_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"garbage" * 1_000)
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreUnusable):
        await store.campaign("first")
    (tmp_path / DATABASE_NAME).unlink()
    assert (await store.campaign("second")).epoch == 1
    await store.close()


async def test_lock_of_a_foreign_program_is_not_waited_for_without_end(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    async with leading(lambda: SqliteStore(state_dir)) as leader:
        await leader.accept(make_facts(1))
        locker = [sys.executable, "-c", LOCKER, str(state_dir / DATABASE_NAME)]
        with RunningProcess(locker, log_path=tmp_path / "log") as process:
            await asyncio.to_thread(process.wait_for_line, "locked")
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="locked by another program"):
                await leader.accept(make_facts(2))
            assert time.monotonic() - began < 5.0
            assert await leader.seqs(TaskQuery()) == [1], "reads go on"
        await leader.accept(make_facts(2))


async def test_state_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    await make_state(tmp_path / "deep" / "state", tasks=1)
    assert (tmp_path / "deep" / "state").stat().st_mode & 0o777 == 0o700


def modes_in(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


async def test_database_is_for_its_owner_alone_in_a_directory_that_was_there(tmp_path: Path) -> None:
    await asyncio.to_thread(tmp_path.chmod, 0o755)
    async with leading(lambda: SqliteStore(tmp_path)):
        modes = modes_in(tmp_path)
    assert {DATABASE_NAME, f"{DATABASE_NAME}-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes


async def test_clean_close_leaves_one_file(tmp_path: Path) -> None:
    await make_state(tmp_path)
    assert names_in(tmp_path) == [DATABASE_NAME, "rota.lock"]
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / DATABASE_NAME, copy)
    async with leading(lambda: SqliteStore(copy)) as leader:
        assert len(await leader.unfinished()) == 2_000


async def test_commit_that_nobody_waits_for_any_more_is_still_whole(tmp_path: Path) -> None:
    async with leading(lambda: SqliteStore(tmp_path)) as leader:
        commit = asyncio.ensure_future(leader.store.commit(Changes(accepted=[make_facts(1)]), leader.next_fence()))
        await asyncio.sleep(0)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        assert (await leader.store.campaign("again")).number in (0, 1)
