"""A bare ASGI application under the coordinator's own server: what a request costs before we do anything.

``python -m benchmarks.bare_asgi`` prints its address and serves until it is ended.
"""

from __future__ import annotations

import gc
import socket
import sys

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from rota.coordinator.main import SWITCH_S, server_config

ANSWER = b'{"worker_id":"worker-00001","address":"10.0.0.1:9000"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer with as much as `POST /schedule` does."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        listener.setblocking(False)
        print(f"bare application listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvloop.run(uvicorn.Server(server_config(answer)).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
