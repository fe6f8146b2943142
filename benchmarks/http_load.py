"""A load of equal POST requests over 16 connections: by wrk, or by a generator of our own where that is missing."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop

from benchmarks.harness import percentile

__all__ = ["CONNECTIONS", "Load", "parse_wrk", "post_load"]

CONNECTIONS: Final = 16

_UNITS_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What a server did under it."""

    per_second: float
    p99_ms: float
    cpu_us: float = 0.0
    """Of the server's processor time a request: less moved by a busy machine than the rate."""


def post_load(url: str, body: bytes, *, seconds: float, pid: int) -> Load:
    """Post for so long to the server that is process ``pid``; every answer must be 200.

    Raises:
        SystemExit: One was not.
    """
    before = _processor_s(pid)
    load = _load(url, body, seconds)
    return replace(load, cpu_us=(_processor_s(pid) - before) / (load.per_second * seconds) * 1e6)


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _load(url: str, body: bytes, seconds: float) -> Load:
    if shutil.which("wrk") is None:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_own_load, (url, body, seconds))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = {json.dumps(body.decode())}\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency", "-s", script.name, url]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> Load:
    r"""Read what wrk prints.

    >>> parse_wrk("   99%   12.83ms\nRequests/sec:   4213.00\n")
    Load(per_second=4213.0, p99_ms=12.83, cpu_us=0.0)
    """
    if failed := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text):
        raise SystemExit(f"the load was not answered well: {failed[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    if rate is None or late is None:
        raise SystemExit(f"wrk says what is not understood:\n{text}")
    return Load(float(rate[1]), round(float(late[1]) * _UNITS_MS[late[2]], 3))


def _own_load(url: str, body: bytes, seconds: float) -> Load:
    return uvloop.run(_post_for(url, body, seconds))


async def _post_for(url: str, body: bytes, seconds: float) -> Load:
    took: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_connection(url, body, until, took) for _ in range(CONNECTIONS)))
    return Load(len(took) / seconds, percentile(took, 0.99) * 1000)


async def _connection(url: str, body: bytes, until: float, took: list[float]) -> None:
    address = urlsplit(url)
    head = f"POST {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    while (began := time.perf_counter()) < until:
        writer.write(request)
        answer = await reader.readuntil(b"}")
        if b"200" not in answer[:15]:
            raise SystemExit(answer.decode())
        took.append(time.perf_counter() - began)
    writer.close()
