"""The log store on real files: order, duplicates, crashes, retention and full disks."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from rota.core.errors import StoreUnavailable, StoreUnusable
from rota.core.model import StreamName, TaskSeq
from rota.core.protocol import OutputChunk
from rota.store import LogStore
from rota.store.log_index import LogIndex, Piece
from rota.store.segments import read_record
from tests.integration.test_store_faults import NEEDS_MOUNT, fill, small_disk

__all__ = ["small_disk"]

OpenLogs = Callable[..., LogStore]


@pytest.fixture
def open_logs(tmp_path: Path) -> Iterator[OpenLogs]:
    """Opens log stores on one directory, and closes them in the end."""
    opened: list[LogStore] = []

    def open_one(
        directory: Path = tmp_path / "logs",
        *,
        bytes_max: int = 1 << 30,
        segment_bytes: int = 1 << 20,
        cluster: str = "ours",
        last_seq: int = 1_000,
    ) -> LogStore:
        logs = LogStore(directory, bytes_max=bytes_max, segment_bytes=segment_bytes)
        logs.open(cluster=cluster, last_seq=TaskSeq(last_seq))
        opened.append(logs)
        return logs

    yield open_one
    for logs in opened:
        logs.close()


def chunk(offset: int, data: bytes, *, task: int = 1, attempt: int = 1, stream: StreamName = "stdout") -> OutputChunk:
    return OutputChunk(TaskSeq(task), attempt, stream, offset, data)


def text(logs: LogStore, stream: StreamName | None = "stdout", *, task: int = 1, attempt: int = 1) -> bytes:
    return b"".join(piece.data for piece in logs.read(TaskSeq(task), attempt, stream).pieces)


def test_stream_reads_in_order_of_offset_whatever_the_order_of_arrival(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(5, b"world"), chunk(0, b"hello"), chunk(0, b"oops", stream="stderr")])
    logs.append([chunk(0, b"another", attempt=2), chunk(0, b"third", task=3)])
    assert text(logs) == b"helloworld"
    assert text(logs, "stderr") == b"oops"
    assert text(logs, attempt=2) == b"another"
    assert text(logs, task=9) == b""


def test_both_streams_read_in_order_of_arrival_with_their_names(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"a"), chunk(0, b"b", stream="stderr")])
    logs.append([chunk(1, b"c"), chunk(1, b"d", stream="stderr")])
    pieces = logs.read(TaskSeq(1), 1, None).pieces
    assert [(piece.stream, piece.data) for piece in pieces] == [
        ("stdout", b"a"),
        ("stderr", b"b"),
        ("stdout", b"c"),
        ("stderr", b"d"),
    ]
    later = logs.read(TaskSeq(1), 1, None, after=pieces[1].arrival).pieces
    assert [piece.data for piece in later] == [b"c", b"d"]


def test_chunk_that_is_sent_again_is_stored_once(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"one"), chunk(0, b"one")])
    size = logs.total_bytes()
    logs.append([chunk(0, b"one")])
    assert logs.total_bytes() == size
    logs.append([chunk(0, b"one"), chunk(3, b"two")])
    assert text(logs) == b"onetwo"


def test_gap_is_visible_in_the_offsets(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"first"), chunk(1_000_000, b"last")])
    pieces = logs.read(TaskSeq(1), 1, "stdout").pieces
    assert [(piece.offset, piece.data) for piece in pieces] == [(0, b"first"), (1_000_000, b"last")]


def test_reading_begins_within_a_piece(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"hello"), chunk(5, b"world")])
    (first, second) = logs.read(TaskSeq(1), 1, "stdout", offset=3).pieces
    assert (first.offset, first.data, second.data) == (3, b"lo", b"world")
    assert logs.read(TaskSeq(1), 1, "stdout", offset=10).pieces == []


def test_bytes_that_two_chunks_share_come_once(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"hello"), chunk(3, b"lo wor"), chunk(4, b"o"), chunk(9, b"ld")])
    assert text(logs) == b"hello world"


@pytest.mark.parametrize("stream", ["stdout", None])
def test_pages_join(open_logs: OpenLogs, stream: StreamName | None) -> None:
    logs = open_logs()
    logs.append([chunk(n * 10, b"%010d" % n) for n in range(2_500)])
    found, after, has_more = b"", 0, True
    while has_more:
        page = logs.read(TaskSeq(1), 1, stream, after=after, bytes_max=7_001)
        assert page.pieces
        found += b"".join(piece.data for piece in page.pieces)
        after, has_more = page.pieces[-1].arrival, page.has_more
    assert found == b"".join(b"%010d" % n for n in range(2_500))


def test_everything_is_there_after_a_restart(open_logs: OpenLogs) -> None:
    logs = open_logs(segment_bytes=2_000)
    for n in range(50):
        logs.append([chunk(n * 100, b"%0100d" % n)])
    before = text(logs)
    logs.close()
    assert text(open_logs(segment_bytes=2_000)) == before


def test_torn_record_is_cut_off_and_its_place_used_again(open_logs: OpenLogs, tmp_path: Path) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"whole")])
    whole_bytes = logs.total_bytes()
    logs.append([chunk(5, b"torn by a power cut")])
    logs.close()
    (segment,) = (tmp_path / "logs").glob("*.log")
    os.truncate(segment, segment.stat().st_size - 4)
    logs = open_logs()
    assert text(logs) == b"whole"
    assert logs.total_bytes() == whole_bytes
    logs.append([chunk(5, b" again")])
    assert text(logs) == b"whole again"


def test_record_with_wrong_bytes_is_a_gap(open_logs: OpenLogs, tmp_path: Path) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"aaaa"), chunk(4, b"bbbb"), chunk(8, b"cccc")])
    (segment,) = (tmp_path / "logs").glob("*.log")
    damaged = segment.read_bytes().replace(b"bbbb", b"bbxb")
    segment.write_bytes(damaged)
    assert [piece.offset for piece in logs.read(TaskSeq(1), 1, "stdout").pieces] == [0, 8]


@pytest.mark.parametrize("harm", ["deleted", "garbage", "behind"])
def test_index_is_made_again_from_the_segments(open_logs: OpenLogs, tmp_path: Path, harm: str) -> None:
    directory = tmp_path / "logs"
    logs = open_logs(segment_bytes=1_000)
    for n in range(30):
        logs.append([chunk(n * 100, b"%0100d" % n)])
    before = text(logs)
    logs.close()
    harm_index(directory / "index.db", harm)
    assert text(open_logs(segment_bytes=1_000)) == before


def harm_index(path: Path, harm: str) -> None:
    match harm:
        case "deleted":
            path.unlink()
        case "garbage":
            path.write_bytes(b"garbage" * 1_000)
        case _:
            index = LogIndex(path)
            index.remove_segment(3)
            index.remove_segment(4)
            index.close()


def test_oldest_output_goes_when_there_is_too_much(open_logs: OpenLogs) -> None:
    logs = open_logs(bytes_max=10_000, segment_bytes=2_000)
    for task in range(1, 31):
        logs.append([chunk(0, bytes(1_000), task=task)])
    assert logs.total_bytes() <= 10_000
    old = logs.read(TaskSeq(1), 1, "stdout")
    assert (old.pieces, old.removed) == ([], True)
    new = logs.read(TaskSeq(30), 1, "stdout")
    assert (len(new.pieces), new.removed) == (1, False)


def test_forgotten_tasks_free_their_segments(open_logs: OpenLogs) -> None:
    logs = open_logs(segment_bytes=2_000)
    for task in range(1, 31):
        logs.append([chunk(0, bytes(1_000), task=task)])
    full_bytes = logs.total_bytes()
    logs.forget([TaskSeq(task) for task in range(1, 29)])
    assert logs.total_bytes() < full_bytes / 4
    assert logs.read(TaskSeq(1), 1, "stdout").pieces == []
    assert len(logs.read(TaskSeq(30), 1, "stdout").pieces) == 1


def test_segment_deleted_by_hand_reads_as_removed(open_logs: OpenLogs, tmp_path: Path) -> None:
    logs = open_logs(segment_bytes=1_000)
    for n in range(20):
        logs.append([chunk(n * 100, bytes(100))])
    logs.close()
    min((tmp_path / "logs").glob("*.log")).unlink()
    page = open_logs(segment_bytes=1_000).read(TaskSeq(1), 1, "stdout")
    assert page.removed
    assert 0 < len(page.pieces) < 20


def test_closed_log_store_says_so(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.close()
    logs.close()
    with pytest.raises(StoreUnavailable):
        logs.append([chunk(0, b"late")])


def test_empty_and_large_chunks(open_logs: OpenLogs) -> None:
    data = random.Random(7).randbytes(1 << 20)
    logs = open_logs()
    logs.append([])
    logs.append([chunk(0, b"", task=2), chunk(0, data)])
    assert text(logs) == data
    assert text(logs, task=2) == b""


@NEEDS_MOUNT
def test_full_disk_stores_nothing_of_an_append_until_there_is_room(open_logs: OpenLogs, small_disk: Path) -> None:
    logs = open_logs(small_disk / "logs")
    logs.append([chunk(0, b"before")])
    size = logs.total_bytes()
    ballast = fill(small_disk)
    with pytest.raises(StoreUnavailable, match="no room"):
        logs.append([chunk(6 + n * 10_000, bytes(10_000)) for n in range(20)])
    assert logs.total_bytes() == size
    assert text(logs) == b"before"
    ballast.unlink()
    logs.append([chunk(6, b" and after")])
    assert text(logs) == b"before and after"
    logs.close()


# Whose output it is -----------------------------------------------------------------------


def test_output_of_another_cluster_is_moved_aside(open_logs: OpenLogs, tmp_path: Path) -> None:
    old = open_logs(cluster="old")
    old.append([chunk(0, b"secret of an old task")])
    old.close()
    new = open_logs(cluster="new")
    assert text(new) == b""
    new.append([chunk(0, b"new")])
    assert text(new) == b"new"
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "logs.old"}


def test_output_comes_back_with_its_cluster(open_logs: OpenLogs, tmp_path: Path) -> None:
    for cluster in ("old", "new", "old", "new"):
        logs = open_logs(cluster=cluster)
        logs.append([chunk(0, cluster.encode())])
        assert text(logs) == cluster.encode()
        logs.close()
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "logs.old"}


def test_move_that_was_cut_short_is_finished(open_logs: OpenLogs, tmp_path: Path) -> None:
    logs = open_logs(cluster="old")
    logs.append([chunk(0, b"kept")])
    logs.close()
    (tmp_path / "logs").rename(tmp_path / "logs.old")
    assert text(open_logs(cluster="old")) == b"kept"


def test_nothing_is_moved_over_what_is_there(open_logs: OpenLogs, tmp_path: Path) -> None:
    open_logs(cluster="old").close()
    (tmp_path / "logs.old").mkdir()
    with pytest.raises(StoreUnusable, match=r"logs\.old is in the way"):
        open_logs(cluster="new")


@pytest.mark.parametrize("is_index_kept", [True, False])
def test_output_of_tasks_that_the_database_lost_is_dropped(
    open_logs: OpenLogs, tmp_path: Path, *, is_index_kept: bool
) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"one"), chunk(0, b"lost", task=2), chunk(3, b"+"), chunk(0, b"lost", task=3)])
    logs.close()
    open_logs(last_seq=1).close()
    if not is_index_kept:
        (tmp_path / "logs" / "index.db").unlink()
    logs = open_logs(last_seq=3)  # their numbers were given again
    assert [text(logs, task=task) for task in (1, 2, 3)] == [b"one+", b"", b""]
    logs.append([chunk(0, b"new", task=2)])
    assert text(logs, task=2) == b"new"
    logs.close()
    logs = open_logs(last_seq=3)
    assert [text(logs, task=task) for task in (1, 2, 3)] == [b"one+", b"new", b""]


def test_segments_of_dropped_output_go(open_logs: OpenLogs, tmp_path: Path) -> None:
    logs = open_logs(segment_bytes=10)
    for offset in range(0, 50, 10):
        logs.append([chunk(offset, b"x" * 10, task=2)])
    logs.close()
    open_logs(last_seq=1)
    assert len(list((tmp_path / "logs").glob("*.log"))) == 1


# Beside readers ---------------------------------------------------------------------------


def test_append_waits_for_no_reader(open_logs: OpenLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"before")])
    is_reading, may_go_on = Event(), Event()

    def read_slowly(fd: int, position: int) -> OutputChunk | None:
        is_reading.set()
        assert may_go_on.wait(10.0)
        return read_record(fd, position)

    monkeypatch.setattr("rota.store.logs.read_record", read_slowly)
    with ThreadPoolExecutor(2) as threads:
        page = threads.submit(logs.read, TaskSeq(1), 1, None)
        assert is_reading.wait(10.0)
        threads.submit(logs.append, [chunk(6, b" and after")]).result(timeout=10.0)
        may_go_on.set()
        assert [piece.data for piece in page.result(timeout=10.0).pieces] == [b"before"]
    assert text(logs) == b"before and after"


def test_appends_beside_many_readers_stay_quick(open_logs: OpenLogs) -> None:
    logs = open_logs()
    logs.append([chunk(offset, b"x" * 1_000) for offset in range(0, 1_000_000, 1_000)])
    is_over = Event()

    def read_on() -> int:
        pages = 0
        while not is_over.is_set():
            pages += len(logs.read(TaskSeq(1), 1, None).pieces) == 1_000
        return pages

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read_on) for _ in range(4)]
        try:
            begun = time.monotonic()
            for offset in range(10):
                logs.append([chunk(offset, b"y", task=2)])
            took_s = time.monotonic() - begun
        finally:
            is_over.set()
        assert all(reader.result() for reader in readers)
    assert took_s < 5.0  # behind whole pages of four readers each append waited for as long as they went on


def test_segment_that_goes_while_it_is_read_reads_as_removed(
    open_logs: OpenLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = open_logs(bytes_max=100, segment_bytes=10)
    logs.append([chunk(0, b"x" * 80)])
    find = LogIndex.find

    def find_then_lose(index: LogIndex, task: TaskSeq, attempt: int, **options: Any) -> list[Piece]:
        found = find(index, task, attempt, **options)
        logs.append([chunk(0, b"y" * 80, task=2)])
        return found

    monkeypatch.setattr(LogIndex, "find", find_then_lose)
    page = logs.read(TaskSeq(1), 1, None)
    assert (page.pieces, page.removed) == ([], True)


@pytest.mark.parametrize("offset", [-1, (1 << 62) + 1, (1 << 64) - 1])
def test_offset_that_no_output_has_is_left_out(open_logs: OpenLogs, offset: int) -> None:
    logs = open_logs()
    logs.append([chunk(0, b"good"), chunk(offset, b"bad")])
    assert text(logs) == b"good"
