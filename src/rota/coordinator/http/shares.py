"""Handlers of queues and limits, and what these look like in JSON."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.body import decoded_body
from rota.coordinator.http.endpoint import Call
from rota.coordinator.shares import LimitView, QueueView
from rota.core.errors import BadRequest
from rota.core.names import NAME_RULE, is_name
from rota.core.queues import QueueSettings, check_queue_settings

__all__ = [
    "LIMITS_PATH",
    "QUEUES_PATH",
    "LimitBody",
    "LimitJson",
    "QueueBody",
    "QueueJson",
    "forget_queue",
    "get_limit",
    "get_queue",
    "list_limits",
    "list_queues",
    "pause_queue",
    "put_limit",
    "put_queue",
    "remove_limit",
    "resume_queue",
]

QUEUES_PATH: Final = "/api/v1/queues"
LIMITS_PATH: Final = "/api/v1/limits"

SIZE_MAX: Final = 10**9
"""Of a limit."""


class QueueBody(QueueSettings, frozen=True, forbid_unknown_fields=True):
    """What is to be set of a queue; what is left out has its default."""


class LimitBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How much there is to be of a limit."""

    size: int


class QueueJson(Struct, frozen=True, kw_only=True):
    """A queue: what is set, how many tasks wait for a worker, how many attempts are live, and what these use."""

    name: str
    weight: float
    paused: bool
    max_running: int | None
    max_resources: dict[str, int]
    ordering: str | None
    placement: str | None
    preempts_by: int | None
    pending: int
    running: int
    used: dict[str, int]


class LimitJson(Struct, frozen=True):
    """A limit: how much there is, how much live attempts hold, how many tasks that name it wait for a worker."""

    name: str
    size: int
    used: int
    pending: int


async def list_queues(call: Call) -> Answer:
    """List all queues."""
    return json_answer(200, [_queue_json(view) for view in call.service.shares.queues()])


async def get_queue(call: Call) -> Answer:
    """Return one queue."""
    return json_answer(200, _queue_json(call.service.shares.queue(call.path_values["name"])))


async def put_queue(call: Call) -> Answer:
    """Set a queue."""
    body = decoded_body(call.body, QueueBody)
    return await _set_queue(call, QueueSettings(**asdict(body)))


async def pause_queue(call: Call) -> Answer:
    """Start nothing more of a queue."""
    return await _change_queue(call, paused=True)


async def resume_queue(call: Call) -> Answer:
    """Undo a pause."""
    return await _change_queue(call, paused=False)


async def forget_queue(call: Call) -> Answer:
    """Give a queue the defaults again."""
    name = _checked_name(call)
    call.service.shares.queue(name)
    await call.service.shares.set_queue(name, None)
    return json_answer(200, _queue_json(call.service.shares.queue(name)))


async def list_limits(call: Call) -> Answer:
    """List all limits."""
    return json_answer(200, [_limit_json(view) for view in call.service.shares.limits()])


async def get_limit(call: Call) -> Answer:
    """Return one limit."""
    return json_answer(200, _limit_json(call.service.shares.limit(call.path_values["name"])))


async def put_limit(call: Call) -> Answer:
    """Make a limit, or change how much there is of it."""
    name, size = _checked_name(call), decoded_body(call.body, LimitBody).size
    if not 0 <= size <= SIZE_MAX:
        raise BadRequest(f"size is {size}: it must be 0 to {SIZE_MAX:,}")
    existed = await call.service.shares.set_limit(name, size)
    return json_answer(200 if existed else 201, _limit_json(call.service.shares.limit(name)))


async def remove_limit(call: Call) -> Answer:
    """Remove a limit that no unfinished task names."""
    view = call.service.shares.limit(_checked_name(call))
    await call.service.shares.set_limit(view.name, None)
    return json_answer(200, _limit_json(view))


async def _change_queue(call: Call, *, paused: bool) -> Answer:
    before = call.service.shares.queue(_checked_name(call))
    return await _set_queue(call, replace(before.settings, paused=paused))


async def _set_queue(call: Call, settings: QueueSettings) -> Answer:
    name = _checked_name(call)
    check_queue_settings(settings)
    view, existed = await call.service.shares.set_queue(name, settings)
    assert view is not None
    return json_answer(200 if existed else 201, _queue_json(view))


def _checked_name(call: Call) -> str:
    name = call.path_values["name"]
    if not is_name(name):
        raise BadRequest(f"{name!r} can't be such a name: use {NAME_RULE}")
    return name


def _queue_json(view: QueueView) -> QueueJson:
    return QueueJson(
        name=view.name, **asdict(view.settings), pending=view.pending, running=view.running, used=view.used
    )


def _limit_json(view: LimitView) -> LimitJson:
    return LimitJson(view.name, view.size, view.used, view.pending)
