"""The gRPC side of the process: opened once HTTP is, closed with it.

The library takes longer to import than all else together; nobody who waits for HTTP should wait for that.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from rota.coordinator.config import GRPC_PORT_DEFAULT, CoordinatorConfig
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.http.guard import Guard
from rota.coordinator.metrics import Counters
from rota.coordinator.service import Service
from rota.store.blobs import BlobStore
from rota.wire.channel import ChannelHandler
from rota.wire.handshake import Handshake, Refusal
from rota.wire.messages import COORDINATOR_CODEC, FromPeer, ToPeer

if TYPE_CHECKING:
    from rota.coordinator.grpc.server import GrpcServer
    from rota.wire.grpc.server import ChannelService

__all__ = ["GrpcDoor"]

_LIBRARY_USERS: Final = ("rota.coordinator.grpc.server", "rota.coordinator.grpc.contracts")

log = structlog.get_logger(__name__)

Accept = Callable[[Handshake], "ChannelHandler[FromPeer, ToPeer] | Refusal"]


class GrpcDoor:
    """Serves gRPC on its port, or nothing where the configuration has none.

    Args:
        config: Where to listen.
        guard: Who may call.
        service: What the public services call.
        blobs: Those that come and go here, too.
        counters: Where calls are counted.
        accept: Makes the session of each channel that is opened.
        watches: What calls that stay open are counted in.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        *,
        guard: Guard,
        service: Service,
        blobs: BlobStore,
        counters: Counters,
        accept: Accept,
        watches: OpenWatches,
    ) -> None:
        self._config = config
        self._guard = guard
        self._service = service
        self._blobs = blobs
        self._counters = counters
        self._accept = accept
        self._watches = watches
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Serve until closed.

        Raises:
            PortTaken: It can't be listened on.
        """
        if self._config.grpc_port == "off":
            await self._closing.wait()
            return
        await self._load_library()
        if self._closing.is_set():  # told to stop meanwhile: no port is opened that nobody would answer at
            return
        server, channels = await self._open()
        await self._closing.wait()
        channels.close_all()  # those that were opened since the sessions were told
        await server.stop()

    def close(self) -> None:
        """Let `run` end: calls that run have a moment to end, those that watch are told to come back."""
        self._watches.stop()
        self._closing.set()

    async def _load_library(self) -> None:
        for module in _LIBRARY_USERS:
            if not self._closing.is_set():
                await asyncio.to_thread(importlib.import_module, module)

    async def _open(self) -> tuple[GrpcServer, ChannelService[FromPeer, ToPeer]]:
        from rota.coordinator.grpc.contracts import public_contracts  # noqa: PLC0415 - see the top
        from rota.coordinator.grpc.handlers import Contract  # noqa: PLC0415 - see the top
        from rota.coordinator.grpc.server import GrpcServer  # noqa: PLC0415 - see the top
        from rota.v1 import channel_pb2  # noqa: PLC0415 - see the top
        from rota.wire.grpc.server import ChannelService  # noqa: PLC0415 - see the top

        channels = ChannelService(self._accept, COORDINATOR_CODEC)
        channel = Contract(channel_pb2.DESCRIPTOR.services_by_name["Channel"], channels, is_raw=True)
        contracts = [*public_contracts(self._service, self._watches, blobs=self._blobs), channel]
        server = GrpcServer(contracts, guard=self._guard, counters=self._counters)
        ports = _ports(self._config)
        port = server.listen(self._config.host, ports)
        if ports[0] not in (0, port):
            # A warning, since `rota up` shows nothing less, and clients look for it where it usually is.
            log.warning("grpc_port_taken", usual=ports[0], instead=port)
        await server.start()
        _say_ready(self._config.host, port)
        return server, channels


def _ports(config: CoordinatorConfig) -> list[int]:
    """The ports to try, in order."""
    if isinstance(config.grpc_port, int):
        return [config.grpc_port]
    return [GRPC_PORT_DEFAULT, 0] if config.port else [0]


def _say_ready(host: str, port: int) -> None:
    """One line on standard output, like that of HTTP."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sys.stdout.write(f"rota coordinator serving gRPC on {address}\n")
    sys.stdout.flush()
    log.info("grpc_listening", host=host, port=port)
