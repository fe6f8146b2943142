"""Why a task waits, in JSON: one object with the reason, what each worker lacks, and what would help."""

from __future__ import annotations

from msgspec import Struct

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import StateWord, rfc3339, state_word
from rota.coordinator.service import TaskView
from rota.core.model import Reason, TaskState
from rota.core.why import Nearest, Place, StartRange, Why

__all__ = ["BlockerJson", "ExplainJson", "NearestJson", "PlaceJson", "StartJson", "explain_task"]


class BlockerJson(Struct, frozen=True):
    """What keeps so many workers from taking the task; each worker is counted once, by the first thing it lacks."""

    reason: Reason
    workers: int
    text: str


class NearestJson(Struct, frozen=True):
    """The one change that would let most workers take it: ``resource`` cut down to ``amount``, or without ``tag``."""

    workers: int
    text: str
    resource: str | None
    amount: int | None
    tag: str | None


class PlaceJson(Struct, frozen=True):
    """How many pending tasks go before it, ``of`` so many that wait for a worker."""

    ahead: int
    of: int


class StartJson(Struct, frozen=True):
    """When it may start, as far as run times so far tell, and what that is based on."""

    earliest: str
    latest: str
    basis: str


class ExplainJson(Struct, frozen=True):
    """Where a task stands and why. Only a pending one has a reason; what has nothing to say is null."""

    id: str
    state: StateWord
    text: str
    reason: Reason | None = None
    blockers: list[BlockerJson] = []
    place: PlaceJson | None = None
    nearest: NearestJson | None = None
    start: StartJson | None = None


async def explain_task(call: Call) -> Answer:
    """Say why a task waits, or where it stands."""
    view, why = await call.service.explain(call.path_values["id"])
    return json_answer(200, _explain_json(view, why))


def _explain_json(view: TaskView, why: Why | None) -> ExplainJson:
    task_id, state = view.record.facts.id, state_word(view.record.progress.state)
    if why is None:
        return ExplainJson(task_id, state, _standing(view))
    return ExplainJson(
        task_id,
        state,
        why.text,
        why.reason,
        [BlockerJson(blocker.reason, blocker.workers, blocker.text) for blocker in why.blockers],
        _place(why.place),
        _nearest(why.nearest),
        _start(why.start),
    )


def _standing(view: TaskView) -> str:
    """Where a task stands that does not wait for a worker."""
    progress = view.record.progress
    match progress.state:
        case TaskState.ASSIGNED if view.behind:
            return f"stands in a line on {progress.worker}, behind {view.behind}"
        case TaskState.ASSIGNED:
            return f"is about to start on {progress.worker}"
        case TaskState.RUNNING:
            return f"runs on {progress.worker}, attempt {progress.attempt}"
        case TaskState.COMPLETED:
            return "has completed"
        case TaskState.CANCELLED:
            return "was cancelled"
        case TaskState.FAILED:
            return f"has failed: {progress.cause or 'nobody knows why'}" + (
                f", {progress.message}" if progress.message else ""
            )
        case _:
            return "is about to be looked at"


def _place(place: Place | None) -> PlaceJson | None:
    return None if place is None else PlaceJson(place.ahead, place.of)


def _nearest(near: Nearest | None) -> NearestJson | None:
    return None if near is None else NearestJson(near.workers, near.text, near.resource, near.amount, near.tag)


def _start(start: StartRange | None) -> StartJson | None:
    return None if start is None else StartJson(rfc3339(start.earliest), rfc3339(start.latest), start.basis)
