"""A coordinator in a few lines: `Service` kept in dictionaries, for tests of its edges.

It keeps the promises that the edges rely on (all or nothing, the same id with the same spec, errors of
their classes) and runs nothing: a test says when a task starts, writes and ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import count

import msgspec

from rota.coordinator.calendars import CalendarDesk
from rota.coordinator.service import Event, NodeView, Service, Stats, TaskView
from rota.coordinator.shares import Shares
from rota.core.errors import Conflict, NotFound, Overloaded
from rota.core.model import (
    ENDED_STATES,
    AttemptRecord,
    Cause,
    Offer,
    OutputFile,
    Progress,
    Reason,
    StreamName,
    TaskFacts,
    TaskId,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerState,
)
from rota.core.protocol import Mark, Usage
from rota.core.spec import (
    TaskRequest,
    deadline_time,
    decode_spec,
    encode_spec,
    priority_of,
    start_time,
)
from rota.core.why import Blocker, Why
from rota.store.base import TaskQuery

__all__ = ["FakeService"]

CREATED_AT = 1_767_225_600.25
"""2026-01-01T00:00:00.250Z; each task is created a second after the one before."""


class FakeService(Service):
    """Tasks, nodes and events in memory. Failures are set as ``fails_with``."""

    def __init__(self, *, pending_max: int = 100_000) -> None:
        self.fails_with: Exception | None = None
        self.ready = True
        self.pending_max = pending_max
        self.queries: list[TaskQuery] = []
        self.open_logs = 0
        self.open_events = 0
        self.waits = 0
        self._seqs = count(1)
        self._records: dict[TaskId, TaskRecord] = {}
        self._attempts: dict[TaskId, list[AttemptRecord]] = {}
        self._output: dict[TaskId, list[tuple[int, StreamName, bytes]]] = {}
        self._marks: dict[TaskId, Mark] = {}
        self._nodes: dict[str, NodeView] = {}
        self._events: list[Event | None] = []
        self._changed = asyncio.Event()

    # What the edges call ------------------------------------------------------------------

    @property
    def shares(self) -> Shares:
        raise NotImplementedError("a fake has no queues: test them on a real coordinator")

    @property
    def calendars(self) -> CalendarDesk:
        raise NotImplementedError("a fake has no calendars: test them on a real coordinator")

    async def submit(
        self, requests: Sequence[TaskRequest], *, is_array: bool, must_be_new: bool = False
    ) -> list[TaskView]:
        self._fail()
        if len(self._records) + len(requests) > self.pending_max:
            raise Overloaded(f"{self.pending_max} tasks wait already")
        found = [self._find_same(request, index if is_array else None) for index, request in enumerate(requests)]
        if must_be_new and any(found):
            raise Conflict("an id is taken by another task")
        return [self._view(known or self._accept(request)) for known, request in zip(found, requests, strict=True)]

    async def get(self, task_id: str) -> TaskView:
        self._fail()
        if task_id not in self._records:
            raise NotFound(f"no task is called {task_id!r}")
        return self._view(self._records[TaskId(task_id)])

    async def wait(self, task_id: str, timeout_s: float) -> TaskView:
        self.waits += 1
        try:
            async with asyncio.timeout(timeout_s):
                while (view := await self.get(task_id)).record.progress.state not in ENDED_STATES:
                    await self._next_change()
                return view
        except TimeoutError:
            return await self.get(task_id)
        finally:
            self.waits -= 1

    async def explain(self, task_id: str) -> tuple[TaskView, Why | None]:
        view = await self.get(task_id)
        if view.reason is None or view.reason_text is None:
            return view, None
        return view, Why(view.reason, view.reason_text, (Blocker(Reason.TAGS, 3, "3 workers lack tag gpu"),))

    async def history(self, query: TaskQuery) -> tuple[list[TaskView], TaskSeq | None]:
        self._fail()
        self.queries.append(query)
        newest_first = sorted(self._records.values(), key=lambda record: -record.facts.seq)
        found = [record for record in newest_first if _matches(record, query)]
        page = found[: query.limit]
        more = page[-1].facts.seq if len(found) > query.limit else None
        return [self._view(record) for record in page], more

    async def attempts(self, task_id: str) -> list[AttemptRecord]:
        await self.get(task_id)
        return self._attempts.get(TaskId(task_id), [])

    async def cancel(self, task_id: str) -> tuple[TaskView, bool]:
        view = await self.get(task_id)
        progress = view.record.progress
        if progress.state in ENDED_STATES:
            return view, True
        progress.wish = Cause.CANCELLED
        if progress.state is TaskState.PENDING:
            progress.state, progress.cause = TaskState.CANCELLED, Cause.CANCELLED
        self._change()
        return view, False

    async def retry(self, task_id: str) -> TaskView:
        view = await self.get(task_id)
        progress = view.record.progress
        if progress.state not in (TaskState.FAILED, TaskState.CANCELLED):
            raise Conflict(f"task {task_id} is {progress.state.word}: only failed and cancelled ones can be retried")
        self._supersede(view.record)
        progress.state, progress.wish, progress.cause = TaskState.PENDING, None, None
        self._change()
        return self._view(view.record)

    async def logs(
        self, view: TaskView, *, attempt: int | None, stream: StreamName | None, follow: bool
    ) -> AsyncIterator[bytes]:
        self._fail()
        self.open_logs += 1
        sent = 0
        progress = view.record.progress
        try:
            while True:
                pieces = self._output.get(view.record.facts.id, [])
                for number, name, data in pieces[sent:]:
                    sent += 1
                    if number == (attempt or progress.attempt) and name == (stream or name):
                        yield data
                if not follow or progress.state in ENDED_STATES:
                    return
                await self._next_change()
        finally:
            self.open_logs -= 1

    async def nodes(self) -> list[NodeView]:
        self._fail()
        return [self._nodes[node_id] for node_id in sorted(self._nodes)]

    async def drain(self, worker_id: str) -> NodeView:
        return self._set_drained(worker_id, is_drained=True)

    async def resume(self, worker_id: str) -> NodeView:
        return self._set_drained(worker_id, is_drained=False)

    async def forget(self, worker_id: str) -> NodeView:
        self._fail()
        if worker_id not in self._nodes:
            raise NotFound(f"no worker is called {worker_id!r}")
        if self._nodes[worker_id].state is WorkerState.ONLINE:
            raise Conflict(f"worker {worker_id!r} is connected: drain it, stop it, and then forget it")
        return self._nodes.pop(worker_id)

    async def events(self, last_id: str | None) -> AsyncIterator[Event | None]:
        self.open_events += 1
        known = [event.id if event is not None else "" for event in self._events]
        sent = known.index(last_id) + 1 if last_id in known else len(known)
        try:
            if last_id is not None and last_id not in known:
                yield Event("0.0", "resync", CREATED_AT)
            while True:
                while sent < len(self._events):
                    sent += 1
                    yield self._events[sent - 1]
                await self._next_change()
        finally:
            self.open_events -= 1

    async def stats(self) -> Stats:
        self._fail()
        states = [record.progress.state for record in self._records.values()]
        return Stats(
            tasks={state: states.count(state) for state in TaskState},
            reasons={Reason.NO_WORKERS: states.count(TaskState.PENDING)},
            nodes={state: sum(node.state is state for node in self._nodes.values()) for state in WorkerState},
            capacity={"cpu": 4000},
            used={"cpu": 1000},
            rates={"submitted": 0.5},
            uptime_s=12.5,
            version="0",
            cluster="c",
            epoch=3,
        )

    def is_ready(self) -> bool:
        return self.ready

    def metrics_text(self) -> tuple[bytes, str]:
        return b"rota_epoch 3.0\n", "text/plain; version=0.0.4; charset=utf-8"

    # What a test makes happen -------------------------------------------------------------

    def add_node(self, node_id: str, *, offer: Offer) -> None:
        """Let a worker be known."""
        self._nodes[node_id] = NodeView(
            id=WorkerId(node_id),
            instance="i1",
            state=WorkerState.ONLINE,
            offer=offer,
            used={"cpu": 1000},
            tasks=1,
            quarantined_slots=0,
            drained=False,
            registered_at=CREATED_AT,
            last_seen_s=0.5,
            usage=None,
        )

    def change_node(
        self,
        node_id: str,
        *,
        usage: Usage | None = None,
        state: WorkerState = WorkerState.ONLINE,
        tasks: int | None = None,
    ) -> None:
        """Let a worker be in a state, and say how busy it is."""
        node = self._nodes[node_id]
        kept = node.tasks if tasks is None else tasks
        self._nodes[node_id] = msgspec.structs.replace(node, usage=usage, state=state, tasks=kept)

    def start(self, task_id: str, *, worker: str = "w1") -> None:
        """Let the next attempt of a task run."""
        progress = self._records[TaskId(task_id)].progress
        progress.state, progress.attempt, progress.worker = TaskState.RUNNING, progress.attempt + 1, WorkerId(worker)
        progress.queued_at = progress.started_at = CREATED_AT + 2.0
        progress.ended_at = None
        self._change()

    def mark(self, task_id: str, fraction: float | None, text: str) -> None:
        """Let the running attempt say how far it is."""
        record = self._records[TaskId(task_id)]
        self._marks[record.facts.id] = Mark(record.facts.seq, record.progress.attempt, fraction, text)

    def write(self, task_id: str, data: bytes, *, stream: StreamName = "stdout") -> None:
        """Let the running attempt write."""
        attempt = self._records[TaskId(task_id)].progress.attempt
        self._output.setdefault(TaskId(task_id), []).append((attempt, stream, data))
        self._change()

    def end(
        self,
        task_id: str,
        *,
        state: TaskState = TaskState.COMPLETED,
        exit_code: int = 0,
        cause: Cause = Cause.EXIT,
        outputs: tuple[OutputFile, ...] = (),
        message: str | None = None,
    ) -> None:
        """Let a task end; ``cause`` counts if it failed, and a message is that of a failed launch."""
        progress = self._records[TaskId(task_id)].progress
        progress.state, progress.exit_code, progress.ended_at = state, exit_code, CREATED_AT + 3.0
        progress.cause = cause if state is TaskState.FAILED else None
        if message is not None:
            progress.cause, progress.message = Cause.LAUNCH_ERROR, message
        progress.cpu_seconds, progress.peak_memory_kib = 0.25, 2100
        progress.outputs = outputs
        self._change()

    def publish(self, event: Event | None) -> None:
        """Let all listeners know; ``None`` keeps their lines open."""
        self._events.append(event)
        self._change()

    # Helpers ------------------------------------------------------------------------------

    def _fail(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def _find_same(self, request: TaskRequest, index: int | None) -> TaskRecord | None:
        known = self._records.get(TaskId(request.id)) if request.id is not None else None
        if known is not None and known.facts.spec != encode_spec(request):
            error = Conflict(f"{request.id} exists with another spec")
            error.say_index(index)
            raise error
        return known

    def _accept(self, request: TaskRequest) -> TaskRecord:
        seq = TaskSeq(next(self._seqs))
        created_at = CREATED_AT + seq - 1
        facts = TaskFacts(
            seq=seq,
            chosen_id=request.id,
            name=request.name,
            queue=request.queue,
            priority=priority_of(request),
            labels=msgspec.json.encode(request.labels).decode() if request.labels else None,
            created_at=created_at,
            start_at=start_time(request, accepted_at=created_at),
            deadline_at=deadline_time(request, accepted_at=created_at),
            spec=encode_spec(request),
        )
        record = TaskRecord(facts, Progress(state=TaskState.PENDING))
        self._records[facts.id] = record
        return record

    def _view(self, record: TaskRecord) -> TaskView:
        waits = record.progress.state is TaskState.PENDING
        return TaskView(
            record=record,
            reason=Reason.NO_WORKERS if waits else None,
            reason_text="no worker is connected" if waits else None,
            behind=None,
            mark=self._marks.get(record.facts.id),
        )

    def _supersede(self, record: TaskRecord) -> None:
        progress = record.progress
        superseded = AttemptRecord(
            seq=record.facts.seq,
            number=progress.attempt,
            worker=progress.worker,
            queued_at=progress.queued_at,
            started_at=progress.started_at,
            ended_at=progress.ended_at or CREATED_AT,
            cause=progress.cause,
            exit_code=progress.exit_code,
        )
        self._attempts.setdefault(record.facts.id, []).append(superseded)

    def _set_drained(self, worker_id: str, *, is_drained: bool) -> NodeView:
        self._fail()
        if worker_id not in self._nodes:
            raise NotFound(f"no worker is called {worker_id!r}")
        state = WorkerState.DRAINING if is_drained else WorkerState.ONLINE
        node = msgspec.structs.replace(self._nodes[worker_id], state=state, drained=is_drained)
        self._nodes[worker_id] = node
        return node


def _matches(record: TaskRecord, query: TaskQuery) -> bool:
    facts, progress = record.facts, record.progress
    labels = decode_spec(facts.spec).labels
    return (
        (query.states is None or progress.state in query.states)
        and (query.queue is None or facts.queue == query.queue)
        and (query.name is None or facts.name == query.name)
        and (query.worker is None or progress.worker == query.worker)
        and all(labels.get(key) == value for key, value in query.labels.items())
        and (query.since is None or facts.created_at >= query.since)
        and (query.until is None or facts.created_at < query.until)
        and (query.before is None or facts.seq < query.before)
    )
