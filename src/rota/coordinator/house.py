"""All parts of one coordinator, put together: who knows whom is decided here and nowhere else."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from rota.coordinator.advice import AdviceDesk
from rota.coordinator.clients import ClientDesk
from rota.coordinator.config import CoordinatorConfig
from rota.coordinator.disk import DiskWatch
from rota.coordinator.events import EventHub
from rota.coordinator.gauges import queue_gauges, slots_quarantined, workers_by_state
from rota.coordinator.generator import Generator
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.http.app import HttpApp, build_app
from rota.coordinator.http.guard import Guard, GuardConfig, check_headers
from rota.coordinator.inbox import Inbox
from rota.coordinator.live import LiveService
from rota.coordinator.loop import Loop
from rota.coordinator.marks import MarkBoard
from rota.coordinator.metrics import Counters, Gauges, MetricsPage
from rota.coordinator.performer import LivePerformer
from rota.coordinator.recorder import Recorder
from rota.coordinator.retention import BlobRetention, RetentionService
from rota.coordinator.room import WaitingRoom
from rota.coordinator.sessions import Sessions
from rota.coordinator.tokens import TokenWatch
from rota.coordinator.watches import Watches
from rota.core.config import SchedulerConfig
from rota.core.errors import Forbidden, RotaError, Unauthorized
from rota.core.explain import reasons
from rota.core.placement.guarded import GuardedPolicies
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.process.clock import steady_s, wall_s
from rota.store import open_store
from rota.store.base import Leadership, Store
from rota.store.blobs import BlobStore
from rota.store.logs import LogStore
from rota.wire.channel import ChannelHandler
from rota.wire.handshake import Handshake, Refusal
from rota.wire.messages import COORDINATOR_CODEC, FromPeer, ToPeer
from rota.wire.tokens import TokenFile
from rota.wire.websocket.server import channel_protocol

__all__ = ["House"]

RATES_EVERY_S: Final = 1.0

COLLECT_EVERY_S: Final = 60.0
"""Between collections of cyclic garbage: a closed connection leaves some twenty objects."""

log = structlog.get_logger(__name__)


class House:
    """One coordinator process: `open`, `run`, `stop`, `close`."""

    def __init__(
        self, config: CoordinatorConfig, *, seed: int, policies: Mapping[str, PolicyFactory] = POLICIES
    ) -> None:
        self._config = config
        self._policies = GuardedPolicies(policies, default=config.placement)
        self._core_config = SchedulerConfig(
            heartbeat_s=config.heartbeat_s,
            suspicious_after_s=config.suspicious_after_s,
            offline_after_s=config.offline_after_s,
            grace_s=config.grace_s,
            impossible_after_s=config.impossible_after_s,
            kill_grace_s=config.kill_grace_s,
            placement=config.placement,
            ordering=config.ordering,
            shadow=config.shadow,
            ageing=config.ageing,
            lease_s=config.lease_s,
            lease_grace_s=config.lease_grace_s,
            exclusive_wait_s=config.exclusive_wait_s,
            seed=seed,
        )
        self.guard = Guard(
            GuardConfig(
                host=config.host,
                allowed_hosts=frozenset(config.allow_hosts),
                token=config.token,
                more_tokens=config.more_tokens,
            )
        )
        self._advice = AdviceDesk(self._core_config)
        self._disk = DiskWatch(config.state_dir)
        self._background: list[asyncio.Task[None]] = []
        self.counters = Counters()
        self.open_calls = OpenWatches()
        self.channel_protocol = channel_protocol(self._accept_channel, COORDINATOR_CODEC)

    async def open(self, *, candidate: str) -> None:
        """Take the state, load it and be ready to serve.

        Raises:
            StoreError: The state can't be taken or read; the sentence says why and what to do.
        """
        leadership, logs = await self._take_state(candidate)
        self._recorder = Recorder(self._store, logs, leadership, blobs=self.blobs)
        self._events = EventHub(leadership.number)
        self._retention = RetentionService(self._store, logs, self._config.retention)
        self._blob_retention = BlobRetention(
            self.blobs,
            pinned=self._blobs_in_use,
            bytes_max=self._config.blob_retention_bytes,
            max_age_s=self._config.retention_s,
        )
        self._put_loop_together(leadership)
        self._put_service_together(leadership)
        await self._loop.load(self._performer)

    async def _take_state(self, candidate: str) -> tuple[Leadership, LogStore]:
        """Be the one who leads, with what is kept of tasks, values and output."""
        config = self._config
        self._store: Store = open_store(config.store, config.state_dir, config.durability)
        leadership = await self._store.campaign(candidate)
        self._epoch = leadership.epoch
        is_kept = config.store != "memory"
        self.blobs = BlobStore(config.state_dir / "blobs" if is_kept else None, durable=config.durability == "full")
        await asyncio.to_thread(self.blobs.open)
        logs = LogStore(
            config.state_dir / "logs", bytes_max=config.log_retention_bytes, durable=config.durability == "full"
        )
        # A memory store forgets its tasks: so must the output, under one name for all such clusters.
        cluster = leadership.cluster if is_kept else "memory"
        await asyncio.to_thread(logs.open, cluster=cluster, last_seq=leadership.last_seq)
        return leadership, logs

    def _put_loop_together(self, leadership: Leadership) -> None:
        """The loop, and those who hand it commands and carry out its effects."""
        self._inbox = Inbox()
        self._watches = Watches()
        self._loop = Loop(
            self._inbox,
            self._recorder,
            leadership=leadership,
            config=replace(self._core_config, blob_home=self.blobs.home),
            counters=self.counters,
            on_outage=self.close_sessions,
            policies=self._policies,
        )
        self._clients = ClientDesk(
            self._loop,
            self._store,
            blobs=self.blobs,
            cluster=leadership.cluster,
            room=WaitingRoom(self._loop, tasks_max=self._config.max_pending),
            counters=self.counters,
            policies=self._policies,
        )
        self._marks = MarkBoard(self._loop.find_task, self._events.publish_mark)
        self._sessions = Sessions(self._loop, clients=self._clients, marks=self._marks)
        self._performer = LivePerformer(
            self._inbox,
            self._sessions,
            clients=self._clients,
            marks=self._marks,
            events=self._events,
            watches=self._watches,
            wake_at=self._loop.wake_at,
        )

    def _put_service_together(self, leadership: Leadership) -> None:
        """What people and programs see of it, over HTTP and gRPC."""
        self.service = LiveService(
            self._loop,
            self._recorder,
            events=self._events,
            watches=self._watches,
            leadership=leadership,
            clients=self._clients,
            marks=self._marks,
            metrics=MetricsPage(self.counters, self._gauges).render,
        )
        self.app: HttpApp = build_app(
            self.service,
            guard=self.guard,
            counters=self.counters,
            blobs=self.blobs,
            advice=self._advice,
        )

    async def run(self) -> None:
        """Turn until stopped, with the background services beside.

        Raises:
            StoreError: The process must leave.
        """
        turning = asyncio.create_task(self._loop.run(self._performer))
        beside = [
            self._retention.run(),
            self._blob_retention.run(),
            self._sample_rates(),
            self._advice.run(),
            self._disk.run(),
            _collect_garbage(),
        ]
        if self._config.token_file is not None:
            beside.append(self._watch_tokens(self._config.token_file).run())
        if self._config.workload:
            beside.append(Generator(self.service, seed=self._core_config.seed).run())
        self._background = [turning, *map(asyncio.create_task, beside)]
        # None of them ends by itself: whichever does has failed, and the process with it.
        done, _ = await asyncio.wait(self._background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Refuse new work and finish the turn under way."""
        self._advice.stop()
        await self._loop.stop()
        self._watches.wake_all()

    def close_sessions(self, message: str) -> None:
        """Send all workers and clients away; they come back."""
        self._sessions.close_all(message)

    async def close(self) -> None:
        """Let go of everything."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._recorder.close()

    def accept_stream(self, _handshake: Handshake) -> ChannelHandler[FromPeer, ToPeer] | Refusal:
        """Decide about a channel over gRPC, whose server has checked the token, which is all that there is to check."""
        try:
            self._loop.scheduler()
        except RotaError as error:
            return Refusal(503, error.code, str(error))
        return self._sessions.make()

    def _accept_channel(self, handshake: Handshake) -> ChannelHandler[FromPeer, ToPeer] | Refusal:
        try:
            check_headers(self.guard, handshake.headers, path=handshake.path, scheme=handshake.scheme)
        except Forbidden as error:
            return Refusal(403, error.code, str(error))
        except Unauthorized as error:
            return Refusal(401, error.code, str(error))
        return self.accept_stream(handshake)

    def _watch_tokens(self, path: Path) -> TokenWatch:
        return TokenWatch(
            TokenFile(path),
            use=self.guard.use_tokens,
            on_withdrawal=self._ask_for_tokens_again,
        )

    def _ask_for_tokens_again(self) -> None:
        """End all that may have been opened with a token that is taken no longer."""
        self.close_sessions("a token was withdrawn: come back with one that is taken")
        self.app.end_streams()
        self.open_calls.end_open()

    async def _sample_rates(self) -> None:
        while True:
            self.service.sample_rates()
            await asyncio.sleep(RATES_EVERY_S)

    def _blobs_in_use(self) -> set[str] | None:
        return None if self._loop.turn is None else self._loop.turn.scheduler.state.blobs_in_use()

    def _gauges(self) -> Gauges:
        """Look up what the metrics page shows as of now, and bring the core's counts over to it."""
        counts, counters = self._loop.counts, self.counters
        counters.tasks_submitted = counts.accepted
        counters.tasks_completed = counts.completed
        counters.tasks_cancelled = counts.cancelled
        counters.tasks_failed.update(counts.failed)
        counters.attempts_started = counts.attempts_assigned
        counters.attempts_lost = counts.attempts_lost
        fires = {
            "fired": counts.calendar_fired,
            "skipped": counts.calendar_skipped,
            "missed": counts.calendar_missed,
        }
        counters.calendar_fires.update(fires)
        counters.results_dropped_stale = counts.reports_stale
        counters.placement_policies_failed = len(self._policies.failures)
        counters.workers_lost, counters.blackouts = counts.workers_lost, counts.blackouts
        state = self._loop.turn.scheduler.state if self._loop.turn is not None else None
        waiting = reasons(state) if state is not None else {}
        return Gauges(
            tasks_pending=waiting,
            tasks_active=len(state.tasks) - sum(waiting.values()) if state is not None else 0,
            workers=workers_by_state(state) if state is not None else {},
            capacity=state.cluster.capacity() if state is not None else {},
            used=state.cluster.used() if state is not None else {},
            loop_lag_s=self._loop.lag_s,
            event_listeners=self._events.listeners,
            clients=len(self._clients),
            calendars=len(state.calendars) if state is not None else 0,
            blobs=self.blobs.count,
            blob_bytes=self.blobs.total_bytes,
            epoch=self._epoch,
            own_workers=self._advice.count_by_state(),
            own_waiting=self._advice.waiting,
            is_ready=self._loop.is_serving,
            queues=queue_gauges(state, now=steady_s(), wall=wall_s()) if state is not None else [],
            slots_quarantined=slots_quarantined(state) if state is not None else 0,
            state_bytes=self._disk.used_bytes,
            free_bytes=self._disk.free_bytes(),
        )


async def _collect_garbage() -> None:
    """Do now and then what the automatic collector does at the worst moment. What was there at the start is frozen."""
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        gc.collect()
