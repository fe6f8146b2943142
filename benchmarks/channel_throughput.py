"""What the channel costs: assignments out and ends back, against the same bytes in bare length-prefixed TCP.

A coordinator in this process, a worker in a second one, both on uvloop. The coordinator sends messages of
100 small assignments, the worker answers each with a report of their 100 ends. All
transports encode and decode the same messages, so the ratio is what WebSocket, uvicorn's port and the Channel
port cost, or gRPC. Round trips have one message of one assignment under way, throughput has several. On a machine
that does other work only the processor time means something, here that of the coordinator: gRPC has threads of its
own, and who has more of them is given more of a busy machine.

Run: python benchmarks/channel_throughput.py [--seconds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import uvicorn
import uvloop
from grpc import aio

from rota.coordinator.grpc.handlers import Contract, generic_handler
from rota.coordinator.metrics import Counters
from rota.core.model import Epoch, LaneId, TaskId, TaskSeq
from rota.core.protocol import Assign, Assignment, Ended, FromCoordinator, FromWorker, Report
from rota.v1 import channel_pb2
from rota.wire.channel import Channel, ChannelError
from rota.wire.grpc import client as grpc_client
from rota.wire.grpc.server import SERVER_OPTIONS, ChannelService
from rota.wire.messages import COORDINATOR_CODEC, WORKER_CODEC, FromPeer, ToPeer
from rota.wire.websocket.client import connect
from rota.wire.websocket.server import channel_protocol

TASKS_A_MESSAGE: Final = 100
MESSAGES_UNDER_WAY: Final = 8
"""800 tasks: about what a worker's lines hold."""

ROUND_TRIPS: Final = 3000
ROUNDS: Final = 3
"""Of each transport, in turn, so that a disturbance of the machine meets both; the best round counts."""

SPEC: Final = b"\x81\xa7command\x91\xa4true"
_LENGTH: Final = struct.Struct("!I")

Send = Callable[[FromCoordinator], None]


def assign_of(count: int) -> Assign:
    attempts = [Assignment(TaskSeq(seq), 1, LaneId(seq % 64), seq, TaskId(f"t{seq}"), SPEC) for seq in range(count)]
    return Assign(Epoch(1), attempts)


def answer(message: FromCoordinator, number: int) -> Report:
    """What a worker that has done everything at once would report."""
    assert isinstance(message, Assign)
    ended = [Ended(a.task, a.attempt, None, exit_code=0, started_at=1.0, ended_at=2.0) for a in message.attempts]
    return Report(number=number, ended=ended)


class Load:
    """The coordinator's side of the measurement, whatever carries the messages."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._send: Send
        self._expect = Awaited()
        self.tasks_a_second = 0.0
        self.cpu_s_a_task = 0.0
        self.round_trip_s = 0.0

    def arrived(self, message: FromPeer) -> None:
        assert isinstance(message, Report)
        self._expect.arrived(len(message.ended))

    async def run(self, send: Send) -> None:
        self._send = send
        await self._throughput(0.2)
        self.round_trip_s = await self._round_trip()
        self.tasks_a_second = await self._throughput(self._seconds)

    async def _throughput(self, seconds: float) -> float:
        message = assign_of(TASKS_A_MESSAGE)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        tasks = 0
        for _ in range(MESSAGES_UNDER_WAY):
            self._send(message)
        while (elapsed_s := time.perf_counter() - started_s) < seconds:
            done = await self._expect.some()
            for _ in range(done // TASKS_A_MESSAGE):
                self._send(message)
            tasks += done
        self.cpu_s_a_task = (time.process_time() - started_cpu_s) / tasks
        under_way = MESSAGES_UNDER_WAY * TASKS_A_MESSAGE
        while under_way:
            under_way -= await self._expect.some()
        return tasks / elapsed_s

    async def _round_trip(self) -> float:
        message = assign_of(1)
        times_s = []
        for _ in range(ROUND_TRIPS):
            started_s = time.perf_counter()
            self._send(message)
            await self._expect.some()
            times_s.append(time.perf_counter() - started_s)
        return statistics.median(times_s)


class Awaited:
    """Counts tasks that came back, and wakes the one who waits for some."""

    def __init__(self) -> None:
        self._done = 0
        self._waiter: asyncio.Future[None] | None = None

    def arrived(self, count: int) -> None:
        self._done += count
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def some(self) -> int:
        if not self._done:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        done, self._done = self._done, 0
        return done


# The channel ----------------------------------------------------------------------------------


class CoordinatorHandler:
    def __init__(self, load: Load, ready: asyncio.Future[Channel[ToPeer]]) -> None:
        self._load = load
        self._ready = ready

    def opened(self, channel: Channel[ToPeer]) -> None:
        self._ready.set_result(channel)

    def received(self, messages: list[FromPeer]) -> None:
        for message in messages:
            self._load.arrived(message)

    def closed(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(reason))


class WorkerHandler:
    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.gone_for = ""
        self._channel: Channel[FromWorker]
        self._number = 0

    def opened(self, channel: Channel[FromWorker]) -> None:
        self._channel = channel

    def received(self, messages: list[FromCoordinator]) -> None:
        for message in messages:
            self._number += 1
            self._channel.send(answer(message, self._number))

    def closed(self, reason: str) -> None:
        self.gone_for = reason
        self.gone.set()


async def _no_app(scope: dict[str, Any], receive: object, send: object) -> None:
    raise NotImplementedError(scope["type"])


async def channel_coordinator(listener: socket.socket, load: Load) -> None:
    ready: asyncio.Future[Channel[ToPeer]] = asyncio.get_running_loop().create_future()
    protocol = channel_protocol(lambda _: CoordinatorHandler(load, ready), COORDINATOR_CODEC)
    server = uvicorn.Server(uvicorn.Config(_no_app, ws=protocol, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await load.run((await ready).send)
    server.should_exit = True
    await serving


async def channel_worker(port: int) -> None:
    handler = WorkerHandler()
    await connect(f"http://127.0.0.1:{port}", handler, codec=WORKER_CODEC, token=None, timeout_s=5.0)
    await handler.gone.wait()


# The channel over gRPC ------------------------------------------------------------------------


async def grpc_coordinator(listener: socket.socket, load: Load) -> None:
    port = listener.getsockname()[1]
    listener.close()  # gRPC listens by itself
    ready: asyncio.Future[Channel[ToPeer]] = asyncio.get_running_loop().create_future()
    channels = ChannelService(lambda _: CoordinatorHandler(load, ready), COORDINATOR_CODEC)
    contract = Contract(channel_pb2.DESCRIPTOR.services_by_name["Channel"], channels, is_raw=True)
    server = aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((generic_handler(contract, Counters()),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await load.run((await ready).send)
    channels.close_all()
    await server.stop(5.0)


async def grpc_worker(port: int) -> None:
    handler = WorkerHandler()
    for _ in range(100):
        try:
            await grpc_client.connect(
                f"grpc://127.0.0.1:{port}", handler, codec=WORKER_CODEC, token=None, timeout_s=5.0
            )
        except ChannelError:  # the server is not there yet
            await asyncio.sleep(0.05)
        else:
            await handler.gone.wait()
            return


# Bare TCP -------------------------------------------------------------------------------------


class Frames(asyncio.Protocol):
    """Length-prefixed frames, and nothing else."""

    def __init__(self, arrived: Callable[[bytes], None]) -> None:
        self._arrived = arrived
        self._buffer = bytearray()
        self.transport: asyncio.Transport
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            end = start + _LENGTH.size + _LENGTH.unpack_from(buffer, start)[0]
            if end > len(buffer):
                break
            self._arrived(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]

    def send(self, frame: bytes) -> None:
        self.transport.write(_LENGTH.pack(len(frame)) + frame)


async def tcp_coordinator(listener: socket.socket, load: Load) -> None:
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    frames = Frames(lambda frame: load.arrived(COORDINATOR_CODEC.decode(frame)))
    await loop.connect_accepted_socket(lambda: frames, connection)
    await load.run(lambda message: frames.send(COORDINATOR_CODEC.encode(message)))
    frames.transport.close()
    await frames.gone.wait()


async def tcp_worker(port: int) -> None:
    number = 0

    def arrived(frame: bytes) -> None:
        nonlocal number
        number += 1
        frames.send(WORKER_CODEC.encode(answer(WORKER_CODEC.decode(frame), number)))

    frames = Frames(arrived)
    await asyncio.get_running_loop().create_connection(lambda: frames, "127.0.0.1", port)
    await frames.gone.wait()


# The measurement ------------------------------------------------------------------------------

Coordinator = Callable[[socket.socket, Load], Awaitable[None]]
Worker = Callable[[int], Awaitable[None]]
TRANSPORTS: Final[dict[str, tuple[Coordinator, Worker]]] = {
    "bare TCP": (tcp_coordinator, tcp_worker),
    "WebSocket": (channel_coordinator, channel_worker),
    "gRPC": (grpc_coordinator, grpc_worker),
}


def run_worker(name: str, port: int) -> None:
    async def main() -> None:
        await TRANSPORTS[name][1](port)

    uvloop.run(main())


def measure(name: str, seconds: float) -> Load:
    async def main() -> Load:
        load = Load(seconds)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            worker = multiprocessing.get_context("spawn").Process(
                target=run_worker, args=(name, listener.getsockname()[1]), daemon=True
            )
            worker.start()
            await TRANSPORTS[name][0](listener, load)
            await asyncio.get_running_loop().run_in_executor(None, worker.join)
        return load

    return uvloop.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of throughput a round (default: 2)")
    seconds = parser.parse_args().seconds
    rounds = [{name: measure(name, seconds) for name in TRANSPORTS} for _ in range(ROUNDS)]
    best_tasks = {name: max(done[name].tasks_a_second for done in rounds) for name in TRANSPORTS}
    best_trip_s = {name: min(done[name].round_trip_s for done in rounds) for name in TRANSPORTS}
    least_cpu_s = {name: min(done[name].cpu_s_a_task for done in rounds) for name in TRANSPORTS}
    for name in TRANSPORTS:
        print(
            f"{name:<9} {best_tasks[name]:>10,.0f} tasks/s   {least_cpu_s[name] * 1e6:5.2f} µs of a processor a task"
            f"   round trip, median {best_trip_s[name] * 1e6:6.0f} µs"
        )
    for one, other in (("WebSocket", "bare TCP"), ("gRPC", "bare TCP"), ("gRPC", "WebSocket")):
        tasks, cpu, trip = (best[one] / best[other] for best in (best_tasks, least_cpu_s, best_trip_s))
        print(f"{one} to {other}: {tasks:.2f} of the tasks, processor {cpu:.2f}, round trip {trip:.2f}")


if __name__ == "__main__":
    main()
