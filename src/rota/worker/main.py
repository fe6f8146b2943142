"""The worker process: offers what its machine has, runs what it is given, and comes back for as long as it takes."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog
import uvloop

from rota.core.agent import Agent
from rota.core.agent_commands import BeatDue, HurryUp, LeaveWished
from rota.core.model import WorkerId
from rota.core.protocol import Usage
from rota.process.clock import steady_s, wall_s
from rota.process.limits import raise_file_limit
from rota.process.logs import set_up_logs
from rota.wire.backoff import reconnect_delay_s
from rota.wire.channel import ChannelError
from rota.wire.tokens import TokenFile
from rota.worker.blobs import BlobShelf
from rota.worker.builds import GoBuilds
from rota.worker.cache import CacheDir
from rota.worker.config import WorkerConfig
from rota.worker.dialling import carrier, dialler
from rota.worker.environments import EnvironmentStore
from rota.worker.farewell import Farewell
from rota.worker.machine import UsageSampler
from rota.worker.offer import make_offer
from rota.worker.scratch import ScratchFolder
from rota.worker.shell import AgentShell
from rota.worker.slots.base import Stock
from rota.worker.slots.pool import SlotPool
from rota.worker.toolchain import find_go

__all__ = ["EXIT_REFUSED", "run"]

EXIT_REFUSED: Final = 69
"""EX_UNAVAILABLE: the coordinator will never take this worker as it is (a wrong token, another version)."""

CONNECT_TIMEOUT_S: Final = 10.0

SILENCE_BEATS: Final = 3
"""Heartbeats without any answer after which the channel is thought dead and opened anew."""

FAREWELL_S: Final = 60.0
"""How long a worker that is done waits for a coordinator that it can't reach, to hand over its last results.

As long as a coordinator that has just started waits before it gives a silent worker up (its ``--grace``).
"""

HURRIED_FAREWELL_S: Final = 10.0
"""The same for one that was told twice to leave: somebody waits for it."""

HOPELESS_PAUSE_S: Final = 30.0
"""Between two tries of a worker that is refused for good but still runs tasks: somebody may put it right."""

LEAVING_PAUSE_S: Final = 0.5
"""Between two tries of a worker that is about to leave, at most."""

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
        go = find_go(os.environ)
        self._offer = make_offer(config, go=go)
        self._agent = Agent(WorkerId(config.id), instance=uuid.uuid4().hex, offer=self._offer)
        self._shell = AgentShell(self._agent)
        self._cache = CacheDir(config.cache_dir)
        self._blobs = BlobShelf(cache=self._cache, bytes_max=config.cache_limit_bytes, transfer=carrier(config))
        self._environments = EnvironmentStore(self._cache)
        self._scratch = ScratchFolder(self._cache)
        self._builds = GoBuilds(self._cache, go) if go is not None else None
        self._pool = SlotPool(
            events=self._shell,
            worker_id=config.id,
            has_gpus=bool(self._offer.gpus),
            output_limit_bytes=config.output_limit_bytes,
            scratch_limit_mib=None if config.scratch_limit_bytes is None else config.scratch_limit_bytes >> 20,
            file_limit=raise_file_limit(),
            stock=Stock(self._blobs, self._environments, self._scratch, self._builds),
        )
        self._blobs.protect(self._pool.blobs_in_use)
        self._scratch.protect(self._pool.has)
        if self._builds is not None:
            self._builds.protect(self._pool.blobs_in_use)
        self._shell.use(self._pool, self._blobs)
        self._dial = dialler(config, timeout_s=CONNECT_TIMEOUT_S)
        self._token_file = TokenFile(config.token_file) if config.token_file is not None else None
        self._rng = random.Random()
        self._leaving = asyncio.Event()
        self._signals = 0
        self._tries = 0
        self._last_problem = ""
        self._farewell = Farewell()
        self._sampler: UsageSampler | None = None
        self._can_sample = True

    async def run(self) -> int:
        """Serve until told to leave, or refused for good."""
        await self._pool.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        gc.collect()
        gc.freeze()
        resources = dict(self._offer.resources)
        server = self._config.channel_url
        log.info("worker_started", id=self._config.id, server=server, pid=os.getpid(), **resources)
        staying, beating = asyncio.create_task(self._stay_connected()), asyncio.create_task(self._beat())
        cleaning = asyncio.create_task(self._scratch.keep_clean())
        try:
            await asyncio.wait((staying, beating), return_when=asyncio.FIRST_COMPLETED)
            if beating.done():  # it never ends by itself, and a worker that doesn't beat is given up
                beating.result()
            return await staying
        finally:
            beating.cancel()
            staying.cancel()
            cleaning.cancel()
            self._environments.close()
            await self._pool.close(kill=True)
            await self._blobs.close()
            self._cache.close()

    async def _stay_connected(self) -> int:
        while not self._may_go():
            refusal = await self._serve_once()
            if refusal is not None and not (self._shell.was_welcome and self._agent.holds):
                sys.stderr.write(f"rota: {refusal}\n")
                return EXIT_REFUSED
            if refusal is not None:
                self._tell("refused_for_good", refusal, running=self._agent.holds, next_try_s=HOPELESS_PAUSE_S)
            if self._agent.is_done:
                continue  # it may go: whoever stops it need not wait for a pause before a try that never comes
            self._tries += 1
            await self._pause(reconnect_delay_s(self._tries, self._rng) if refusal is None else HOPELESS_PAUSE_S)
        log.info("worker_left")
        return 0

    async def _serve_once(self) -> str | None:
        """Be connected, if that succeeds, until the channel is lost; return why no other try can succeed, if so."""
        await self._look_at_token()
        try:
            await self._dial(self._shell)
        except ChannelError as error:
            if not error.retryable and not self._shell.was_welcome:
                return str(error)
            self._tell("not_connected", str(error))
            return None
        await self._until_lost()
        if self._shell.is_welcome:
            self._tries, self._last_problem = 0, ""
            self._farewell.begin_anew()
        return self._shell.final_refusal

    async def _look_at_token(self) -> None:
        """Show the token that is in the file now. One that can't be read changes nothing."""
        try:
            if self._token_file is None or not self._token_file.look():
                return
        except (OSError, ValueError) as error:
            self._tell("token_kept", str(error))
            return
        self._config = replace(self._config, token=self._token_file.tokens[0])
        self._dial = dialler(self._config, timeout_s=CONNECT_TIMEOUT_S)
        await self._blobs.use_transfer(carrier(self._config))
        log.info("token_changed")

    def _tell(self, event: str, problem: str, **more: object) -> None:
        """Log a problem once, not once for each try."""
        if problem != self._last_problem:
            log.warning(event, error=problem, **more)
            self._last_problem = problem

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

    def _may_go(self) -> bool:
        """Without a channel: whether to leave instead of opening one."""
        if self._agent.is_done:
            return True
        if not self._leaving.is_set() or self._agent.holds:
            return False
        at_most_s = FAREWELL_S if self._signals == 1 else HURRIED_FAREWELL_S
        if not self._farewell.has_begun:
            log.warning("results_wait", hint="for a coordinator that can't be reached", at_most_s=at_most_s)
        is_over = self._farewell.is_over(steady_s(), at_most_s=at_most_s)
        if is_over:
            log.error("results_lost", hint="no coordinator has come back: what they are of will run again")
        return is_over

    async def _pause(self, seconds: float) -> None:
        """Wait for the next try; not long once the worker is about to leave."""
        if self._leaving.is_set():
            await asyncio.sleep(min(seconds, LEAVING_PAUSE_S))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._leaving.wait()

    async def _beat(self) -> None:
        while True:
            every_s = self._agent.heartbeat_s
            await asyncio.sleep(every_s * self._rng.uniform(1 - BEAT_JITTER, 1.0))
            self._shell.do(BeatDue(wall_s(), self._sample()))

    def _sample(self) -> Usage:
        """How busy the machine is; nothing where it can't be found out: to beat matters more."""
        try:
            self._sampler = self._sampler or UsageSampler()
            return self._sampler.sample()
        except Exception:
            if self._can_sample:
                log.exception("usage_unknown")
            self._can_sample = False
            return Usage()

    def _on_signal(self) -> None:
        """First: finish what runs and leave. Again: stop what runs, which will run elsewhere."""
        self._signals += 1
        if self._signals == 1:
            self._leaving.set()
            log.info("leaving", running=self._agent.holds, hint="again to stop what runs")
            self._shell.do(LeaveWished())
        else:
            log.info("stopping_tasks", running=self._agent.holds)
            self._shell.do(HurryUp(HURRY_GRACE_S))
