"""The gRPC server of a coordinator: its port, its limits, its token, and reflection.

What is served is a list of contracts. It runs on the loop of the process beside HTTP. No page in a browser can speak
gRPC to it (that takes HTTP/2 without an upgrade), so the token is all that is checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from rota.coordinator.grpc.errors import CallContext, refuse
from rota.coordinator.grpc.handlers import Contract, generic_handler
from rota.coordinator.grpc.sweeping import CallSweeper
from rota.coordinator.http.guard import Guard
from rota.coordinator.metrics import Counters
from rota.core.errors import Unauthorized
from rota.wire.grpc.frames import FRAME_BYTES_MAX
from rota.wire.grpc.server import SERVER_OPTIONS

__all__ = ["RECEIVE_BYTES_MAX", "GrpcServer", "PortTaken"]

RECEIVE_BYTES_MAX: Final = FRAME_BYTES_MAX
"""Of one gRPC message: nothing is larger than a frame of a channel."""

METADATA_BYTES_MAX: Final = 16 << 10
"""A token, a trace and some names."""

STOP_S: Final = 5.0
"""How long calls may take when the process leaves."""


class PortTaken(OSError):
    """The port can't be listened on: taken, or not ours."""


class GrpcServer:
    """One server: `listen`, `start`, `stop`.

    Args:
        contracts: What is served.
        guard: Who may call.
        counters: Where calls are counted.
        ping_every_s: How long a client may be silent before it is asked whether it is there, and then not answer,
            if not as long as `SERVER_OPTIONS` say.
    """

    def __init__(
        self,
        contracts: Sequence[Contract],
        *,
        guard: Guard,
        counters: Counters,
        ping_every_s: float | None = None,
    ) -> None:
        self._server = grpc.aio.server(
            interceptors=[CallSweeper(), _TokenCheck(guard)],
            options=[
                *_impatience(ping_every_s),  # of two options of one name the library takes the first
                *SERVER_OPTIONS,
                ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
                ("grpc.max_send_message_length", RECEIVE_BYTES_MAX),
                ("grpc.max_metadata_size", METADATA_BYTES_MAX),
                # Else a second coordinator could take the port of a first, and calls would go to either.
                ("grpc.so_reuseport", 0),
            ],
        )
        self._server.add_generic_rpc_handlers(tuple(generic_handler(contract, counters) for contract in contracts))
        names = [contract.descriptor.full_name for contract in contracts]
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)

    def listen(self, host: str, ports: Sequence[int]) -> int:
        """Take the first port that can be had, and return it: the one that was picked, for 0.

        Raises:
            PortTaken: There is none.
        """
        for port in ports:
            try:
                return self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            except RuntimeError:
                continue  # which the library has logged
        raise PortTaken(f"can't listen on {host} port {' or '.join(map(str, ports))} for gRPC")

    async def start(self) -> None:
        """Serve."""
        await self._server.start()

    async def stop(self, *, grace_s: float = STOP_S) -> None:
        """Take no new calls, let those that run end within the grace, and cut the rest."""
        await self._server.stop(grace_s)


def _impatience(ping_every_s: float | None) -> list[tuple[str, int]]:
    if ping_every_s is None:
        return []
    return [(name, round(ping_every_s * 1000)) for name in ("grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms")]


class _TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses calls without the right token, where one is asked for, reflection's included."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization")
        try:
            self._guard.check_token(given.encode() if isinstance(given, str) else given)
        except Unauthorized as error:
            return _refusal(error)
        return await continuation(handler_call_details)


def _refusal(error: Unauthorized) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that ends every call, whatever its kind, before a message of it is read."""

    async def refuse_it(_requests: object, context: CallContext) -> None:
        refuse(context, error)

    # Of this kind, the library sends no message before the status.
    return grpc.stream_stream_rpc_method_handler(refuse_it)
