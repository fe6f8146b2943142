"""Blocking channels with a test at the end of them, over either transport: they send any bytes as a message."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import grpc
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from rota.wire.channel import CHANNEL_PATH
from rota.wire.grpc.frames import METHOD, pack, unpack
from rota.wire.grpc.statuses import http_status
from tests.support.real_cluster import Cluster

__all__ = ["HungUp", "NotLetIn", "Talker", "talk"]

ANSWER_S_MAX: Final = 30.0


class HungUp(Exception):
    """The coordinator has closed the channel."""


class NotLetIn(Exception):
    """The channel was refused, with the HTTP status that its answer stands for."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


class Talker(Protocol):
    """An open channel."""

    def send(self, message: bytes) -> None:
        """Send what would be one message."""

    def receive(self) -> bytes:
        """Return the next message; raises `HungUp` when there is none any more."""


def talk(cluster: Cluster, **headers: str) -> AbstractContextManager[Talker]:
    """Open a channel by the transport of the cluster, or raise `NotLetIn`."""
    return (_talk_grpc if cluster.transport == "grpc" else _talk_websocket)(cluster.channel_port, headers)


@contextmanager
def _talk_websocket(port: int, headers: dict[str, str]) -> Iterator[Talker]:
    url = f"ws://127.0.0.1:{port}{CHANNEL_PATH}"
    try:
        with connect(url, additional_headers=headers, compression=None, open_timeout=ANSWER_S_MAX) as line:
            yield _WebSocketTalker(line)
    except InvalidStatus as error:
        raise NotLetIn(error.response.status_code) from error


@contextmanager
def _talk_grpc(port: int, headers: dict[str, str]) -> Iterator[Talker]:
    frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    metadata = tuple((name.lower(), value) for name, value in headers.items())
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),)) as line:
        opening: grpc.StreamStreamMultiCallable[bytes, bytes] = line.stream_stream(METHOD)
        call = opening(iter(frames.get, None), metadata=metadata, timeout=2 * ANSWER_S_MAX)
        try:
            if not call.initial_metadata():
                raise NotLetIn(http_status(call.code()))
            yield _GrpcTalker(call, frames)
        finally:
            frames.put(None)
            call.cancel()


class _WebSocketTalker:
    def __init__(self, line: ClientConnection) -> None:
        self._line = line

    def send(self, message: bytes) -> None:
        try:
            self._line.send(message)
        except ConnectionClosed as error:
            raise HungUp from error

    def receive(self) -> bytes:
        try:
            message = self._line.recv(timeout=ANSWER_S_MAX)
        except ConnectionClosed as error:
            raise HungUp from error
        assert isinstance(message, bytes)
        return message


class _GrpcTalker:
    def __init__(self, call: grpc.Call, frames: queue.SimpleQueue[bytes | None]) -> None:
        self._call = call
        self._answers: Iterator[bytes] = iter(call)  # type: ignore[call-overload]  # of a stream it is one, too
        self._frames = frames
        self._waiting: deque[bytes] = deque()

    def send(self, message: bytes) -> None:
        self._frames.put(pack([message]))

    def receive(self) -> bytes:
        while not self._waiting:
            try:
                messages, close = unpack(next(self._answers))
            except (StopIteration, grpc.RpcError) as error:
                assert self._call.code() is not grpc.StatusCode.DEADLINE_EXCEEDED, "no answer"
                raise HungUp from error
            if close is not None:
                self._frames.put(None)  # the answer to a close
            self._waiting += messages
        return self._waiting.popleft()
