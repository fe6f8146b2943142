"""The service `rota.v1.Rota`: each RPC parses, calls one method of the coordinator's service, and renders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from rota.coordinator.events import is_event_id
from rota.coordinator.grpc.errors import CallContext
from rota.coordinator.grpc.specs import read_spec
from rota.coordinator.grpc.views import STATE_NAMES, event_message, node_message, task_message
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.http.streams import close_iterator
from rota.coordinator.http.tasks import PAGE_TASKS_MAX, SEQ_MAX, TASKS_MAX, WAIT_S_MAX
from rota.coordinator.service import Event, Service
from rota.core.checks import LABELS_MAX
from rota.core.errors import BadRequest, BadSpec, NotFound, TooLarge
from rota.core.model import StreamName, TaskSeq, TaskState, WorkerId
from rota.core.spec import TaskRequest
from rota.store.base import TaskQuery
from rota.v1 import rota_pb2, task_pb2

__all__ = ["RotaService"]

PAGE_BYTES_MAX: Final = 2 << 20
"""Of the tasks on one page: clients take 4 MiB, and the last one may have 1 MiB by itself."""

PAGE_TASKS_DEFAULT: Final = 100
SPECS_A_STEP: Final = 500
"""Read before others have their turn: some milliseconds."""

EVENTS_A_STEP: Final = 500
"""Passed over before others have their turn: who comes back for one task may have a hundred thousand to skip."""

WATCHED_TASKS_MAX: Final = 1000
WATCHED_TYPES_MAX: Final = 100

_STATE_OF_NUMBER: Final = {task_pb2.TaskState.Value(name): state for state, name in STATE_NAMES.items()}

_STREAM_OF_NUMBER: Final[Mapping[int, StreamName | None]] = {
    rota_pb2.OUTPUT_STREAM_UNSPECIFIED: None,
    rota_pb2.OUTPUT_STREAM_STDOUT: "stdout",
    rota_pb2.OUTPUT_STREAM_STDERR: "stderr",
}


class RotaService:
    """Implements the contract ``proto/rota/v1/rota.proto``."""

    def __init__(self, service: Service, watches: OpenWatches) -> None:
        self._service = service
        self._open = watches

    async def SubmitTasks(  # noqa: N802 - the name of the RPC
        self, request: rota_pb2.SubmitTasksRequest, _context: CallContext
    ) -> rota_pb2.SubmitTasksResponse:
        if not request.tasks:
            raise BadRequest("there are no tasks: send at least one")
        if len(request.tasks) > TASKS_MAX:
            raise TooLarge(f"{len(request.tasks):,} tasks: at most {TASKS_MAX:,} are taken; send several requests")
        requests = await _read_specs(request)
        views = await self._service.submit(requests, is_array=True)
        return rota_pb2.SubmitTasksResponse(ids=[view.record.facts.id for view in views])

    async def GetTask(  # noqa: N802 - the name of the RPC
        self, request: rota_pb2.GetTaskRequest, _context: CallContext
    ) -> rota_pb2.GetTaskResponse:
        if not 0.0 <= request.wait <= WAIT_S_MAX:
            raise BadSpec("wait", f"is {request.wait:g} seconds: it must be 0 to {WAIT_S_MAX:g}; ask again instead")
        if request.wait:
            view = await self._service.wait(request.id, request.wait)
        else:
            view = await self._service.get(request.id)
        return rota_pb2.GetTaskResponse(task=task_message(view))

    async def ListTasks(  # noqa: N802 - the name of the RPC
        self, request: rota_pb2.ListTasksRequest, _context: CallContext
    ) -> rota_pb2.ListTasksResponse:
        views, next_before = await self._service.history(_task_query(request))
        tasks: list[task_pb2.Task] = []
        bytes_left = PAGE_BYTES_MAX
        for view in views:
            task = task_message(view, is_listed=True)
            bytes_left -= task.ByteSize()
            if bytes_left < 0 and tasks:
                next_before = views[len(tasks) - 1].record.facts.seq
                break
            tasks.append(task)
        return rota_pb2.ListTasksResponse(tasks=tasks, next_cursor="" if next_before is None else str(next_before))

    async def CancelTask(  # noqa: N802 - the name of the RPC
        self, request: rota_pb2.CancelTaskRequest, _context: CallContext
    ) -> rota_pb2.CancelTaskResponse:
        view, had_ended = await self._service.cancel(request.id)
        return rota_pb2.CancelTaskResponse(task=task_message(view), had_ended=had_ended)

    async def ReadLogs(  # noqa: N802 - the name of the RPC
        self, request: rota_pb2.ReadLogsRequest, context: CallContext
    ) -> None:
        stream = _stream(request.stream)
        view = await self._service.get(request.id)
        attempts = view.record.progress.attempt
        if not 0 <= request.attempt <= attempts:
            raise NotFound(f"task {request.id} has no attempt {request.attempt}: {attempts} so far")
        async with self._open.one_more():
            chunks = self._service.logs(view, attempt=request.attempt or None, stream=stream, follow=request.follow)
            try:
                async for chunk in chunks:
                    if chunk:
                        await context.write(rota_pb2.ReadLogsResponse(data=chunk))
            finally:
                await close_iterator(chunks)

    async def WatchEvents(  # noqa: N802 - the name of the RPC
        self, request: rota_pb2.WatchEventsRequest, context: CallContext
    ) -> None:
        wanted = _EventFilter(request)
        async with self._open.one_more():
            events = self._service.events(request.after or None)
            try:
                await context.send_initial_metadata(())  # so that the client knows that we listen
                passed_over = 0
                async for event in events:
                    if event is not None and wanted.takes(event):
                        await context.write(event_message(event))
                        continue
                    passed_over += 1
                    if passed_over % EVENTS_A_STEP == 0:
                        await asyncio.sleep(0)
            finally:
                await close_iterator(events)

    async def ListNodes(  # noqa: N802 - the name of the RPC
        self, _request: rota_pb2.ListNodesRequest, _context: CallContext
    ) -> rota_pb2.ListNodesResponse:
        return rota_pb2.ListNodesResponse(nodes=map(node_message, await self._service.nodes()))


async def _read_specs(request: rota_pb2.SubmitTasksRequest) -> list[TaskRequest]:
    """Read all tasks, with a step aside now and then: ten thousand with many fields take a quarter of a second."""
    requests = []
    for index, spec in enumerate(request.tasks):
        if index % SPECS_A_STEP == SPECS_A_STEP - 1:
            await asyncio.sleep(0)
        requests.append(read_spec(spec, index=index))
    return requests


class _EventFilter:
    """Which events a client wants.

    Raises:
        BadSpec: It asks for too much, or goes on after what is no event.
    """

    def __init__(self, request: rota_pb2.WatchEventsRequest) -> None:
        if request.after and not is_event_id(request.after):
            raise BadSpec("after", f"{request.after[:40]!r} is not the id of an event, such as 17.0")
        for field, values, at_most in (
            ("task_ids", request.task_ids, WATCHED_TASKS_MAX),
            ("types", request.types, WATCHED_TYPES_MAX),
        ):
            if len(values) > at_most:
                raise BadSpec(field, f"has {len(values):,} entries: at most {at_most:,}")
        self._tasks = frozenset(request.task_ids)
        self._types = frozenset(request.types)

    def takes(self, event: Event) -> bool:
        if event.type == "resync":
            return True
        if self._types and event.type not in self._types:
            return False
        return not self._tasks or event.task in self._tasks


def _task_query(request: rota_pb2.ListTasksRequest) -> TaskQuery:
    if not 0 <= request.limit <= PAGE_TASKS_MAX:
        raise BadSpec("limit", f"is {request.limit}: it must be 1 to {PAGE_TASKS_MAX:,}, or 0 for {PAGE_TASKS_DEFAULT}")
    if len(request.labels) > LABELS_MAX:  # no task has more, and each is a condition for the store
        raise BadSpec("labels", f"has {len(request.labels):,} entries: at most {LABELS_MAX}")
    return TaskQuery(
        states=frozenset(map(_state, request.states)) or None,
        queue=request.queue if request.HasField("queue") else None,
        name=request.name if request.HasField("name") else None,
        labels=dict(request.labels),
        worker=WorkerId(request.worker) if request.HasField("worker") else None,
        since=_moment("since", request.since) if request.HasField("since") else None,
        until=_moment("until", request.until) if request.HasField("until") else None,
        before=_cursor(request.cursor) if request.cursor else None,
        limit=request.limit or PAGE_TASKS_DEFAULT,
    )


def _state(number: int) -> TaskState:
    if number not in _STATE_OF_NUMBER:
        raise BadSpec("states", f"{number} is no state: see TaskState")
    return _STATE_OF_NUMBER[number]


def _stream(number: int) -> StreamName | None:
    if number not in _STREAM_OF_NUMBER:
        raise BadSpec("stream", f"{number} is none: see OutputStream")
    return _STREAM_OF_NUMBER[number]


def _moment(field: str, moment: Timestamp) -> float:
    try:
        return moment.ToNanoseconds() / 1e9
    except ValueError:
        raise BadSpec(field, "is no moment: it must be in the years 1 to 9999") from None


def _cursor(text: str) -> TaskSeq:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(SEQ_MAX)) and 1 <= int(text) <= SEQ_MAX):
        raise BadSpec("cursor", "is none: send next_cursor of the page before, as it came")
    return TaskSeq(int(text))
