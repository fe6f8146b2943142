"""Blobs over gRPC next to blobs over HTTP: one of 64 MiB up and down by each, in turn, through one coordinator.

That is a worker's side and the coordinator's together, on one machine: a file here and a file there, digests on both
sides. A real worker on the coordinator's machine would carry nothing at all.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.harness import Result, cluster, disk_directory, median_of
from rota.wire.grpc.blobs import BlobClient
from rota.worker.grpc_transfer import GrpcTransfer
from rota.worker.http_transfer import HttpTransfer
from rota.worker.transfer import BlobTransfer

__all__ = ["run"]

BLOB_MIB: Final = 64

Rates = dict[tuple[str, str], list[float]]
"""MiB a second, by direction and transport."""


def run(*, quick: bool) -> list[Result]:
    """Alternate rounds of both, each with a blob that the coordinator has not seen."""
    rounds, port = 3 if quick else 9, _free_port()
    with (
        tempfile.TemporaryDirectory(dir=disk_directory()) as folder,
        cluster(workers=1, arguments=[f"--grpc-port={port}"]) as running,
    ):
        rates = uvloop.run(_measure(running.url, port, folder=Path(folder), rounds=rounds))
    results: list[Result] = []
    for way in ("up", "down"):
        http, grpc = rates[way, "HTTP"], rates[way, "gRPC"]
        results += [
            median_of(f"a blob of {BLOB_MIB} MiB {way}, over HTTP", http, "MiB/s"),
            median_of(f"a blob of {BLOB_MIB} MiB {way}, over gRPC", grpc, "MiB/s"),
            median_of("  gRPC to HTTP", [ours / theirs for ours, theirs in zip(grpc, http, strict=True)], "ratio"),
        ]
    return results


async def _measure(url: str, grpc_port: int, *, folder: Path, rounds: int) -> Rates:
    transfers: dict[str, BlobTransfer] = {
        "HTTP": HttpTransfer(url, token=None, ca_file=None),
        "gRPC": GrpcTransfer(BlobClient(f"grpc://127.0.0.1:{grpc_port}", token=None, ca_file=None)),
    }
    rates: Rates = defaultdict(list)
    for number in range(rounds + 1):
        for name, transfer in transfers.items():
            content = os.urandom(BLOB_MIB << 20)
            digest = hashlib.sha256(content).hexdigest()
            (folder / "here").write_bytes(content)
            began = time.perf_counter()
            await transfer.upload(digest, folder / "here")
            between = time.perf_counter()
            await transfer.download(digest, folder / "back")
            ended = time.perf_counter()
            if number > 0:  # the first round warms up
                rates["up", name].append(BLOB_MIB / (between - began))
                rates["down", name].append(BLOB_MIB / (ended - between))
    for transfer in transfers.values():
        await transfer.close()
    return rates


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
