"""Clears away what the gRPC library leaves of each call: a function that refers to the frame that made it.

Those are five objects, or about a kilobyte, in a process whose cyclic collector is off. Only the young are looked at:
what was made since the last time, which is little besides them.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

__all__ = ["CALLS_A_SWEEP", "CallSweeper"]

CALLS_A_SWEEP: Final = 1000
"""A megabyte at most is left lying; a sweep takes about half a millisecond."""


class CallSweeper(grpc.aio.ServerInterceptor):
    """Counts calls, and sweeps after so many."""

    def __init__(self) -> None:
        self._calls = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        self._calls += 1
        if self._calls % CALLS_A_SWEEP == 0:
            gc.collect(0)
        return await continuation(handler_call_details)
