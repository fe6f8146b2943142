"""Handlers that are about the coordinator itself: is it there, is it ready, how much is there to do."""

from __future__ import annotations

from msgspec import Struct

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import StateWord, state_word
from rota.coordinator.service import Stats
from rota.core.errors import Unavailable
from rota.core.model import Reason, WorkerState
from rota.core.shadow import ShadowReport

__all__ = ["HealthJson", "StatsJson", "get_stats", "is_alive", "is_ready", "read_metrics", "stats_json"]


class HealthJson(Struct, frozen=True):
    """One word: ``ok`` or ``ready``."""

    status: str


class StatsJson(Struct, frozen=True, kw_only=True):
    """Counts: of tasks and workers by state, of waiting tasks by reason; ``rates`` a second over the last 10 s.

    ``shadow`` is what the policy of ``--shadow`` would have done since the start of the coordinator, or ``null``.
    """

    tasks: dict[StateWord, int]
    reasons: dict[Reason, int]
    nodes: dict[WorkerState, int]
    capacity: dict[str, int]
    used: dict[str, int]
    rates: dict[str, float]
    uptime: float
    version: str
    cluster: str
    epoch: int
    shadow: ShadowReport | None = None


async def is_alive(call: Call) -> Answer:  # noqa: ARG001 - all handlers are called alike
    """Say that the process lives and its loop turns."""
    return json_answer(200, HealthJson("ok"))


async def is_ready(call: Call) -> Answer:
    """Say whether tasks are accepted now."""
    if not call.service.is_ready():
        raise Unavailable(
            "no tasks are accepted now: the coordinator starts, stops or lost its store", code="not_ready"
        )
    return json_answer(200, HealthJson("ready"))


async def read_metrics(call: Call) -> Answer:
    """Send the Prometheus page."""
    page, content_type = call.service.metrics_text()
    return Answer(200, page, ((b"content-type", content_type.encode()),))


async def get_stats(call: Call) -> Answer:
    """Return counts."""
    return json_answer(200, stats_json(await call.service.stats()))


def stats_json(stats: Stats) -> StatsJson:
    """Render the counts, states by their words."""
    return StatsJson(
        tasks={state_word(state): count for state, count in stats.tasks.items()},
        reasons=stats.reasons,
        nodes=stats.nodes,
        capacity=stats.capacity,
        used=stats.used,
        rates=stats.rates,
        uptime=stats.uptime_s,
        version=stats.version,
        cluster=stats.cluster,
        epoch=stats.epoch,
        shadow=stats.shadow,
    )
