"""Handlers of tasks: parse, call the service, render."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from rota.coordinator.http.answers import TEXT_TYPE, Answer, Stream, json_answer
from rota.coordinator.http.body import check_item_count, unless_gone, unless_gone_by_and_by
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.logs import text_of_logs
from rota.coordinator.http.query import next_page_link
from rota.coordinator.http.render import attempt_json, find_current_attempt, task_json
from rota.core.checks import LABELS_MAX
from rota.core.errors import BadRequest, NotFound
from rota.core.model import StreamName, TaskSeq, TaskState, WorkerId
from rota.core.requests import parse_requests
from rota.store.base import TaskQuery

__all__ = [
    "TASKS_MAX",
    "TASKS_PATH",
    "WAIT_S_MAX",
    "ListQuery",
    "LogsQuery",
    "WaitQuery",
    "cancel_task",
    "get_task",
    "list_attempts",
    "list_tasks",
    "read_logs",
    "retry_task",
    "submit_tasks",
]

TASKS_PATH: Final = "/api/v1/tasks"

TASKS_MAX: Final = 10_000
"""In one request: as many as one commit writes without holding up the requests behind it."""

WAIT_S_MAX: Final = 300.0
"""Of one request: longer ones are cut by proxies; ask again instead."""

PAGE_TASKS_MAX: Final = 1000
SEQ_MAX: Final = 2**63 - 1
"""Of a sequence number, since it is a key of 64 bits in every store."""

_STATES: Final = {state.word: state for state in TaskState}

Moment = Annotated[datetime, Meta(tz=True)]


class WaitQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to wait for the end."""

    wait: Annotated[float, Meta(ge=0, le=WAIT_S_MAX, description="Answer when it has ended, or after so many s.")] = 0.0


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which tasks to list: every condition that is given must hold."""

    state: Annotated[list[str], Meta(description="One of these states; repeated, or with commas between.")] = []
    queue: Annotated[str, Meta(description="In this queue.")] | UnsetType = UNSET
    name: Annotated[str, Meta(description="Of this name; a prefix if it ends in *.")] | UnsetType = UNSET
    label: Annotated[list[str], Meta(description="With this label: key:value or key=value; may be repeated.")] = []
    worker: Annotated[str, Meta(description="Whose current attempt is on this worker.")] | UnsetType = UNSET
    since: Annotated[Moment, Meta(description="Created then or later (RFC 3339).")] | UnsetType = UNSET
    until: Annotated[Moment, Meta(description="Created before then (RFC 3339).")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=PAGE_TASKS_MAX, description="At most so many.")] = 100
    cursor: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="From the Link header of a page.")] | UnsetType = UNSET


class LogsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which output."""

    follow: Annotated[bool, Meta(description="Go on until the task has ended, over retries.")] = False
    stream: Annotated[StreamName, Meta(description="Only this one; both if not said.")] | UnsetType = UNSET
    attempt: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="Of this attempt; the current one if not said.")] | (
        UnsetType
    ) = UNSET


async def submit_tasks(call: Call) -> Answer:
    """Accept one task or an array."""
    check_item_count(call.body, TASKS_MAX)
    requests, is_array = parse_requests(call.body, tasks_max=TASKS_MAX)
    views = await unless_gone_by_and_by(call.receive, call.service.submit(requests, is_array=is_array))
    if is_array:
        return json_answer(201, [task_json(view) for view in views])
    task = task_json(views[0])
    return json_answer(201, task, headers=((b"location", f"{TASKS_PATH}/{task.id}".encode()),))


async def list_tasks(call: Call) -> Answer:
    """List tasks, newest first."""
    views, next_before = await call.service.history(_task_query(call.query_as(ListQuery)))
    tasks = [task_json(view, is_listed=True) for view in views]
    if next_before is None:
        return json_answer(200, tasks)
    link = next_page_link(TASKS_PATH, call.scope["query_string"], cursor=next_before)
    return json_answer(200, tasks, headers=((b"link", link),))


async def get_task(call: Call) -> Answer:
    """Return a task, at once or when it has ended."""
    task_id, wait_s = call.path_values["id"], call.query_as(WaitQuery).wait
    if wait_s:
        view = await unless_gone(call.receive, call.service.wait(task_id, wait_s))
    else:
        view = await call.service.get(task_id)
    return json_answer(200, task_json(view))


async def cancel_task(call: Call) -> Answer:
    """Wish the end of a task."""
    view, had_ended = await call.service.cancel(call.path_values["id"])
    return json_answer(200 if had_ended else 202, task_json(view))


async def retry_task(call: Call) -> Answer:
    """Bring back a task that failed or was cancelled."""
    return json_answer(200, task_json(await call.service.retry(call.path_values["id"])))


async def list_attempts(call: Call) -> Answer:
    """List the attempts of a task, oldest first, the current one last."""
    view = await call.service.get(call.path_values["id"])
    records = await call.service.attempts(call.path_values["id"])
    current = find_current_attempt(view.record.progress, superseded=records)
    attempts = [attempt_json(record) for record in records]
    return json_answer(200, [*attempts, current] if current is not None else attempts)


async def read_logs(call: Call) -> Answer | Stream:
    """Send the output of a task, as it was written."""
    query = call.query_as(LogsQuery)
    view = await call.service.get(call.path_values["id"])
    attempt = query.attempt if query.attempt is not UNSET else None
    if attempt is not None and attempt > view.record.progress.attempt:
        raise NotFound(f"task {view.record.facts.id} has no attempt {attempt}: {view.record.progress.attempt} so far")
    call.streams.check_room()
    stream = query.stream if query.stream is not UNSET else None
    chunks = call.service.logs(view, attempt=attempt, stream=stream, follow=query.follow)
    return Stream(chunks if query.follow else await text_of_logs(chunks), (TEXT_TYPE,))


def _task_query(query: ListQuery) -> TaskQuery:
    return TaskQuery(
        states=_states(query.state) if query.state else None,
        queue=query.queue if query.queue is not UNSET else None,
        name=query.name if query.name is not UNSET else None,
        labels=_labels(query.label),
        worker=WorkerId(query.worker) if query.worker is not UNSET else None,
        since=query.since.timestamp() if query.since is not UNSET else None,
        until=query.until.timestamp() if query.until is not UNSET else None,
        before=TaskSeq(query.cursor) if query.cursor is not UNSET else None,
        limit=query.limit,
    )


def _states(given: list[str]) -> frozenset[TaskState]:
    words = [word for text in given for word in text.split(",")]
    for word in words:
        if word not in _STATES:
            raise BadRequest(f"query parameter state: {word!r} is not one of {', '.join(_STATES)}", code="bad_query")
    return frozenset(_STATES[word] for word in words)


def _labels(given: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    if len(given) > LABELS_MAX:  # no task has more, and each is a condition for the store
        raise BadRequest(f"query parameter label: is there {len(given)} times: at most {LABELS_MAX}", code="bad_query")
    for text in given:
        # The first sign of either kind parts key and value, so that a value may have more of them.
        at = min((place for place in (text.find(":"), text.find("=")) if place > 0), default=0)
        if not at:
            raise BadRequest(f"query parameter label: write key:value or key=value, not {text!r}", code="bad_query")
        if labels.setdefault(text[:at], text[at + 1 :]) != text[at + 1 :]:
            raise BadRequest(f"query parameter label: {text[:at]!r} can't have two values", code="bad_query")
    return labels
