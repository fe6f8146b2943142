"""From a contract and its implementation to what a gRPC server takes.

Generated stubs for services are untyped and add nothing but names: the descriptor knows them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from rota.coordinator.grpc.calls import answering, answering_streams
from rota.coordinator.metrics import Counters

__all__ = ["Contract", "generic_handler"]


class Contract:
    """A service of the contracts in ``proto/``, and the object that does it: a method for each RPC, by its name.

    Args:
        descriptor: What the contract says.
        implementation: Whose methods do it.
        is_raw: They take and give bytes, and see themselves to what is no message of the contract.

    Raises:
        TypeError: An RPC of the contract has no method.
    """

    def __init__(self, descriptor: ServiceDescriptor, implementation: object, *, is_raw: bool = False) -> None:
        missing = [method.name for method in descriptor.methods if not hasattr(implementation, method.name)]
        if missing:
            raise TypeError(f"{descriptor.full_name} is without {', '.join(missing)}")
        self.descriptor: Final = descriptor
        self.implementation: Final = implementation
        self.is_raw: Final = is_raw


def generic_handler(contract: Contract, counters: Counters) -> grpc.GenericRpcHandler:
    """Make the handler of all RPCs of a service; calls are counted, except those of a raw one."""
    methods = {
        method.name: _method_handler(contract, method, counters=counters) for method in contract.descriptor.methods
    }
    return grpc.method_handlers_generic_handler(contract.descriptor.full_name, methods)


def _method_handler(
    contract: Contract, method: MethodDescriptor, *, counters: Counters
) -> grpc.RpcMethodHandler[Any, Any]:
    """Make the handler of one RPC: unary or streaming on either side, as its contract says."""
    make = _MAKERS[method.client_streaming, method.server_streaming]
    behaviour: Callable[..., Any] = getattr(contract.implementation, method.name)
    if contract.is_raw:
        return make(behaviour)
    request = GetMessageClass(method.input_type)
    response = GetMessageClass(method.output_type)
    take = answering_streams if method.client_streaming else answering
    return make(
        take(behaviour, request, name=method.full_name, counters=counters),
        response_serializer=response.SerializeToString,
    )


_MAKERS: Final[dict[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
