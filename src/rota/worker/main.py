"""The worker process: offers what its machine has, runs what it is given, and comes back for as long as it takes."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import uuid
from typing import Final

import structlog
import uvloop

from rota.core.agent import Agent, BeatDue, HurryUp, LeaveWished
from rota.core.model import WorkerId
from rota.process.clock import steady_s, wall_s
from rota.process.limits import raise_file_limit
from rota.process.logs import set_up_logs
from rota.wire.backoff import reconnect_delay_s
from rota.wire.channel import ChannelError
from rota.wire.messages import WORKER_CODEC
from rota.wire.websocket.client import connect
from rota.worker.config import WorkerConfig
from rota.worker.machine import UsageSampler
from rota.worker.offer import make_offer
from rota.worker.shell import AgentShell
from rota.worker.slots.pool import SlotPool

__all__ = ["EXIT_REFUSED", "run"]

EXIT_REFUSED: Final = 69
"""EX_UNAVAILABLE: the coordinator will never take this worker as it is (a wrong token, another version)."""

CONNECT_TIMEOUT_S: Final = 10.0

SILENCE_BEATS: Final = 3
"""Heartbeats without any answer after which the channel is thought dead and opened anew."""

FAREWELL_S: Final = 10.0
"""How long a worker that is done waits for a coordinator that it can't reach, to hand over its last results."""

HURRY_GRACE_S: Final = 5.0
"""From SIGTERM to SIGKILL for tasks that are stopped because the worker is told twice to leave."""

BEAT_JITTER: Final = 0.2

log = structlog.get_logger(__name__)


def run(config: WorkerConfig) -> int:
    """Run a worker until it is told to leave. Returns the exit status of the process."""
    set_up_logs(log_format=config.log_format, level=config.log_level)
    return uvloop.run(_Process(config).run())


class _Process:
    """One agent process from start to end."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._offer = make_offer(config)
        self._agent = Agent(WorkerId(config.id), instance=uuid.uuid4().hex, offer=self._offer)
        self._shell = AgentShell(self._agent)
        self._pool = SlotPool(
            events=self._shell,
            worker_id=config.id,
            has_gpus=bool(self._offer.gpus),
            output_limit_bytes=config.output_limit_bytes,
            file_limit=raise_file_limit(),
        )
        self._shell.use(self._pool)
        self._rng = random.Random()
        self._leaving = asyncio.Event()
        self._signals = 0

    async def run(self) -> int:
        """Serve until told to leave, or refused for good."""
        await self._pool.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        gc.collect()
        gc.freeze()
        resources = dict(self._offer.resources)
        log.info("worker_started", id=self._config.id, server=self._config.server, pid=os.getpid(), **resources)
        beating = asyncio.create_task(self._beat())
        try:
            return await self._stay_connected()
        finally:
            beating.cancel()
            await self._pool.close(kill=True)

    async def _stay_connected(self) -> int:
        attempt = 0
        last_problem = ""
        while not await self._may_go():
            try:
                await connect(
                    self._config.server,
                    self._shell,
                    codec=WORKER_CODEC,
                    token=self._config.token,
                    timeout_s=CONNECT_TIMEOUT_S,
                    ca_file=self._config.ca_file,
                )
            except ChannelError as error:
                if not error.retryable and not self._shell.was_welcome:
                    sys.stderr.write(f"rota: {error}\n")
                    return EXIT_REFUSED
                if str(error) != last_problem:  # once for each new problem, not once for each try
                    log.warning("not_connected", error=str(error))
                    last_problem = str(error)
            else:
                await self._until_lost()
                if self._shell.final_refusal is not None:
                    sys.stderr.write(f"rota: {self._shell.final_refusal}\n")
                    return EXIT_REFUSED
                attempt, last_problem = (0, "") if self._shell.was_welcome else (attempt, last_problem)
            attempt += 1
            await self._pause(reconnect_delay_s(attempt, self._rng))
        log.info("worker_left")
        return 0

    async def _until_lost(self) -> None:
        """Return when the channel is gone, closing it when the worker is done and may go."""
        while not self._shell.lost.is_set():
            if self._agent.is_done:
                self._shell.hang_up("the worker has left")
            try:
                async with asyncio.timeout(0.2 if self._leaving.is_set() else 1.0):
                    await self._shell.lost.wait()
            except TimeoutError:
                self._check_silence()

    def _check_silence(self) -> None:
        """Close a channel on which nothing is answered: the other side may be gone without a word."""
        silent_s = steady_s() - self._shell.answered_at
        if silent_s > SILENCE_BEATS * max(1.0, self._agent.heartbeat_s):
            self._shell.hang_up(f"nothing was answered for {silent_s:.0f} s")

    async def _may_go(self) -> bool:
        if self._agent.is_done:
            return True
        if not self._leaving.is_set() or self._agent.holds:
            return False
        # Nothing runs, but results wait for a coordinator that can't be reached.
        return steady_s() - self._left_at > FAREWELL_S

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
                await asyncio.sleep(min(seconds, 0.2))
        except TimeoutError:
            pass

    async def _beat(self) -> None:
        sampler = UsageSampler()
        while True:
            every_s = self._agent.heartbeat_s
            await asyncio.sleep(every_s * self._rng.uniform(1 - BEAT_JITTER, 1.0))
            self._shell.do(BeatDue(wall_s(), sampler.sample()))

    def _on_signal(self) -> None:
        """First: finish what runs and leave. Again: stop what runs, which will run elsewhere."""
        self._signals += 1
        if self._signals == 1:
            self._left_at = steady_s()
            self._leaving.set()
            log.info("leaving", running=self._agent.holds, hint="again to stop what runs")
            self._shell.do(LeaveWished())
        else:
            log.info("stopping_tasks", running=self._agent.holds)
            self._shell.do(HurryUp(HURRY_GRACE_S))
