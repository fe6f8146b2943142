"""Handlers of workers, which the API calls nodes, and what they look like in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import UNSET, Struct, UnsetType

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import rfc3339
from rota.coordinator.service import NodeKind, NodeView
from rota.core.errors import Conflict, NotFound
from rota.core.model import WorkerState
from rota.core.protocol import Usage

__all__ = [
    "GpuJson",
    "NodeJson",
    "UsageJson",
    "drain_node",
    "forget_node",
    "get_node",
    "list_nodes",
    "node_json",
    "resume_node",
]


class GpuJson(Struct, frozen=True):
    """One device; ``memory`` in MiB, 0 where it is not known."""

    memory: int
    model: str


class UsageJson(Struct, frozen=True):
    """How busy the machine is, as its worker last said; memory in MiB."""

    cpu_percent: float
    memory_used: int
    memory_total: int
    load_1m: float


class NodeJson(Struct, frozen=True, kw_only=True):
    """A worker: what it offers, what of that is reserved, and how it is. ``last_seen`` is in seconds ago.

    ``kind`` is ``rota``, or ``placement-only`` for one that is known by its heartbeats: tasks of Rota's never go there.

    ``python`` is the version under which functions run, ``packages`` those that are installed there; lists leave
    them out.
    """

    id: str
    kind: NodeKind
    state: WorkerState
    drained: bool
    addr: str
    host: str
    pid: int
    version: str
    instance: str
    kinds: list[str]
    tags: list[str]
    resources: dict[str, int]
    used: dict[str, int]
    gpus: list[GpuJson]
    python: str | None
    max_tasks: int
    tasks: int
    quarantined_slots: int
    registered_at: str
    last_seen: float | None
    usage: UsageJson | None
    packages: dict[str, str] | UnsetType = UNSET


async def list_nodes(call: Call) -> Answer:
    """List all known workers: ours, then those of others, each in order of their ids."""
    views = [*await call.service.nodes(), *call.advice.nodes()]
    return json_answer(200, [node_json(view, is_listed=True) for view in views])


async def get_node(call: Call) -> Answer:
    """Return one worker."""
    node_id = call.path_values["id"]
    for view in await call.service.nodes():
        if view.id == node_id:
            return json_answer(200, node_json(view))
    own = call.advice.find_node(node_id)
    if own is None:
        raise NotFound(f"no worker is called {node_id!r}")
    return json_answer(200, node_json(own))


async def drain_node(call: Call) -> Answer:
    """Give a worker nothing new."""
    return await _set_drained(call, call.service.drain)


async def resume_node(call: Call) -> Answer:
    """Undo a drain."""
    return await _set_drained(call, call.service.resume)


async def forget_node(call: Call) -> Answer:
    """Strike off a worker that is gone; what it had runs elsewhere."""
    node_id = call.path_values["id"]
    try:
        return json_answer(200, node_json(await call.service.forget(node_id)))
    except NotFound:
        if call.advice.find_node(node_id) is None:
            raise
        raise Conflict(
            f"{node_id!r} is a worker of your own, known by its heartbeats: it is forgotten once they stop"
        ) from None


async def _set_drained(call: Call, change: Callable[[str], Awaitable[NodeView]]) -> Answer:
    node_id = call.path_values["id"]
    try:
        return json_answer(200, node_json(await change(node_id)))
    except NotFound:
        if call.advice.find_node(node_id) is None:
            raise
        raise Conflict(
            f"{node_id!r} is a worker of your own, known by its heartbeats: let it say max_tasks 0 instead"
        ) from None


def node_json(view: NodeView, *, is_listed: bool = False) -> NodeJson:
    """Render a worker; in a list without its packages. Sets are sorted, so that two looks at it can be compared."""
    offer = view.offer
    return NodeJson(
        id=view.id,
        kind=view.kind,
        state=view.state,
        drained=view.drained,
        addr=offer.addr,
        host=offer.host,
        pid=offer.pid,
        version=offer.version,
        instance=view.instance,
        kinds=sorted(offer.kinds),
        tags=sorted(offer.tags),
        resources=dict(offer.resources),
        used=view.used,
        gpus=[GpuJson(gpu.memory_mib, gpu.model) for gpu in offer.gpus],
        python=offer.python or None,
        max_tasks=offer.max_tasks,
        tasks=view.tasks,
        quarantined_slots=view.quarantined_slots,
        registered_at=rfc3339(view.registered_at),
        last_seen=view.last_seen_s,
        usage=_usage(view.usage) if view.usage is not None else None,
        packages=UNSET if is_listed else dict(sorted(offer.packages.items())),
    )


def _usage(usage: Usage) -> UsageJson:
    return UsageJson(usage.cpu_percent, usage.memory_used_mib, usage.memory_total_mib, usage.load_1m)
