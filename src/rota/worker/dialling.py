"""How this worker opens its channel: by the transport that it is configured for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rota.core.protocol import FromCoordinator, FromWorker
from rota.wire.channel import Channel, ChannelHandler
from rota.wire.messages import WORKER_CODEC
from rota.wire.websocket import client as websocket
from rota.worker.config import WorkerConfig

__all__ = ["Dial", "dialler"]

Dial = Callable[[ChannelHandler[FromCoordinator, FromWorker]], Awaitable[Channel[FromWorker]]]
"""Opens one channel or raises `rota.wire.channel.ChannelError`, which says whether another try can help."""


def dialler(config: WorkerConfig, *, timeout_s: float) -> Dial:
    """Return what opens a channel to the coordinator; each try may take ``timeout_s``."""
    if config.transport == "grpc":
        # Loaded by those alone who use it: it costs some tenths of a second, and 15 MiB as long as the worker lives.
        from rota.wire.grpc import client as grpc  # noqa: PLC0415 - see above

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
