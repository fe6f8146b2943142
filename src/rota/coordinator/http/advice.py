"""Handlers of placement alone, word for word as clients of dtask-scheduler send and expect it.

They read as that system's decoder does: fields that nobody knows are ignored, ``null`` is a field that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.body import check_item_count, unless_gone
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.errors import RETRY_AFTER
from rota.coordinator.http.render import rfc3339
from rota.core.advisor.demands import Demand
from rota.core.advisor.index import RANKS
from rota.core.advisor.model import TASKS_MAX, AdvisedWorker, Beat, check_wish
from rota.core.errors import BadRequest, BadSpec, TooLarge
from rota.core.spec import PRIORITY_WORDS
from rota.core.tags import TagSyntaxError

__all__ = [
    "ADVISED_MAX",
    "HEARTBEAT_PATH",
    "REQUEST_BYTES_MAX",
    "SCHEDULE_PATH",
    "AcknowledgedJson",
    "AdvisedJson",
    "HeartbeatJson",
    "NoRoomJson",
    "OwnWorkerJson",
    "PlacedJson",
    "ScheduleJson",
    "list_own_workers",
    "schedule_batch",
    "schedule_task",
    "take_heartbeat",
]

HEARTBEAT_PATH: Final = "/api/v1/heartbeat"
SCHEDULE_PATH: Final = "/api/v1/schedule"

REQUEST_BYTES_MAX: Final = 64 << 10
"""Of a heartbeat or a single request, which have 200 bytes."""

ADVISED_MAX: Final = 10_000
"""In one batch: as many as hold up nobody else for more than some 50 ms."""

KINDS_MAX: Final = 64
"""Different tags, resources and placements in one batch: a kind that is new costs a look at each worker."""

WAIT_MS_MAX: Final = 60_000
"""Longer waits are cut to this, as that system does."""

ID_CHARS_MAX: Final = 1_000
ADDRESS_CHARS_MAX: Final = 1_000
TAGS_MAX: Final = 64
TAG_CHARS_MAX: Final = 200
RESOURCES_MAX: Final = 32
AMOUNT_MAX: Final = 10**12
PRIORITY_MAX: Final = 100

T = TypeVar("T")

PLACEMENT_DEFAULT: Final = "least-loaded"
NO_ROOM: Final = "no available worker matching requirements"

Status = Literal["online", "suspicious", "offline"]


class HeartbeatJson(Struct):
    """What a worker says of itself, every 3 s.

    ``timestamp`` is RFC 3339 or seconds since 1970, and not used: clocks differ. ``resources`` is what it has
    free, by name.
    """

    worker_id: str | None = None
    timestamp: datetime | float | None = None
    resource_tags: list[str] | None = None
    max_tasks: int | None = None
    current_tasks: int | None = None
    address: str | None = None
    resources: dict[str, int] | None = None


class AcknowledgedJson(Struct, frozen=True):
    """``ok``."""

    status: str


class ScheduleJson(Struct, gc=False):
    """A task that wants a worker.

    ``max_wait_ms``: wait so long for room, at most 60,000. The rest is ours alone: ``resources`` by name that the
    worker must have free, ``placement`` instead of ``least-loaded``, ``priority`` among those who wait.
    """

    task_id: str | None = None
    required_tags: list[str] | None = None
    max_wait_ms: int | None = None
    resources: dict[str, int] | None = None
    placement: str | None = None
    priority: int | str | None = None


class PlacedJson(Struct, frozen=True, gc=False):
    """The worker that should have the task, which is counted on it already."""

    worker_id: str
    address: str


class NoRoomJson(Struct, frozen=True):
    """Nobody has room, or nobody has what is required."""

    error: str


class AdvisedJson(Struct, frozen=True, gc=False, omit_defaults=True):
    """One task of a batch: its worker, or why there is none."""

    task_id: str
    worker_id: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class OwnWorkerJson(Struct, frozen=True):
    """A worker that is known by its heartbeats."""

    WorkerID: str
    Address: str
    ResourceTags: list[str]
    MaxTasks: int
    CurrentTasks: int
    Available: int
    LastHeartbeat: str
    Status: Status


_heartbeat_decoder = msgspec.json.Decoder(HeartbeatJson)
_schedule_decoder = msgspec.json.Decoder(ScheduleJson)
_batch_decoder = msgspec.json.Decoder(list[ScheduleJson])
_OK: Final = json_answer(200, AcknowledgedJson("ok"))
_NO_ROOM: Final = json_answer(503, NoRoomJson(NO_ROOM), headers=(RETRY_AFTER,))


async def take_heartbeat(call: Call) -> Answer:
    """Take what a worker says of itself."""
    call.advice.heartbeat(_beat(_read(_heartbeat_decoder, call.body)))
    return _OK


async def schedule_task(call: Call) -> Answer:
    """Give a task a worker, at once or when there is room."""
    request = _read(_schedule_decoder, call.body)
    demand = _demand(call, request)
    worker = call.advice.advise(demand)
    if worker is None and (request.max_wait_ms or 0) > 0:
        worker = await _wait(call, request, demand)
    if worker is None:
        return _NO_ROOM
    return json_answer(200, PlacedJson(worker.id, worker.address))


async def schedule_batch(call: Call) -> Answer:
    """Give each of many tasks a worker, at once: by priority, then in their order."""
    check_item_count(call.body, ADVISED_MAX)
    requests = _read(_batch_decoder, call.body)
    _check_batch(requests)
    answers: list[AdvisedJson | None] = [None] * len(requests)
    for index in sorted(range(len(requests)), key=lambda index: -_priority(requests[index])):
        worker = call.advice.advise(_demand(call, requests[index]))
        answers[index] = _advised(requests[index].task_id or "", worker)
    return json_answer(200, answers)


async def list_own_workers(call: Call) -> Answer:
    """List the workers that send heartbeats, in order of their ids."""
    return json_answer(200, [_own_worker(worker, state.value) for worker, state in call.advice.workers()])


# Reading ----------------------------------------------------------------------------------


def _read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not what is expected here: {error}") from None


def _beat(sent: HeartbeatJson) -> Beat:
    worker_id, address, tags = sent.worker_id or "", sent.address or "", sent.resource_tags or []
    max_tasks, current_tasks = sent.max_tasks or 0, sent.current_tasks or 0
    _check_name("worker_id", worker_id)
    if len(address) > ADDRESS_CHARS_MAX or not address.isprintable():
        raise BadRequest(f"address: must be at most {ADDRESS_CHARS_MAX:,} characters, none of them a control character")
    _check_tags("resource_tags", tags)
    for name, number in (("max_tasks", max_tasks), ("current_tasks", current_tasks)):
        if not 0 <= number <= TASKS_MAX:
            raise BadRequest(f"{name}: must be 0 to {TASKS_MAX:,}, got {number}")
    if sent.resources:
        _check_resources(sent.resources)
    return Beat(worker_id, address, frozenset(tags), max_tasks, current_tasks, sent.resources)


def _demand(call: Call, request: ScheduleJson) -> Demand:
    """Check a request and find what it asks for; tags are checked where they are new."""
    _check_fields(request)
    try:
        return call.advice.demand(
            request.required_tags or [], resources=request.resources, placement=request.placement or PLACEMENT_DEFAULT
        )
    except TagSyntaxError as error:
        raise BadSpec("required_tags", str(error)) from None


def _check_fields(request: ScheduleJson, index: int | None = None) -> None:
    if not request.task_id:
        raise BadSpec("task_id", "is empty: name the task", index=index)
    tags = request.required_tags
    if tags is not None and len(tags) > TAGS_MAX:
        raise BadSpec("required_tags", f"at most {TAGS_MAX} tags are taken, got {len(tags)}", index=index)
    if request.resources:
        _check_resources(request.resources, index)
    if request.priority is not None:
        _priority(request, index)
    if request.placement and request.placement not in RANKS:
        raise BadSpec("placement", f"must be one of {', '.join(RANKS)}, got {request.placement!r}", index=index)


def _check_batch(requests: list[ScheduleJson]) -> None:
    """Refuse all if one is wrong: the rest would be counted on workers already."""
    if len(requests) > ADVISED_MAX:
        raise TooLarge(f"{len(requests):,} tasks in one batch: at most {ADVISED_MAX:,} are taken; send several")
    kinds: set[tuple[object, ...]] = set()
    for index, request in enumerate(requests):
        if request.max_wait_ms:
            raise BadSpec("max_wait_ms", "a batch is answered at once: leave it out", index=index)
        _check_fields(request, index)
        tags = tuple(request.required_tags or ())
        kind = (tags, tuple(sorted((request.resources or {}).items())), request.placement)
        if kind not in kinds:
            kinds.add(kind)
            _check_wishes(tags, index)
    if len(kinds) > KINDS_MAX:
        raise TooLarge(f"{len(kinds):,} different kinds of tasks in one batch: at most {KINDS_MAX} are taken")


def _check_wishes(tags: tuple[str, ...], index: int) -> None:
    try:
        for tag in tags:
            check_wish(tag)
    except TagSyntaxError as error:
        raise BadSpec("required_tags", str(error), index=index) from None


def _check_name(field: str, name: str) -> None:
    if not name:
        raise BadRequest(f"{field} is empty: give the worker a name of its own")
    if len(name) > ID_CHARS_MAX or not name.isprintable():
        raise BadRequest(f"{field}: must be at most {ID_CHARS_MAX:,} characters, none of them a control character")


def _check_tags(field: str, tags: list[str]) -> None:
    if len(tags) > TAGS_MAX:
        raise BadRequest(f"{field}: at most {TAGS_MAX} tags are taken, got {len(tags)}")
    for tag in tags:
        if len(tag) > TAG_CHARS_MAX or not tag.isprintable():
            raise BadRequest(f"{field}: a tag has at most {TAG_CHARS_MAX} characters, none of them a control character")


def _check_resources(resources: Mapping[str, int], index: int | None = None) -> None:
    if len(resources) > RESOURCES_MAX:
        raise BadSpec("resources", f"at most {RESOURCES_MAX} are taken, got {len(resources)}", index=index)
    for name, amount in resources.items():
        if not 0 <= amount <= AMOUNT_MAX:
            raise BadSpec("resources", f"{name} must be 0 to {AMOUNT_MAX:,}, got {amount}", index=index)


def _priority(request: ScheduleJson, index: int | None = None) -> int:
    given = request.priority
    if given is None:
        return PRIORITY_WORDS["normal"]
    number = PRIORITY_WORDS.get(given) if isinstance(given, str) else given
    if number is None or not 0 <= number <= PRIORITY_MAX:
        words = ", ".join(filter(None, PRIORITY_WORDS))
        raise BadSpec("priority", f"must be 0 to {PRIORITY_MAX}, or {words}; got {given!r}", index=index)
    return number


# Answering --------------------------------------------------------------------------------


async def _wait(call: Call, request: ScheduleJson, demand: Demand) -> AdvisedWorker | None:
    """Stand in line before anything else happens, and leave it whatever happens."""
    wish = call.advice.queue(demand, priority=_priority(request))
    timeout_s = min(request.max_wait_ms or 0, WAIT_MS_MAX) / 1000
    try:
        return await unless_gone(call.receive, wish.outcome(timeout_s))
    finally:
        call.advice.leave(wish)


def _advised(task_id: str, worker: AdvisedWorker | None) -> AdvisedJson:
    if worker is None:
        return AdvisedJson(task_id, error=NO_ROOM)
    return AdvisedJson(task_id, worker.id, worker.address)


def _own_worker(worker: AdvisedWorker, status: str) -> OwnWorkerJson:
    return OwnWorkerJson(
        WorkerID=worker.id,
        Address=worker.address,
        ResourceTags=sorted(worker.group.tags),
        MaxTasks=worker.max_tasks,
        CurrentTasks=worker.current_tasks,
        Available=max(0, worker.max_tasks - worker.current_tasks),
        LastHeartbeat=rfc3339(worker.heard_at),
        Status=_STATUS[status],
    )


_STATUS: Final[Mapping[str, Status]] = {status: status for status in get_args(Status)}
