"""How a worker's blobs over gRPC fail: which troubles pass, which are final, and in what words."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from rota.wire.grpc.blobs import BlobClient
from rota.worker.grpc_transfer import GrpcTransfer
from rota.worker.transfer import TransferFailed, TransferRefused
from tests.support.blob_server import running_blob_server
from tests.support.grpc_blob_server import GrpcBlobServer, running_grpc_blob_server
from tests.support.network import free_port
from tests.support.proxy import running_proxy
from tests.support.waiting import wait_until_async

MIB: Final = 1 << 20
DIGEST: Final = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def server() -> Iterator[GrpcBlobServer]:
    with running_grpc_blob_server() as running:
        yield running


@asynccontextmanager
async def transfer_to(url: str, *, silence_s: float = 20.0, ca_file: Path | None = None) -> AsyncIterator[GrpcTransfer]:
    transfer = GrpcTransfer(BlobClient(url, token=None, ca_file=ca_file, silence_s=silence_s))
    yield transfer
    await transfer.close()


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    return path


@asynccontextmanager
async def serving(**behaviours: Any) -> AsyncIterator[str]:
    """A server that has these RPCs and no others; yields its address."""
    server = grpc.aio.server()
    handlers: Any = {name: grpc.stream_stream_rpc_method_handler(behave) for name, behave in behaviours.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rota.v1.Blobs", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_an_older_coordinator_is_named_as_such_and_not_tried_again(blob: Path, tmp_path: Path) -> None:
    async with serving() as url, transfer_to(url) as transfer:
        for call in (transfer.download(DIGEST, tmp_path / "new"), transfer.upload(DIGEST, blob)):
            with pytest.raises(TransferRefused, match=r"has no rota\.v1\.Blobs.*update the coordinator") as refused:
                await call
            assert not refused.value.is_gone


async def test_an_address_where_nobody_listens_is_tried_again_and_soon_found_when_somebody_does(blob: Path) -> None:
    port = free_port()
    async with transfer_to(f"grpc://127.0.0.1:{port}") as transfer:
        for _ in range(3):
            with pytest.raises(TransferFailed, match=f"nobody listens at grpc://127.0.0.1:{port}"):
                await transfer.upload(DIGEST, blob)
        with running_grpc_blob_server(port) as server:
            await wait_until_async(lambda: uploaded(transfer, blob), what="the blob to get there", timeout_s=60.0)
            assert server.blobs == {DIGEST: b"content"}


async def uploaded(transfer: GrpcTransfer, blob: Path) -> bool:
    try:
        await transfer.upload(DIGEST, blob)
    except TransferFailed:
        return False
    return True


async def test_what_speaks_no_grpc_and_who_is_not_trusted_are_final(blob: Path) -> None:
    with running_blob_server() as http:
        async with transfer_to(http.url.replace("http", "grpc")) as transfer:
            with pytest.raises(TransferRefused, match="does not speak gRPC"):
                await transfer.upload(DIGEST, blob)
    async with transfer_to("grpcs://127.0.0.1:9", ca_file=blob) as transfer:
        with pytest.raises(TransferRefused, match="can't use the certificates"):
            await transfer.upload(DIGEST, blob)


async def test_a_coordinator_that_stands_still_is_given_up_for_the_moment(
    server: GrpcBlobServer, blob: Path, tmp_path: Path
) -> None:
    server.gate.clear()
    async with transfer_to(server.url, silence_s=0.1) as transfer:
        for call in (transfer.download(DIGEST, tmp_path / "new"), transfer.upload(DIGEST, blob)):
            with pytest.raises(TransferFailed, match=r"stands still for 0\.1 s"):
                await call


async def test_a_line_that_is_cut_or_frozen_in_the_middle_fails_for_the_moment(
    server: GrpcBlobServer, blob: Path, tmp_path: Path
) -> None:
    digest = server.add(os.urandom(16 * MIB))
    with running_proxy(server.port) as proxy:
        url = f"grpc://127.0.0.1:{proxy.port}"
        for breaking in (proxy.cut, proxy.freeze):
            async with transfer_to(url, silence_s=0.5) as transfer:
                path = tmp_path / breaking.__name__
                getting = asyncio.create_task(transfer.download(digest, path))
                await wait_until_async(partial(has_bytes, path), what="some bytes")
                breaking()
                with pytest.raises(TransferFailed):
                    await getting
        proxy.heal()
        async with transfer_to(url) as transfer:
            assert await transfer.download(digest, tmp_path / "whole") == 16 * MIB


def has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


async def test_what_is_no_piece_of_a_blob_is_asked_for_again(tmp_path: Path) -> None:
    async def garbage(_: object, context: Any) -> None:
        await context.write(b"\xff\xff\xff")

    async with serving(GetBlob=garbage) as url, transfer_to(url) as transfer:
        with pytest.raises(TransferFailed, match="3 bytes came that are no GetBlobResponse"):
            await transfer.download(DIGEST, tmp_path / "new")


async def test_an_early_answer_ends_an_upload_whatever_is_left_of_it(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(8 * MIB))

    async def absent(_: object, context: Any) -> None:
        context.set_code(grpc.StatusCode.NOT_FOUND)

    async def enough(requests: AsyncIterator[bytes], context: Any) -> None:
        async for _ in requests:
            await context.write(b"")
            return

    async with serving(StatBlob=absent, PutBlob=enough) as url, transfer_to(url) as transfer:
        for _ in range(20):
            await transfer.upload(DIGEST, large)


async def test_a_transfer_that_is_not_waited_for_any_more_is_broken_off(server: GrpcBlobServer, blob: Path) -> None:
    server.gate.clear()
    async with transfer_to(server.url) as transfer:
        going = asyncio.create_task(transfer.upload(DIGEST, blob))
        await wait_until_async(lambda: server.asked, what="the upload to begin")
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        server.gate.set()
        await transfer.upload(DIGEST, blob)
    assert server.blobs == {DIGEST: b"content"}


async def test_what_is_under_way_when_the_line_is_closed_can_be_tried_over_another(
    server: GrpcBlobServer, blob: Path, tmp_path: Path
) -> None:
    server.gate.clear()
    digest = server.add(b"other")
    async with transfer_to(server.url) as transfer:
        going = [
            asyncio.create_task(transfer.upload(DIGEST, blob)),
            asyncio.create_task(transfer.download(digest, tmp_path / "new")),
        ]
        await wait_until_async(lambda: len(server.asked) == 2, what="both to begin")
        await transfer.close()
        for task in going:
            with pytest.raises(TransferFailed, match="closed from this side"):
                await task
        with pytest.raises(TransferFailed, match="closed from this side"):
            await transfer.upload(DIGEST, blob)
