"""Submitting over HTTP: arrays for the rate, single tasks over 16 connections for the requests."""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import uvloop

from benchmarks.harness import Cluster, Result, cluster, median_of

__all__ = ["run"]

CONNECTIONS: Final = 16
TASK: Final = {"command": ["true"]}


def run(*, quick: bool) -> list[Result]:
    """No workers: what is measured is accepting, durably, not running."""
    tasks, requests, rounds = (20_000, 4_000, 3) if quick else (100_000, 20_000, 5)
    in_arrays, singly = [], []
    for _ in range(rounds):
        with cluster(workers=0) as running:
            submit_arrays(running, 5_000, batch=1_000)
            in_arrays.append(submit_arrays(running, tasks, batch=5_000))
            singly.append(_in_a_process(running.url, requests))
    return [
        median_of("tasks submitted in arrays of 5,000, durable", in_arrays, "tasks/s", goal="50,000"),
        median_of(f"single tasks submitted, {CONNECTIONS} connections, durable", singly, "requests/s", goal="8,000"),
    ]


def submit_arrays(running: Cluster, count: int, *, batch: int, task: object = TASK) -> float:
    """Submit so many tasks, one array after another on one connection; return how many a second.

    The answers are read and not parsed: a client's own work is not what is measured.
    """
    body = json.dumps([task] * batch).encode()
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc)
    began = time.perf_counter()
    for _ in range(count // batch):
        connection.request("POST", "/api/v1/tasks", body)
        response = connection.getresponse()
        response.read()
        if response.status != HTTPStatus.CREATED:
            raise SystemExit(f"submit was answered with {response.status}")
    seconds = time.perf_counter() - began
    connection.close()
    return count / seconds


def _in_a_process(url: str, requests: int) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_submit_singly, (url, requests))


def _submit_singly(url: str, requests: int) -> float:
    return uvloop.run(_load(url, requests))


async def _load(url: str, requests: int) -> float:
    await asyncio.gather(*(_connection(url, 20) for _ in range(CONNECTIONS)))
    began = time.perf_counter()
    await asyncio.gather(*(_connection(url, requests // CONNECTIONS) for _ in range(CONNECTIONS)))
    return requests / (time.perf_counter() - began)


async def _connection(url: str, requests: int) -> None:
    """One client that sends the next request when the answer to the last has come. As cheap as Python can be."""
    address = urlsplit(url)
    body = json.dumps(TASK).encode()
    request = (
        f"POST /api/v1/tasks HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    for _ in range(requests):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201"):
            raise SystemExit(head.decode())
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
