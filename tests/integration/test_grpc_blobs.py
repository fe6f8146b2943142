"""Blobs over a real gRPC server: whole or not at all, in bounded memory, with a sentence for what is wrong."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from rota.coordinator.blob_traffic import PORTION_BYTES, BlobPortions
from rota.coordinator.grpc import blobs_service
from rota.coordinator.grpc.calls import REQUEST_BYTES_MAX
from rota.coordinator.grpc.contracts import public_contracts
from rota.coordinator.grpc.server import GrpcServer
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.http.guard import Guard, GuardConfig
from rota.coordinator.metrics import Counters
from rota.process.threads import in_thread
from rota.store import blob_files
from rota.store.blobs import BlobStore
from rota.v1 import blobs_pb2
from tests.support.disks import fill, small_disk
from tests.support.fake_service import FakeService
from tests.support.http2_frames import END_STREAM, OPENING, call_headers, frame, message
from tests.support.waiting import wait_until_async

MIB: Final = 1 << 20

CALL_S_MAX: Final = 30.0
"""On a machine that runs other tests."""

PUT: Final = "/rota.v1.Blobs/PutBlob"

Piece = blobs_pb2.PutBlobRequest


@dataclass
class Stage:
    """A server of blobs, its store, and a client."""

    blobs: BlobStore
    server: GrpcServer
    counters: Counters
    channel: grpc.aio.Channel
    port: int

    async def stat(self, digest: str) -> int:
        make: Any = self.channel.unary_unary(
            "/rota.v1.Blobs/StatBlob", response_deserializer=blobs_pb2.StatBlobResponse.FromString
        )
        answer = await make(blobs_pb2.StatBlobRequest(digest=digest).SerializeToString())
        return int(answer.size)

    def get(self, digest: str) -> Any:
        """Ask for a blob: a call that yields pieces."""
        make: Any = self.channel.unary_stream(
            "/rota.v1.Blobs/GetBlob", response_deserializer=blobs_pb2.GetBlobResponse.FromString
        )
        return make(blobs_pb2.GetBlobRequest(digest=digest).SerializeToString())

    async def content(self, digest: str) -> bytes:
        return b"".join([piece.data async for piece in self.get(digest)])

    async def put(self, pieces: Iterable[Piece]) -> blobs_pb2.PutBlobResponse:
        """Send a blob, by the blocking half of the library: the other one may forget why it was refused."""

        def send() -> blobs_pb2.PutBlobResponse:
            with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
                make: Any = channel.stream_unary(PUT, Piece.SerializeToString, blobs_pb2.PutBlobResponse.FromString)
                answer = make(iter(pieces), timeout=CALL_S_MAX)
                assert isinstance(answer, blobs_pb2.PutBlobResponse)
                return answer

        return await in_thread(send, name="client")  # the server needs the usual threads

    def begin_put(self) -> Any:
        """A call to which pieces are to be written."""
        make: Any = self.channel.stream_unary(PUT, Piece.SerializeToString, blobs_pb2.PutBlobResponse.FromString)
        return make()

    def incoming(self) -> list[str]:
        """What has come in part."""
        return os.listdir(Path(self.blobs.home.path) / "incoming")


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pieces_of(data: bytes, *, digest: str | None = None, size: int | None = None) -> list[Piece]:
    """A blob as a client sends it: the first piece names it, and has some of its bytes."""
    cut = [data[start : start + 100_000] for start in range(0, len(data), 100_000)] or [b""]
    first = Piece(digest=digest_of(data) if digest is None else digest, size=size or 0, data=cut[0])
    return [first, *(Piece(data=part) for part in cut[1:])]


@asynccontextmanager
async def staged(directory: Path, *, token: str | None = None) -> AsyncIterator[Stage]:
    blobs, counters = BlobStore(directory), Counters()
    await asyncio.to_thread(blobs.open)
    server = GrpcServer(
        public_contracts(FakeService(), OpenWatches(), blobs=blobs),
        guard=Guard(GuardConfig(token=token)),
        counters=counters,
    )
    port = server.listen("127.0.0.1", [0])
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Stage(blobs, server, counters, channel, port)
    finally:
        await server.stop(grace_s=0)
        await asyncio.to_thread(blobs.close)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path / "blobs") as ready:
        yield ready


async def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """The status, the code of the error, and what is said of it."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    trailing: Any = caught.value.trailing_metadata() or ()  # pairs, of other types in either half of the library
    return caught.value.code(), dict(trailing).get("rota-code", ""), caught.value.details() or ""


@pytest.mark.parametrize("size", [0, 1, 65_536, PORTION_BYTES, PORTION_BYTES + 1, 5 * MIB + 7])
async def test_what_was_put_is_read_again(stage: Stage, size: int) -> None:
    data = os.urandom(size)
    taken = await stage.put(pieces_of(data, size=size))
    assert (taken.size, taken.is_new) == (size, True)
    again = await stage.put(pieces_of(data))
    assert (again.size, again.is_new) == (size, False)
    assert await stage.stat(digest_of(data)) == size
    got = [piece async for piece in stage.get(digest_of(data))]
    assert b"".join(piece.data for piece in got) == data
    assert {piece.size for piece in got} <= {size}
    assert all(0 < len(piece.data) <= MIB for piece in got)
    assert stage.incoming() == []


async def test_what_is_not_there_is_not_found(stage: Stage) -> None:
    for call in (stage.stat(digest_of(b"nowhere")), stage.content(digest_of(b"nowhere"))):
        status, code, says = await refused(call)
        assert (status, code) == (grpc.StatusCode.NOT_FOUND, "not_found")
        assert f"there is no blob {digest_of(b'nowhere')}" in says


@pytest.mark.parametrize("name", ["", "abc", "A" * 64, "g" * 64, "a" * 65, "../../rota.db", "\N{SNOWMAN}"])
async def test_what_can_be_no_digest_is_refused(stage: Stage, name: str) -> None:
    for call in (stage.stat(name), stage.content(name), stage.put([Piece(digest=name, data=b"x")])):
        status, code, says = await refused(call)
        assert (status, code) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_digest")
        assert "64 hexadecimal digits" in says


@pytest.mark.parametrize("pieces", [[Piece(data=b"wrong")], [], [Piece(data=b"right"), Piece(data=b"right")]])
async def test_other_bytes_are_refused_with_both_digests(stage: Stage, pieces: list[Piece]) -> None:
    status, code, says = await refused(stage.put([Piece(digest=digest_of(b"right")), *pieces]))
    assert (status, code) == (grpc.StatusCode.INVALID_ARGUMENT, "wrong_digest")
    assert digest_of(b"right") in says
    assert digest_of(b"".join(piece.data for piece in pieces)) in says
    assert not stage.blobs.has(digest_of(b"right"))
    assert stage.incoming() == []


@pytest.mark.parametrize("is_announced", [False, True])
async def test_too_many_bytes_are_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch, *, is_announced: bool) -> None:
    monkeypatch.setattr(blob_files, "BLOB_BYTES_MAX", MIB)
    data = bytes(MIB + 1)
    pieces = [Piece(digest=digest_of(data), size=MIB + 1)] if is_announced else pieces_of(data)
    status, code, says = await refused(stage.put(pieces))
    assert (status, code) == (grpc.StatusCode.INVALID_ARGUMENT, "too_large")
    assert "a blob has at most 1,048,576 bytes" in says
    assert stage.incoming() == []
    assert (await stage.put(pieces_of(data[1:]))).is_new


async def test_a_message_over_the_limit_of_messages_is_refused(stage: Stage) -> None:
    data = bytes(REQUEST_BYTES_MAX + 1)
    status, code, says = await refused(stage.put([Piece(digest=digest_of(data), data=data)]))
    assert (status, code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large")
    assert "send several" in says
    assert stage.incoming() == []


async def test_a_call_puts_one_blob(stage: Stage) -> None:
    status, code, says = await refused(stage.put([*pieces_of(b"one"), *pieces_of(b"other")]))
    assert (status, code) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")
    assert digest_of(b"other") in says
    status, code, says = await refused(stage.put([]))
    assert (status, code) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")
    assert "the first one names the blob" in says
    assert stage.incoming() == []


async def test_what_is_there_is_not_read_again(stage: Stage) -> None:
    data = os.urandom(MIB)
    await stage.put(pieces_of(data))
    call = stage.begin_put()  # which is never ended from this side
    await call.write(Piece(digest=digest_of(data)))
    assert not (await call).is_new


async def test_a_client_that_goes_away_has_put_nothing(stage: Stage) -> None:
    data = os.urandom(3 * MIB)
    call = stage.begin_put()
    for piece in pieces_of(data)[:20]:
        await call.write(piece)
    await wait_until_async(stage.incoming, what="the upload to begin")
    call.cancel()
    await assert_nothing_was_put(stage, digest_of(data))


async def test_a_connection_that_is_cut_in_the_middle_of_a_piece_has_put_nothing(stage: Stage) -> None:
    data = os.urandom(3 * MIB)
    whole, cut = (message(piece.SerializeToString()) for piece in (Piece(digest=digest_of(data)), Piece(data=data)))
    sent = whole + cut[:50_000]  # no more than may be sent before the other side asks for more
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(OPENING + call_headers(b"/rota.v1.Blobs/PutBlob"))
    writer.writelines(frame(0, sent[start : start + 16_000]) for start in range(0, len(sent), 16_000))
    await wait_until_async(stage.incoming, what="the upload to begin")
    writer.close()
    await assert_nothing_was_put(stage, digest_of(data))


async def assert_nothing_was_put(stage: Stage, digest: str) -> None:
    await wait_until_async(lambda: not stage.incoming(), what="what came of it to be removed")
    await wait_until_async(lambda: stage.counters.grpc_calls, what="the end of the call")
    assert not stage.blobs.has(digest)
    assert stage.counters.grpc_calls == {("rota.v1.Blobs.PutBlob", "CANCELLED"): 1}


async def test_many_who_put_the_same_at_once_have_put_it_once(stage: Stage) -> None:
    data = os.urandom(MIB)
    answers = await asyncio.gather(*(stage.put(pieces_of(data)) for _ in range(8)))
    assert [answer.is_new for answer in answers].count(True) == 1
    assert (stage.blobs.count, stage.blobs.total_bytes) == (1, MIB)
    assert stage.incoming() == []


async def test_large_blobs_are_not_held_in_memory(stage: Stage) -> None:
    piece, found = os.urandom(MIB), hashlib.sha256()
    for _ in range(64):
        found.update(piece)

    def pieces() -> Iterator[Piece]:
        yield Piece(digest=found.hexdigest())
        for _ in range(64):
            yield Piece(data=piece)

    tracemalloc.start()
    try:
        await stage.put(pieces())
        size = 0
        async for got in stage.get(found.hexdigest()):
            size += len(got.data)
        assert size == 64 * MIB
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


async def test_a_client_that_does_not_read_is_not_read_ahead_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = BlobPortions.__anext__

    async def counted(portions: BlobPortions) -> bytes:
        reads.append(len(portion := await read(portions)))
        return portion

    monkeypatch.setattr(BlobPortions, "__anext__", counted)
    data = bytes(32 * MIB)
    await asyncio.to_thread(stage.blobs.put, [data], digest_of(data))
    call = stage.get(digest_of(data))
    await call.read()
    await wait_until_async(lambda: reads, what="the first portions")
    for _ in range(20):  # small calls that are answered meanwhile
        await stage.stat(digest_of(data))
    assert sum(reads) < 16 * MIB
    call.cancel()
    await wait_until_async(
        lambda: stage.counters.grpc_calls.get(("rota.v1.Blobs.GetBlob", "CANCELLED")), what="the end of the call"
    )


async def test_a_server_that_stops_sends_a_blob_to_its_end(stage: Stage) -> None:
    data = os.urandom(8 * MIB)
    await stage.put(pieces_of(data))
    call = stage.get(digest_of(data))
    got = (await call.read()).data
    stopping = asyncio.create_task(stage.server.stop())
    while (piece := await call.read()) is not grpc.aio.EOF:
        got += piece.data
    await stopping
    assert got == data


async def test_there_are_only_so_many_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_service, "BLOB_CALLS_MAX", 1)
    call = stage.begin_put()
    await call.write(Piece(digest=digest_of(b"slow")))
    await wait_until_async(stage.incoming, what="the upload to begin")
    status, code, _ = await refused(stage.put(pieces_of(b"other")))
    assert (status, code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")
    await call.write(Piece(data=b"slow"))
    await call.done_writing()
    assert (await call).is_new
    assert (await stage.put(pieces_of(b"other"))).is_new


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=4) as disk:
        async with staged(disk / "blobs") as stage:
            await stage.put(pieces_of(b"small"))
            large = os.urandom(8 * MIB)

            status, code, says = await refused(stage.put(pieces_of(large)))
            assert (status, code) == (grpc.StatusCode.UNAVAILABLE, "store_unavailable")
            assert "no room left" in says
            assert stage.incoming() == []
            ballast = fill(disk)
            assert await stage.content(digest_of(b"small")) == b"small", "reads go on"
            ballast.unlink()
            assert (await stage.put(pieces_of(large[:MIB]))).is_new


async def test_without_the_token_nothing_is_given_or_taken(tmp_path: Path) -> None:
    async with staged(tmp_path / "blobs", token="secret") as stage:
        for call in (stage.stat(digest_of(b"x")), stage.content(digest_of(b"x")), stage.put(pieces_of(b"x"))):
            status, code, _ = await refused(call)
            assert (status, code) == (grpc.StatusCode.UNAUTHENTICATED, "unauthorized")
        assert stage.blobs.count == 0


@pytest.mark.parametrize(
    "junk",
    [b"\xff" * 100, message(b"\xff\xff\xff"), message(b"\x0a\x05ab"), message(b"ab", length=2**32 - 1), b"\0\0\0"],
    ids=["no frame", "no message", "half a field", "4 GiB", "half a length"],
)
async def test_garbage_puts_nothing_and_harms_nobody(stage: Stage, junk: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(OPENING + call_headers(b"/rota.v1.Blobs/PutBlob"))
    writer.write(frame(0, message(pieces_of(b"good")[0].SerializeToString()) + junk, flags=END_STREAM))
    await wait_until_async(lambda: stage.counters.grpc_calls, what="the end of the call")
    writer.close()
    assert stage.incoming() == []
    assert (await stage.put(pieces_of(b"next"))).is_new


async def test_calls_leave_nothing_of_ours_for_the_cyclic_collector(stage: Stage) -> None:
    there, one, other = (os.urandom(300_000) for _ in range(3))
    await stage.put(pieces_of(there))

    async def all_ends() -> None:
        await stage.put(pieces_of(there))
        await stage.content(digest_of(there))
        for refused_one in ([], [Piece(digest=digest_of(one), data=b"x")], [*pieces_of(one), *pieces_of(other)]):
            await refused(stage.put(refused_one))
        await refused(stage.content(digest_of(one)))

    await all_ends()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(5):
            await all_ends()
        gc.collect()
        left = {type(found).__name__ for found in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    # What the client in this process and the library leave is theirs.
    assert not left & {"BadRequest", "BlobPortions", "FileIO", "IncomingBlob", "NotFound"}
