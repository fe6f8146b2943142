"""The worker's process beside a coordinator played by the test: refusals, farewells, failures inside it."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from rota.core.model import Epoch, LaneId, TaskId, TaskSeq
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Assign,
    Assignment,
    Heartbeat,
    Hello,
    Leaving,
    Refused,
    Report,
    ReportAck,
    Usage,
    Welcome,
)
from rota.core.spec import TaskSpec, encode_spec
from rota.wire.channel import CloseCode, Transport
from rota.wire.handshake import Refusal
from rota.wire.messages import FromPeer, ToPeer
from tests.support.channels import TRANSPORTS, CoordinatorEnd, Recorder, serve_channels
from tests.support.processes import RunningProcess
from tests.support.real_cluster import Gate
from tests.support.waiting import wait_until_async

Session = Recorder[FromPeer, ToPeer]
T = TypeVar("T")

HEARTBEAT_S = 0.1


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    found: Transport = request.param
    return found


def addresses(end: CoordinatorEnd) -> list[str]:
    """The options that tell a worker where the coordinator is."""
    if end.transport == "websocket":
        return [f"--server={end.url}"]
    return ["--transport=grpc", f"--grpc-server={end.url}"]


@contextmanager
def start_worker(folder: Path, end: CoordinatorEnd, *, prelude: str = "") -> Iterator[RunningProcess]:
    """Start a worker, killed in the end: to leave properly it would need answers from the loop that waits for it.

    ``prelude`` is Python that sees its main module as ``main``.
    """
    script = f"from rota.worker import main\n{prelude}\nfrom rota.cli.main import main\nmain()"
    arguments = ["worker", "--id=w1", *addresses(end), "--log-format=json"]
    with RunningProcess([sys.executable, "-c", script, *arguments], log_path=folder / "w1.log") as process:
        try:
            yield process
        finally:
            process.kill()


async def next_session(end: CoordinatorEnd, number: int) -> Session:
    """The worker's channel of this number, once its hello is there."""
    await wait_until_async(lambda: len(end.sessions) >= number, what=f"channel {number}")
    session = end.sessions[number - 1]
    await session.wait_for_messages(1)
    assert isinstance(session.messages[0], Hello)
    return session


def hello_of(session: Session) -> Hello:
    hello = session.messages[0]
    assert isinstance(hello, Hello)
    return hello


async def welcome(end: CoordinatorEnd, number: int = 1) -> Session:
    session = await next_session(end, number)
    session.line.send(Welcome(PROTOCOL_VERSION, "c1", Epoch(1), HEARTBEAT_S, []))
    return session


async def first(session: Session, kind: type[T], *, such: Callable[[T], bool] = lambda _: True) -> T:
    def find() -> T | None:
        return next((one for one in session.messages if isinstance(one, kind) and such(one)), None)

    await wait_until_async(lambda: find() is not None, what=f"a {kind.__name__}")
    found = find()
    assert found is not None
    return found


async def run_shell(session: Session, shell: str) -> None:
    """Give the worker a task and wait until it runs."""
    spec = encode_spec(TaskSpec(shell=shell))
    session.line.send(Assign(Epoch(1), [Assignment(TaskSeq(1), 1, LaneId(1), 1, TaskId("t1"), spec)]))
    await first(session, Report, such=lambda report: bool(report.started))


async def comes_again(end: CoordinatorEnd, worker: RunningProcess, number: int) -> bool:
    """Wait until the worker opens this channel, or has left instead."""
    await wait_until_async(
        lambda: len(end.sessions) >= number or not worker.is_running(), what=f"channel {number} or the end"
    )
    return worker.is_running()


async def wait_for_exit(worker: RunningProcess) -> int:
    await wait_until_async(lambda: not worker.is_running(), what="the end of the worker")
    assert worker.return_code is not None
    return worker.return_code


async def test_heartbeats_go_on_where_nobody_can_say_how_busy_the_machine_is(
    tmp_path: Path, transport: Transport
) -> None:
    prelude = "import psutil\ndef fail(*_): raise OSError('no /proc')\npsutil.cpu_percent = fail"
    async with serve_channels(transport) as end:
        with start_worker(tmp_path, end, prelude=prelude) as worker:
            session = await welcome(end)
            assert (await first(session, Heartbeat)).usage == Usage()
            beats = len(session.messages)
            await session.wait_for_messages(beats + 2)
            assert worker.output().count("usage_unknown") == 1


async def test_a_worker_that_can_beat_no_more_ends_loudly(tmp_path: Path, transport: Transport) -> None:
    prelude = "def fail(): raise RuntimeError('no time left')\nmain.wall_s = fail"
    async with serve_channels(transport) as end:
        with start_worker(tmp_path, end, prelude=prelude) as worker:
            await welcome(end)
            assert await wait_for_exit(worker) == 1
            assert "RuntimeError: no time left" in worker.output()


async def test_refused_for_good_a_worker_stays_until_what_it_runs_has_ended(
    tmp_path: Path, transport: Transport
) -> None:
    refusal = Refused("protocol_version", "run the same version", retryable=False)
    async with serve_channels(transport) as end:
        with (
            Gate(tmp_path / "gate") as gate,
            start_worker(tmp_path, end, prelude="main.HOPELESS_PAUSE_S = 0.05") as worker,
        ):
            session = await welcome(end)
            await run_shell(session, gate.shell)
            session.line.close(code=CloseCode.RESTARTING, reason="upgrade")
            for number in (2, 3):
                session = await next_session(end, number)
                assert [(held.task, held.started) for held in hello_of(session).holds] == [(1, True)]
                session.line.send(refusal)
            gate.open()
            number = 3
            while await comes_again(end, worker, number + 1):
                number += 1
                (await next_session(end, number)).line.send(refusal)
            assert worker.return_code == 69
            assert worker.output().count("refused_for_good") == 1


async def test_a_worker_that_was_never_welcome_leaves_at_once(tmp_path: Path, transport: Transport) -> None:
    async with serve_channels(transport) as end:
        with start_worker(tmp_path, end) as worker:
            session = await next_session(end, 1)
            session.line.send(Refused("protocol_version", "run the same version", retryable=False))
            assert await wait_for_exit(worker) == 69
            assert "run the same version" in worker.output()


async def test_a_worker_that_has_left_waits_for_no_other_try(tmp_path: Path, transport: Transport) -> None:
    prelude = "import os\nmain.reconnect_delay_s = lambda *_: os._exit(3)"
    async with serve_channels(transport) as end:
        with start_worker(tmp_path, end, prelude=prelude) as worker:
            session = await welcome(end)
            worker.send_signal(signal.SIGTERM)
            await first(session, Leaving)
            session.line.close(code=CloseCode.NORMAL, reason="left")
            assert await wait_for_exit(worker) == 0


async def test_the_farewell_counts_from_when_nothing_runs_and_nobody_is_there(
    tmp_path: Path, transport: Transport
) -> None:
    farewell_s, pause_s = 1.5, 0.05
    prelude = f"main.FAREWELL_S, main.LEAVING_PAUSE_S = {farewell_s}, {pause_s}"
    async with serve_channels(transport) as end:
        with Gate(tmp_path / "gate") as gate, start_worker(tmp_path, end, prelude=prelude) as worker:
            session = await welcome(end)
            await run_shell(session, gate.shell)
            worker.send_signal(signal.SIGTERM)
            await first(session, Leaving)
            end.decide = lambda: Refusal(503, "unavailable", "starting")
            session.line.close(code=CloseCode.RESTARTING, reason="restart")
            tries = len(end.handshakes) + int(farewell_s / pause_s) + 2
            await wait_until_async(lambda: len(end.handshakes) >= tries, what="tries for longer than a farewell")
            gate.open()
            await wait_until_async(lambda: "results_wait" in worker.output(), what="the word about it")
            end.decide = Recorder
            session = await welcome(end, 2)
            assert hello_of(session).ended == [(1, 1)]
            report = await first(session, Report, such=lambda report: bool(report.ended))
            session.line.send(ReportAck(report.number))
            assert await wait_for_exit(worker) == 0
            assert "results_lost" not in worker.output()


async def test_a_worker_that_nobody_hears_leaves_in_the_end(tmp_path: Path, transport: Transport) -> None:
    async with serve_channels(transport) as end:
        with Gate(tmp_path / "gate") as gate, start_worker(tmp_path, end, prelude="main.FAREWELL_S = 0.2") as worker:
            session = await welcome(end)
            await run_shell(session, gate.shell)
            worker.send_signal(signal.SIGTERM)
            await first(session, Leaving)
            end.decide = lambda: Refusal(503, "unavailable", "starting")
            session.line.close(code=CloseCode.RESTARTING, reason="restart")
            gate.open()
            assert await wait_for_exit(worker) == 0
            assert "results_lost" in worker.output()


async def test_a_worker_may_open_all_files_that_it_is_allowed_to_and_its_tasks_as_before(
    tmp_path: Path, transport: Transport
) -> None:
    prelude = "import resource\nhard = resource.getrlimit(7)[1]\nresource.setrlimit(7, (200, hard))"
    assert resource.RLIMIT_NOFILE == 7
    async with serve_channels(transport) as end:
        with start_worker(tmp_path, end, prelude=prelude) as worker:
            session = await welcome(end)
            soft, hard = psutil.Process(worker.pid).rlimit(psutil.RLIMIT_NOFILE)
            assert soft == min(hard, 1 << 20)
            spec = encode_spec(TaskSpec(shell="ulimit -Sn"))
            session.line.send(Assign(Epoch(1), [Assignment(TaskSeq(1), 1, LaneId(1), 1, TaskId("t1"), spec)]))
            report = await first(session, Report, such=lambda report: bool(report.ended))
            assert report.ended[0].stdout == b"200\n"
