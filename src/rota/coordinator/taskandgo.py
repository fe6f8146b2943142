"""TaskAndGo's words for Rota's tasks, so that its users need not change theirs.

The same for gRPC's `scheduler.Scheduler` and for ``POST /submit-task``. Both are lenient where TaskAndGo is: whatever
``data`` is, it is accepted, and fails when it is to start; a priority that is no word of ours counts as normal, and
stays on the task as a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from rota.coordinator.service import NodeView, Service, TaskView
from rota.core.checks import check_request, parse_task_id
from rota.core.errors import BadSpec, Conflict, NotFound
from rota.core.model import TaskSeq, TaskState, WorkerState
from rota.core.spec import PRIORITY_WORDS, TaskRequest, decode_spec
from rota.store.base import TaskQuery

__all__ = [
    "LISTED_MAX",
    "PARENT_LABEL",
    "PRIORITY_LABEL",
    "ListedTask",
    "NodeLoad",
    "list_newest",
    "list_usage",
    "status_of_task",
    "submit_subtask",
    "submit_task",
]

LISTED_MAX: Final = 1000
"""Tasks in one list, which has no pages: what one look at the store gives."""

LISTED_DATA_BYTES_MAX: Final = 2 << 20
"""Of all ``data`` in one list: clients take 4 MiB, and there is more in it than data."""

PARENT_LABEL: Final = "parent"
"""Of a subtask: the id of its parent."""

PRIORITY_LABEL: Final = "priority"
"""What was given as priority, if it is none that we know."""

LABEL_CHARS_MAX: Final = 200
"""Of what is kept as a label, as of every label."""

_STATUS_WORDS: Final[Mapping[TaskState, str]] = {
    TaskState.PENDING: "QUEUED",
    TaskState.ASSIGNED: "QUEUED",
    TaskState.RUNNING: "RUNNING",
    TaskState.COMPLETED: "COMPLETED",
    TaskState.FAILED: "FAILED",
    TaskState.CANCELLED: "CANCELLED",
}
_WORD_OF_PRIORITY: Final = {10: "low", 50: "medium", 90: "high", 100: "critical"}


class ListedTask(Struct, frozen=True):
    """A task in TaskAndGo's words; ``progress`` is 0 to 100."""

    task_id: str
    priority: str
    data: str
    status: str
    progress: int


class NodeLoad(Struct, frozen=True):
    """How busy the machine of a worker is, in whole percent of all that it has."""

    name: str
    cpu_percent: int
    memory_percent: int


async def submit_task(service: Service, *, task_id: str, priority: str, data: str) -> str:
    """Accept a task; return its id. An empty ``task_id`` gets one.

    Raises:
        Conflict: There is one of this id: ``Task X already exists``.
        BadRequest: The id, or another field, is wrong; says which.
        TooLarge: The data is over 1 MiB.
        Overloaded, Unavailable: As `Service.submit`.
    """
    _check_id("task_id", task_id)
    number, labels = _read_priority(priority)
    request = TaskRequest(id=task_id or None, data=data, priority=number, labels=labels)
    return await _submit(service, request, called=f"Task {task_id}")


async def submit_subtask(service: Service, *, subtask_id: str, parent_id: str, data: str) -> str:
    """Accept a task that names another as its parent, known or not; return its id. Raises as `submit_task` does."""
    _check_id("subtask_id", subtask_id)
    labels = {PARENT_LABEL: parent_id} if parent_id else {}
    _check_text("parent_task_id", parent_id)
    request = TaskRequest(id=subtask_id or None, data=data, labels=labels)
    return await _submit(service, request, called=f"Subtask {subtask_id}")


async def status_of_task(service: Service, task_id: str) -> str | None:
    """Return the word for where a task stands, or ``None`` if there is no such task."""
    try:
        view = await service.get(task_id)
    except NotFound:
        return None
    return _STATUS_WORDS[view.record.progress.state]


async def list_newest(service: Service) -> list[ListedTask]:
    """Return the newest tasks, newest first, at most `LISTED_MAX`.

    ``data`` is empty for what is no snippet, and for the rest once `LISTED_DATA_BYTES_MAX` of it is listed.
    """
    listed: list[ListedTask] = []
    bytes_left = LISTED_DATA_BYTES_MAX
    before: TaskSeq | None = None
    while True:
        views, before = await service.history(TaskQuery(limit=LISTED_MAX - len(listed), before=before))
        for view in views:
            task = _listed(view, bytes_left)
            bytes_left -= len(task.data.encode())
            listed.append(task)
        if before is None or len(listed) >= LISTED_MAX:
            return listed


async def list_usage(service: Service) -> list[NodeLoad]:
    """Return the load of each worker that is there and has said it, in order of their ids."""
    views = await service.nodes()
    return [load for view in views if view.state is not WorkerState.OFFLINE and (load := _load(view)) is not None]


async def _submit(service: Service, request: TaskRequest, *, called: str) -> str:
    check_request(request, takes_any_data=True)
    try:
        views = await service.submit([request], is_array=False, must_be_new=True)
    except Conflict as error:
        raise Conflict(f"{called} already exists") from error
    return views[0].record.facts.id


def _check_id(field: str, task_id: str) -> None:
    """Check an id that was chosen, and name it as its user does."""
    if task_id:
        try:
            parse_task_id(task_id)
        except BadSpec as error:
            raise BadSpec(field, error.problem) from error


def _read_priority(text: str) -> tuple[int, dict[str, str]]:
    """The number that a word or a number stands for, and the labels that keep what is neither.

    >>> _read_priority("HIGH"), _read_priority("7"), _read_priority(""), _read_priority("urgent")
    ((90, {}), (7, {}), (50, {}), (50, {'priority': 'urgent'}))
    """
    word = text.strip().lower()
    if word in PRIORITY_WORDS:
        return PRIORITY_WORDS[word], {}
    if word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 100:
        return int(word), {}
    _check_text("priority", text)
    return PRIORITY_WORDS["normal"], {PRIORITY_LABEL: text}


def _check_text(field: str, text: str) -> None:
    """See that a text can be a label."""
    if len(text) > LABEL_CHARS_MAX:
        raise BadSpec(field, f"has {len(text)} characters: at most {LABEL_CHARS_MAX}")
    if not text.isprintable():
        raise BadSpec(field, "has control characters")


def _listed(view: TaskView, data_bytes_max: int) -> ListedTask:
    facts, state = view.record.facts, view.record.progress.state
    spec = decode_spec(facts.spec)
    data = spec.data or ""
    return ListedTask(
        task_id=facts.id,
        priority=spec.labels.get(PRIORITY_LABEL) or _WORD_OF_PRIORITY.get(facts.priority, str(facts.priority)),
        data=data if len(data.encode()) <= data_bytes_max else "",
        status=_STATUS_WORDS[state],
        progress=100 if state is TaskState.COMPLETED else _percent_done(view),
    )


def _percent_done(view: TaskView) -> int:
    """What a running task says of itself; nothing said is 0."""
    if view.mark is None or view.mark.fraction is None:
        return 0
    return _percent(view.mark.fraction * 100.0)


def _load(view: NodeView) -> NodeLoad | None:
    usage = view.usage
    if usage is None:
        return None
    memory = 100.0 * usage.memory_used_mib / usage.memory_total_mib if usage.memory_total_mib else 0.0
    return NodeLoad(view.id, _percent(usage.cpu_percent), _percent(memory))


def _percent(amount: float) -> int:
    return round(min(max(amount, 0.0), 100.0))
