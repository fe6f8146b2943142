"""How this worker reaches its coordinator: by the transport that it is configured for, its channel and its blobs alike.

What is for gRPC is loaded by those alone who use it: it costs some tenths of a second, and 15 MiB as long as the
worker lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rota.core.protocol import FromCoordinator, FromWorker
from rota.wire.channel import Channel, ChannelHandler
from rota.wire.messages import WORKER_CODEC
from rota.wire.websocket import client as websocket
from rota.worker.config import WorkerConfig
from rota.worker.http_transfer import HttpTransfer
from rota.worker.transfer import BlobTransfer

__all__ = ["Dial", "carrier", "dialler"]

Dial = Callable[[ChannelHandler[FromCoordinator, FromWorker]], Awaitable[Channel[FromWorker]]]
"""Opens one channel or raises `rota.wire.channel.ChannelError`, which says whether another try can help."""


def dialler(config: WorkerConfig, *, timeout_s: float) -> Dial:
    """Return what opens a channel to the coordinator; each try may take ``timeout_s``."""
    if config.transport == "grpc":
        from rota.wire.grpc import client as grpc  # noqa: PLC0415 - see the top

        connect = grpc.connect
    else:
        connect = websocket.connect
    return lambda handler: connect(
        config.channel_url,
        handler,
        codec=WORKER_CODEC,
        token=config.token,
        timeout_s=timeout_s,
        ca_file=config.ca_file,
    )


def carrier(config: WorkerConfig) -> BlobTransfer:
    """Return what carries blobs to the coordinator and back: over the port on which the channel is, and no other."""
    if config.transport == "grpc":
        from rota.wire.grpc.blobs import BlobClient  # noqa: PLC0415 - see the top
        from rota.worker.grpc_transfer import GrpcTransfer  # noqa: PLC0415 - see the top

        return GrpcTransfer(BlobClient(config.channel_url, token=config.token, ca_file=config.ca_file))
    return HttpTransfer(config.server, token=config.token, ca_file=config.ca_file)
