"""The twin of `tests.support.blob_server` over gRPC: the contract once more, by the library's other, blocking half."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import grpc

from rota.v1 import blobs_pb2
from rota.wire.grpc.statuses import status_code
from tests.support.blob_server import BlobKeep

__all__ = ["GrpcBlobServer", "running_grpc_blob_server"]

CALLS_MAX: Final = 16

TOO_LARGE: Final = 413

Context = grpc.ServicerContext


class GrpcBlobServer(BlobKeep):
    """One that speaks gRPC."""

    def __init__(self, port: int) -> None:
        super().__init__()
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "StatBlob": grpc.unary_unary_rpc_method_handler(
                self._stat, blobs_pb2.StatBlobRequest.FromString, blobs_pb2.StatBlobResponse.SerializeToString
            ),
            "GetBlob": grpc.unary_stream_rpc_method_handler(
                self._get, blobs_pb2.GetBlobRequest.FromString, blobs_pb2.GetBlobResponse.SerializeToString
            ),
            "PutBlob": grpc.stream_unary_rpc_method_handler(
                self._put, blobs_pb2.PutBlobRequest.FromString, blobs_pb2.PutBlobResponse.SerializeToString
            ),
        }
        self.server = grpc.server(ThreadPoolExecutor(CALLS_MAX))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rota.v1.Blobs", methods),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"grpc://127.0.0.1:{self.port}"

    def _stat(self, request: blobs_pb2.StatBlobRequest, context: Context) -> blobs_pb2.StatBlobResponse:
        with self._asked("HEAD", context):
            return blobs_pb2.StatBlobResponse(size=len(self._blob(request.digest, context)))

    def _get(self, request: blobs_pb2.GetBlobRequest, context: Context) -> Iterator[blobs_pb2.GetBlobResponse]:
        with self._asked("GET", context):
            blob = self._blob(request.digest, context)
            if self.spoils_next:
                self.spoils_next, blob = False, b"garbage"
            for start in range(0, len(blob), 100_000):
                yield blobs_pb2.GetBlobResponse(size=len(blob), data=blob[start : start + 100_000])

    def _put(self, requests: Iterator[blobs_pb2.PutBlobRequest], context: Context) -> blobs_pb2.PutBlobResponse:
        first = next(requests)
        content = first.data + b"".join(request.data for request in requests)
        with self._asked("PUT", context):
            self.blobs[first.digest] = content
            return blobs_pb2.PutBlobResponse(size=len(content), is_new=True)

    @contextmanager
    def _asked(self, method: str, context: Context) -> Iterator[None]:
        self.begin(method)
        try:
            if self.status is not None:
                code = grpc.StatusCode.INVALID_ARGUMENT if self.status == TOO_LARGE else status_code(self.status)
                context.abort(code, "told to")
            if (
                self.token is not None
                and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata()
            ):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
            yield
        finally:
            self.end()

    def _blob(self, digest: str, context: Context) -> bytes:
        if digest not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        return self.blobs[digest]


@contextmanager
def running_grpc_blob_server(port: int = 0) -> Iterator[GrpcBlobServer]:
    running = GrpcBlobServer(port)
    running.server.start()
    try:
        yield running
    finally:
        running.gate.set()
        running.server.stop(None).wait()
