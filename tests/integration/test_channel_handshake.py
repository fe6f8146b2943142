"""Opening a channel: who gets one, and the one line that others are told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from rota.core.protocol import Report
from rota.wire.channel import ChannelError
from rota.wire.handshake import Refusal
from rota.wire.messages import WORKER_CODEC
from rota.wire.websocket.client import connect
from tests.support.channels import (
    TRANSPORTS,
    CoordinatorEnd,
    Recorder,
    WorkerEnd,
    on_both_loops,
    on_every_transport,
    open_channel,
    serve_channels,
)
from tests.support.debian import require_program
from tests.support.network import free_port
from tests.support.strangers import bare_peer
from tests.support.waiting import wait_until_async


@pytest.fixture(params=TRANSPORTS)
async def coordinator(request: pytest.FixtureRequest) -> AsyncIterator[CoordinatorEnd]:
    async with serve_channels(request.param) as end:
        yield end


@pytest.fixture
async def websocket() -> AsyncIterator[CoordinatorEnd]:
    async with serve_channels("websocket") as end:
        yield end


async def refusal_of(url: str, *, timeout_s: float = 5.0) -> ChannelError:
    handler: WorkerEnd = Recorder()
    with pytest.raises(ChannelError) as caught:
        await open_channel(url, handler, timeout_s=timeout_s)
    assert handler.channel is None
    assert "\n" not in str(caught.value)
    return caught.value


def at_port(coordinator: CoordinatorEnd, port: int) -> str:
    """Where something else would be, for the same transport."""
    return coordinator.url.replace(f":{coordinator.port}", f":{port}")


# Accepted and refused -------------------------------------------------------------------------


@on_every_transport
async def test_accept_sees_where_the_wish_comes_from_and_its_token(coordinator: CoordinatorEnd) -> None:
    await open_channel(coordinator.url, Recorder(), token="secret")
    [handshake] = coordinator.handshakes
    headers = dict(handshake.headers)
    assert headers[b"authorization"] == b"Bearer secret"
    if coordinator.transport == "websocket":
        assert (handshake.scheme, handshake.path, handshake.query) == ("ws", "/api/v1/channel", "")
        assert headers[b"host"] == f"127.0.0.1:{coordinator.port}".encode()
    else:
        assert (handshake.scheme, handshake.path, handshake.query) == ("grpc", "/rota.v1.Channel/Open", "")
    assert handshake.peer.startswith("127.0.0.1:")
    assert coordinator.sessions[0].line.peer == handshake.peer


@pytest.mark.parametrize("status,retryable", [(401, False), (403, False), (503, True)])
async def test_refused_worker_is_told_why(coordinator: CoordinatorEnd, status: int, *, retryable: bool) -> None:
    coordinator.decide = lambda: Refusal(status, "some_code", "say the word")
    error = await refusal_of(coordinator.url)
    words = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 503: "UNAVAILABLE"}
    shown = f"{status} " if coordinator.transport == "websocket" else f"{words[status]})"
    assert str(error).startswith(f"{coordinator.url} refused the channel: say the word ({shown}")
    assert (error.status, error.retryable) == (status, retryable)
    await wait_until_async(lambda: not coordinator.connections, what="the end of the connection")


@on_both_loops
async def test_only_one_path_is_a_channel(websocket: CoordinatorEnd) -> None:
    error = await refusal_of(f"{websocket.url}/elsewhere/")
    assert error.status == 404
    assert "there is no channel here, only at /api/v1/channel" in str(error)
    assert websocket.handshakes == []


async def test_accept_that_fails_refuses_and_is_logged(coordinator: CoordinatorEnd) -> None:
    def fail() -> NoReturn:
        raise ZeroDivisionError

    coordinator.decide = fail
    with capture_logs() as logs:
        assert (await refusal_of(coordinator.url)).status == 500
    assert [entry["event"] for entry in logs] == ["channel_accept_failed"]


async def test_handshake_of_another_version_is_refused_before_anybody_is_asked(websocket: CoordinatorEnd) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", websocket.port)
    writer.write(
        b"GET /api/v1/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 7\r\n\r\n"
    )
    assert (await asyncio.wait_for(reader.read(), 5.0)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()
    assert websocket.handshakes == []


async def test_compression_is_not_agreed_on(websocket: CoordinatorEnd) -> None:
    async with bare_peer(websocket) as peer:
        assert peer.rules.extensions == []


# What else can be at an address ---------------------------------------------------------------


@on_every_transport
async def test_nobody_at_the_address(coordinator: CoordinatorEnd) -> None:
    url = at_port(coordinator, free_port())
    error = await refusal_of(url)
    assert str(error) == f"nobody listens at {url}"
    assert error.retryable


@pytest.mark.parametrize("scheme", ["http", "grpc", "grpcs"])
async def test_name_that_is_not_known(scheme: str) -> None:
    error = await refusal_of(f"{scheme}://nowhere.invalid:8080")
    assert str(error).startswith(f"no host 'nowhere.invalid' for {scheme}://nowhere.invalid:8080")
    assert error.retryable


@on_every_transport
async def test_one_who_accepts_and_says_nothing(coordinator: CoordinatorEnd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = at_port(coordinator, silent.getsockname()[1])
        error = await refusal_of(url, timeout_s=0.2)
    assert str(error) == f"no answer from {url} within 0.2 s"
    assert error.retryable


@pytest.mark.parametrize(
    "answer,expected,retryable",
    [
        (b"", "cut the connection during the handshake", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "refused the channel: hello (200 OK)", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>\n no luck", "refused the channel: <html> no luck (502 Bad Gat", True),
        (b"HTTP/1.1 599 Hm\r\n\r\n", "refused the channel: 599", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer like a coordinator: ", False),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "does not answer like a coordinator: ", False),
    ],
)
async def test_somebody_else_at_the_address(answer: bytes, expected: str, *, retryable: bool) -> None:
    async with who_answers(answer) as port:
        error = await refusal_of(f"http://127.0.0.1:{port}")
    assert expected in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize(
    "scheme,answer,expected,retryable",
    [
        ("grpc", b"", "cut the connection during the handshake", True),
        ("grpc", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "it does not speak gRPC", False),
        ("grpc", b"SSH-2.0-OpenSSH_9.2\r\n", "it does not speak gRPC", False),
        ("grpcs", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS as it should", True),
        ("grpcs", b"", "does not speak TLS as it should", True),
    ],
)
async def test_somebody_else_at_the_address_for_grpc(
    scheme: str, answer: bytes, expected: str, *, retryable: bool
) -> None:
    async with who_answers(answer) as port:
        error = await refusal_of(f"{scheme}://127.0.0.1:{port}")
    assert expected in str(error)
    assert error.retryable is retryable


@contextlib.asynccontextmanager
async def who_answers(answer: bytes) -> AsyncIterator[int]:
    """A port on which everybody is given this answer to what they say first, and then the end."""

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(answer_all, "127.0.0.1", 0) as other:
        yield other.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://host", "http://", "http://host:port", "http://[::1", "http://a..b"]
)
async def test_url_that_is_none(url: str) -> None:
    error = await refusal_of(url)
    assert "is not the URL of a coordinator" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    "url",
    ["grpc://", "grpc://host:port", "grpc://[::1", "grpc://a..b", "grpc://host/path", "grpc://me@host", "grpc://h:0"],
)
async def test_address_for_grpc_that_is_none(url: str) -> None:
    error = await refusal_of(url)
    assert "is not where a coordinator speaks gRPC: that looks like grpc://host:50051" in str(error)
    assert not error.retryable


# TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself, in one file."""
    openssl = require_program("openssl", package="openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=rota test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command: list[str | Path] = [openssl, "req", *options, *names, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    return both


@pytest.fixture(params=TRANSPORTS)
async def secure(request: pytest.FixtureRequest, certificate: Path) -> AsyncIterator[CoordinatorEnd]:
    async with serve_channels(request.param, certificate=certificate) as end:
        yield end


async def test_messages_pass_through_tls_and_its_end_is_seen(secure: CoordinatorEnd, certificate: Path) -> None:
    worker: WorkerEnd = Recorder()
    await open_channel(secure.url, worker, ca_file=certificate)
    assert secure.handshakes[0].scheme == ("wss" if secure.transport == "websocket" else "grpcs")
    worker.line.send(Report(number=1))
    assert await secure.sessions[0].wait_for_messages(1) == [Report(number=1)]
    secure.begin_stop()
    assert "the coordinator is stopping (1012)" in await worker.wait_until_closed()


async def test_certificate_that_nobody_signed_is_refused_unless_told_otherwise(secure: CoordinatorEnd) -> None:
    error = await refusal_of(secure.url)
    assert str(error).startswith(f"{secure.url} is not trusted: ")
    assert not error.retryable
    if secure.transport == "websocket":  # gRPC can't be told otherwise
        await connect(secure.url, WorkerEnd(), codec=WORKER_CODEC, token=None, timeout_s=5.0, verify=False)


async def test_tls_where_there_is_none(coordinator: CoordinatorEnd) -> None:
    error = await refusal_of(coordinator.url.replace(":", "s:", 1))
    assert "does not speak TLS as it should" in str(error)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_authorities_that_can_not_be_read(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(ChannelError, match=r"can't use the certificates in .*missing\.pem"):
        await open_channel(f"{scheme}://127.0.0.1:1", WorkerEnd(), ca_file=tmp_path / "missing.pem")
