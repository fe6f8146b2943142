"""Workers of somebody's own, as many as wanted: ``python -m benchmarks.own_workers URL COUNT`` sends their heartbeats.

They go over a few connections, evenly over time, each worker every 3 s. It says on its standard output when every
worker has been heard once, and goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

__all__ = ["EVERY_S", "heartbeat_of"]

EVERY_S: Final = 3.0
CONNECTIONS: Final = 8
TAGS: Final = (["gpu", "cuda-12.0"], ["gpu", "cuda-11.8", "a100"], ["cpu-64core"], ["cpu-64core", "ssd"])
MAX_TASKS: Final = 10_000
"""So many that 20,000 tasks a second don't fill them up between two heartbeats."""


def heartbeat_of(number: int) -> bytes:
    """What a worker sends, with the fields and the time as Go writes them."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "123Z")
    fields = {
        "worker_id": f"worker-{number:05}",
        "timestamp": now,
        "resource_tags": TAGS[number % len(TAGS)],
        "max_tasks": MAX_TASKS,
        "current_tasks": number % 10,
        "address": f"10.0.{number // 250}.{number % 250}:9000",
    }
    return json.dumps(fields, separators=(",", ":")).encode()


async def _send(url: str, numbers: range, first_round: asyncio.Event) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /api/v1/heartbeat HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: "
    began = time.monotonic()
    for beat in range(sys.maxsize):
        body = heartbeat_of(numbers[beat % len(numbers)])
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"}")
        if b"200" not in answer[:15]:
            raise SystemExit(answer.decode())
        if beat >= len(numbers):  # the first round goes as quickly as it can
            first_round.set()
            due = began + (beat - len(numbers)) * EVERY_S / len(numbers)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        else:
            began = time.monotonic()


async def _run(url: str, count: int) -> None:
    rounds = [asyncio.Event() for _ in range(CONNECTIONS)]
    senders = [
        asyncio.create_task(_send(url, range(first, count, CONNECTIONS), heard)) for first, heard in enumerate(rounds)
    ]
    for heard in rounds:
        await heard.wait()
    print("all are known", flush=True)
    await asyncio.gather(*senders)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))
