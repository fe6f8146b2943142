"""The coordinator process: takes the state, serves, and leaves in order."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from rota.coordinator.config import CoordinatorConfig
from rota.coordinator.grpc.door import GrpcDoor
from rota.coordinator.house import House
from rota.coordinator.http.protocol import JoiningHttpProtocol
from rota.core.errors import BadSpec, RotaError, StoreError
from rota.core.placement.policies import PolicyFactory, check_placement
from rota.plugins import load_policies
from rota.process.limits import raise_file_limit
from rota.process.logs import set_up_logs

__all__ = ["EXIT_STORE", "EXIT_USAGE", "run", "server_config"]

EXIT_STORE: Final = 75
"""EX_TEMPFAIL: the store can't be used, or was taken; a supervisor may start the process again."""

EXIT_USAGE: Final = 78
"""EX_CONFIG: the port is taken, the settings make no sense."""

SHUTDOWN_S: Final = 5
"""How long open requests may take when the process leaves."""

SWITCH_S: Final = 0.0005
"""The store's thread waits at most so long for the interpreter; with Python's 5 ms a commit would wait longer for it
than for the disk."""

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: ours stop the loop first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(config: CoordinatorConfig) -> int:
    """Run a coordinator until it is told to stop. Returns the exit status of the process."""
    set_up_logs(log_format=config.log_format, level=config.log_level)
    sys.setswitchinterval(SWITCH_S)
    raise_file_limit()  # a socket for each worker and each client
    # A collection looks at everything that was ever made: half a second with a million tasks. What is
    # made once a task is not tracked by the collector; for the rest the house collects when it suits.
    gc.disable()
    try:
        policies = load_policies()
        for option, policy in (("--placement", config.placement), ("--shadow", config.shadow)):
            if policy is not None:
                _check_policy(option, policy, policies)
    except ValueError as error:
        sys.stderr.write(f"rota: {error}\n")
        return EXIT_USAGE
    option, port = "--port", config.port
    try:
        listener = _listen(config.host, port)
        if isinstance(config.grpc_port, int):
            option, port = "--grpc-port", config.grpc_port
            _listen(config.host, port).close()  # gRPC takes it itself, later: a taken one is said now
    except OSError as error:
        where = f"{config.host} port {port}"
        sys.stderr.write(f"rota: can't listen on {where}: {error.strerror}; choose another with --host and {option}\n")
        return EXIT_USAGE
    with listener:
        return uvloop.run(_serve(config, listener, policies))


async def _serve(config: CoordinatorConfig, listener: socket.socket, policies: Mapping[str, PolicyFactory]) -> int:
    seed = config.seed if config.seed is not None else random.SystemRandom().getrandbits(32)
    house = House(config, seed=seed, policies=policies)
    try:
        await house.open(candidate=f"{socket.gethostname()} pid {os.getpid()}")
    except StoreError as error:
        sys.stderr.write(f"rota: {error}\n")
        return EXIT_STORE
    server = _Server(server_config(house.app, channels=house.channel_protocol))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    gc.freeze()  # what is alive now stays, so no collection needs to look at it
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    turning = asyncio.create_task(house.run())
    _say_ready(config, listener)
    door = GrpcDoor(
        config,
        guard=house.guard,
        service=house.service,
        blobs=house.blobs,
        counters=house.counters,
        accept=house.accept_stream,
        watches=house.open_calls,
    )
    calls = asyncio.create_task(door.run())
    try:
        await asyncio.wait(
            [serving, turning, calls, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        return await _leave(house, server, door, running=(serving, turning, calls))
    finally:
        await house.close()


async def _leave(house: House, server: uvicorn.Server, door: GrpcDoor, *, running: Sequence[asyncio.Task[None]]) -> int:
    """Refuse new work, finish the turn under way, tell the workers, and stop serving."""
    log.info("stopping")
    await house.stop()  # returns also when the loop has failed, before or just now
    house.close_sessions("the coordinator is leaving; come back in a moment")
    house.app.stop_streams()
    server.should_exit = True
    door.close()
    await asyncio.wait(running)
    failure = next(filter(None, (task.exception() for task in running)), None)
    if failure is None:
        log.info("stopped")
        return 0
    log.error("coordinator_failed", error=str(failure), exc_info=None if isinstance(failure, RotaError) else failure)
    return EXIT_STORE


def server_config(app: ASGIApp, *, channels: type[asyncio.Protocol] | Literal["none"] = "none") -> uvicorn.Config:
    """How the HTTP server is set up; benchmarks have a bare application under the same."""
    return uvicorn.Config(
        app,
        http=JoiningHttpProtocol,
        ws=channels,
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        backlog=2048,
    )


def _check_policy(option: str, policy: str, known: Mapping[str, PolicyFactory]) -> None:
    try:
        check_placement(policy, known)
    except BadSpec as error:
        raise ValueError(f"{option}: {error.problem}") from None


def _listen(host: str, port: int) -> socket.socket:
    """Take a port before anything else, so that a taken one is said at once."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _say_ready(config: CoordinatorConfig, listener: socket.socket) -> None:
    """One line on standard output that people and supervisors can wait for."""
    port = listener.getsockname()[1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    sys.stdout.write(f"rota coordinator listening on http://{host}:{port}\n")
    sys.stdout.flush()
    log.info("listening", host=config.host, port=port, state_dir=str(config.state_dir), store=config.store)
