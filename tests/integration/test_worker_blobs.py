"""Blobs between a worker and a coordinator: fetched once, checked, tried again, handed over; over either transport."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import rmtree
from typing import Final

import pytest

from rota.core.model import Cause
from rota.core.protocol import BlobHome
from rota.wire.channel import Transport
from rota.wire.grpc.blobs import BlobClient
from rota.worker import blobs as blobs_module
from rota.worker.blobs import BlobShelf
from rota.worker.cache import CacheDir
from rota.worker.grpc_transfer import GrpcTransfer
from rota.worker.http_transfer import HttpTransfer
from rota.worker.slots.base import SuppliesFailed
from rota.worker.transfer import BlobTransfer
from tests.support.blob_server import BlobKeep, digest_of, running_blob_server
from tests.support.grpc_blob_server import running_grpc_blob_server
from tests.support.network import free_port
from tests.support.real_cluster import Cluster, over_both
from tests.support.waiting import wait_until_async

SERVERS: Final[dict[str, Callable[[], AbstractContextManager[BlobKeep]]]] = {
    "websocket": running_blob_server,
    "grpc": running_grpc_blob_server,
}
"""By the transport of the workers that would use them."""


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[BlobKeep]:
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "reconnect_delay_s", lambda attempt, rng: 0.02)
    monkeypatch.setattr(blobs_module, "YOUNG_S", 0.0)


MakeShelf = Callable[..., BlobShelf]


@pytest.fixture
async def make_shelf() -> AsyncIterator[MakeShelf]:
    made: list[BlobShelf] = []

    def make(url: str, cache: CacheDir, *, bytes_max: int = 1 << 30, token: str | None = None) -> BlobShelf:
        transfer: BlobTransfer = HttpTransfer(url, token=token, ca_file=None)
        if url.startswith("grpc"):
            transfer = GrpcTransfer(BlobClient(url, token=token, ca_file=None))
        made.append(BlobShelf(cache=cache, bytes_max=bytes_max, transfer=transfer))
        return made[-1]

    yield make
    for shelf in made:
        await shelf.close()


@pytest.fixture
def shelf(server: BlobKeep, make_shelf: MakeShelf, tmp_path: Path) -> Iterator[BlobShelf]:
    cache = CacheDir(tmp_path / "cache")
    yield make_shelf(server.url, cache)
    cache.close()


def leave_in(folder: str | Path, content: bytes) -> str:
    """Do as a slot does with a large result."""
    digest = digest_of(content)
    path = Path(folder) / digest[:2] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def found(shelf: BlobShelf, digest: str) -> Path:
    path = shelf.find(digest)
    assert path is not None
    return Path(path)


def make_home(path: Path, *, secret: str = "s3cret") -> BlobHome:
    path.mkdir()
    (path / "probe").write_text(secret)
    return BlobHome(str(path), "probe", "s3cret")


# Down


async def test_a_blob_is_fetched_once_and_stays(shelf: BlobShelf, server: BlobKeep, tmp_path: Path) -> None:
    digest = server.add(b"function")
    assert shelf.find(digest) is None
    await shelf.fetch(digest)
    path = found(shelf, digest)
    assert path.read_bytes() == b"function"
    assert path.is_relative_to(tmp_path / "cache")
    await shelf.fetch(digest)
    assert server.asked["GET"] == 1


async def test_what_is_not_what_was_asked_for_is_fetched_again(shelf: BlobShelf, server: BlobKeep) -> None:
    digest = server.add(b"function")
    server.spoils_next = True
    shelf.protect(lambda: {digest})
    await shelf.fetch(digest)
    assert found(shelf, digest).read_bytes() == b"function"
    assert server.asked["GET"] == 2


async def test_a_blob_that_the_coordinator_has_not_can_not_be_had(shelf: BlobShelf) -> None:
    with pytest.raises(SuppliesFailed, match="no longer has blob 00000") as failed:
        await shelf.fetch("0" * 64)
    assert failed.value.cause is Cause.LAUNCH_ERROR


async def test_the_token_goes_along_and_a_refusal_is_final(
    server: BlobKeep, make_shelf: MakeShelf, tmp_path: Path
) -> None:
    digest = server.add(b"x")
    server.token = "right"
    cache = CacheDir(tmp_path)
    wrong, right = (
        make_shelf(server.url, cache, token="wrong"),
        make_shelf(server.url, CacheDir(tmp_path), token="right"),
    )
    with pytest.raises(SuppliesFailed, match=r"(401|UNAUTHENTICATED): who are you"):
        await wrong.fetch(digest)
    await right.fetch(digest)


async def test_while_the_coordinator_is_away_a_wanted_blob_is_tried_for(shelf: BlobShelf, server: BlobKeep) -> None:
    digest = server.add(b"x")
    server.status = 503
    shelf.protect(lambda: {digest})
    fetching = asyncio.create_task(shelf.fetch(digest))
    await wait_until_async(lambda: server.asked["GET"] >= 3, what="three tries")
    server.status = None
    await asyncio.wait_for(fetching, 10)
    assert shelf.find(digest)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_blob_that_nobody_wants_any_more_is_not_tried_for(
    make_shelf: MakeShelf, tmp_path: Path, scheme: str
) -> None:
    shelf = make_shelf(f"{scheme}://127.0.0.1:{free_port()}", CacheDir(tmp_path))
    with pytest.raises(SuppliesFailed, match="nobody waits for blob"):
        await asyncio.wait_for(shelf.fetch("0" * 64), 10)


async def test_a_few_are_fetched_at_once(shelf: BlobShelf, server: BlobKeep) -> None:
    digests = [server.add(random.randbytes(1000)) for _ in range(12)]
    server.gate.clear()
    fetching = [asyncio.create_task(shelf.fetch(digest)) for digest in digests]
    await wait_until_async(lambda: server.asked["GET"] == blobs_module.TRANSFERS_MAX, what="some downloads")
    server.gate.set()
    await asyncio.gather(*fetching)
    assert server.at_once_max == blobs_module.TRANSFERS_MAX
    assert all(map(shelf.find, digests))


async def test_the_cache_keeps_its_limit_and_what_is_needed(
    server: BlobKeep, make_shelf: MakeShelf, tmp_path: Path
) -> None:
    shelf = make_shelf(server.url, CacheDir(tmp_path), bytes_max=2500)
    one, two, three = (server.add(bytes([number]) * 1000) for number in range(3))
    shelf.protect(lambda: {one})
    for digest in (one, two, three):
        await shelf.fetch(digest)
    assert [shelf.find(digest) is not None for digest in (one, two, three)] == [True, False, True]


async def test_a_cache_that_can_not_be_made_says_so(server: BlobKeep, make_shelf: MakeShelf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shelf = make_shelf(server.url, CacheDir(tmp_path / "file" / "cache"))
    digest = server.add(b"x")
    assert shelf.find(digest) is None
    with pytest.raises(SuppliesFailed, match="can't be kept") as failed:
        await shelf.fetch(digest)
    assert failed.value.cause is Cause.AGENT_ERROR


# At home


async def test_on_the_coordinators_machine_nothing_is_carried(
    shelf: BlobShelf, server: BlobKeep, tmp_path: Path
) -> None:
    shelf.use_home(make_home(tmp_path / "home"))
    digest = leave_in(tmp_path / "home", b"function")
    assert shelf.find(digest) == str(tmp_path / "home" / digest[:2] / digest)
    assert shelf.folder == str(tmp_path / "home")
    assert not shelf.must_upload([digest])
    assert not server.asked
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "home",
    [
        BlobHome("{home}", "probe", "another secret"),
        BlobHome("{home}", "no-such-file", "s3cret"),
        BlobHome("{home}/no-such-folder", "probe", "s3cret"),
        BlobHome("{home}", "../home/probe", "s3cret"),
        BlobHome("home", "probe", "s3cret"),
    ],
)
async def test_a_directory_that_is_not_the_coordinators_is_not_used(
    shelf: BlobShelf, tmp_path: Path, home: BlobHome
) -> None:
    make_home(tmp_path / "home")
    shelf.use_home(BlobHome(home.path.format(home=tmp_path / "home"), home.probe, home.secret))
    assert shelf.folder == str(tmp_path / "cache" / "blobs-1")


async def test_what_is_not_at_home_is_asked_for(shelf: BlobShelf, server: BlobKeep, tmp_path: Path) -> None:
    shelf.use_home(make_home(tmp_path / "home"))
    digest = server.add(b"x")
    assert shelf.find(digest) is None
    await shelf.fetch(digest)
    assert shelf.find(digest)


async def test_a_file_that_somebody_removed_is_missed_in_a_moment(
    shelf: BlobShelf, server: BlobKeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "TRUST_S", 0.0)
    digest = server.add(b"x")
    await shelf.fetch(digest)
    found(shelf, digest).unlink()
    assert shelf.find(digest) is None


async def test_a_cache_that_somebody_removed_is_made_again(
    shelf: BlobShelf, server: BlobKeep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "TRUST_S", 0.0)
    digest = server.add(b"x")
    await shelf.fetch(digest)
    rmtree(tmp_path / "cache")
    await shelf.fetch(digest)
    assert found(shelf, digest).read_bytes() == b"x"
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


# Up


async def test_a_result_is_handed_over_once(shelf: BlobShelf, server: BlobKeep) -> None:
    digest = leave_in(shelf.folder, b"result")
    assert shelf.must_upload([digest])
    await shelf.upload(digest)
    assert server.blobs == {digest: b"result"}
    await shelf.upload(digest)
    assert server.asked == {"HEAD": 2, "PUT": 1}


async def test_a_result_waits_for_a_coordinator_that_is_away(shelf: BlobShelf, server: BlobKeep) -> None:
    digest = leave_in(shelf.folder, b"result")
    server.status = 503
    uploading = asyncio.create_task(shelf.upload(digest))
    await wait_until_async(lambda: server.asked["HEAD"] >= 3, what="three tries")
    server.status = None
    await asyncio.wait_for(uploading, 10)
    assert server.blobs == {digest: b"result"}


async def test_a_result_that_is_refused_is_told_with_the_reason(shelf: BlobShelf, server: BlobKeep) -> None:
    digest = leave_in(shelf.folder, b"result")
    server.status = 413
    with pytest.raises(SuppliesFailed, match=r"status 413|INVALID_ARGUMENT: told to") as failed:
        await shelf.upload(digest)
    assert failed.value.cause is Cause.AGENT_ERROR


async def test_a_result_that_is_gone_is_told(shelf: BlobShelf) -> None:
    with pytest.raises(SuppliesFailed, match="was removed before the coordinator had it"):
        await shelf.upload("0" * 64)


async def test_a_result_that_was_left_at_a_former_home_is_still_handed_over(
    shelf: BlobShelf, server: BlobKeep, tmp_path: Path
) -> None:
    shelf.use_home(make_home(tmp_path / "home"))
    digest = leave_in(tmp_path / "home", b"result")
    shelf.use_home(None)
    assert shelf.must_upload([digest])
    await shelf.upload(digest)
    assert server.blobs == {digest: b"result"}


# Against a real coordinator


@over_both
async def test_a_real_coordinator_takes_blobs_and_gives_them_back(
    make_shelf: MakeShelf, tmp_path: Path, transport: Transport
) -> None:
    """Two machines are played by two cache directories."""
    with Cluster(tmp_path, token="secret", transport=transport) as cluster:
        cluster.start_coordinator()
        url = f"{'grpc' if transport == 'grpc' else 'http'}://127.0.0.1:{cluster.channel_port}"
        one, other = (make_shelf(url, CacheDir(tmp_path / name), token="secret") for name in ("one", "other"))
        large = random.randbytes(3 << 20)
        digest = leave_in(one.folder, large)
        await one.upload(digest)
        await one.upload(digest)
        await other.fetch(digest)
        assert found(other, digest).read_bytes() == large
        with pytest.raises(SuppliesFailed, match="no longer has blob"):
            await other.fetch(digest_of(b"something else"))
        wrong = make_shelf(url, CacheDir(tmp_path / "wrong"), token="wrong")
        with pytest.raises(SuppliesFailed, match=r"status 401|UNAUTHENTICATED"):
            await wrong.fetch(digest)
