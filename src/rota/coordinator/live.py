"""The service of a living coordinator: requests become commands and reads.

What is asked of a task is read from the store, which shows nothing before it is durable; only why it
waits and where it stands in line is looked up in the scheduler.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from rota import __version__
from rota.coordinator.calendars import CalendarDesk
from rota.coordinator.clients import ClientDesk
from rota.coordinator.events import EventHub
from rota.coordinator.gangs import find_mates
from rota.coordinator.loop import Loop
from rota.coordinator.marks import MarkBoard
from rota.coordinator.nodes import view_node, view_recorded_node
from rota.coordinator.output import OutputReader
from rota.coordinator.rates import Rates
from rota.coordinator.recorder import Recorder
from rota.coordinator.service import Event, NodeView, Stats, TaskView
from rota.coordinator.shares import Shares, check_limits
from rota.coordinator.watches import Watches
from rota.core.commands import CancelTasks, ForgetWorker, RetryTask, SetDrained, SubmitTasks
from rota.core.drafts import draft_of, same_spec
from rota.core.effects import Accepted, GangRefused, IdsTaken, Settled, WorkerForgotten, WorkerKnown
from rota.core.errors import Conflict, NotFound, RotaError
from rota.core.explain import Explainer, place_in_line, reasons
from rota.core.model import (
    ENDED_STATES,
    AttemptRecord,
    StreamName,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    find_generated_seq,
)
from rota.core.scheduler import Scheduler
from rota.core.shadow import ShadowReport
from rota.core.spec import TaskRequest, blobs_of, decode_spec
from rota.core.why import Why, why_it_waits
from rota.process.clock import steady_s, wall_s
from rota.store.base import Leadership, TaskQuery

__all__ = ["LiveService"]

PAGE_BYTES_MAX: Final = 8 << 20
"""Of specs and results on one page of tasks: a thousand of the largest would be a gigabyte in this process."""

TRIES: Final = 3
"""Of a submit whose chosen id is taken just then: the next look finds the task that has it."""


class LiveService:
    """Implements `rota.coordinator.service.Service`."""

    def __init__(
        self,
        loop: Loop,
        recorder: Recorder,
        *,
        events: EventHub,
        watches: Watches,
        leadership: Leadership,
        clients: ClientDesk,
        marks: MarkBoard,
        metrics: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._loop = loop
        self._recorder = recorder
        self._events = events
        self._watches = watches
        self._leadership = leadership
        self._room = clients.room
        self._templates = clients.templates
        self._marks = marks
        self._metrics = metrics
        self.shares = Shares(loop)
        self.calendars = CalendarDesk(loop, recorder, room=clients.room, check=clients.templates.check)
        self._output = OutputReader(recorder, watches)
        self._rates = Rates()
        self._started_at = steady_s()

    # Tasks

    async def submit(
        self, requests: Sequence[TaskRequest], *, is_array: bool, must_be_new: bool = False
    ) -> list[TaskView]:
        """Accept all or none."""
        self._templates.check(requests, is_array=is_array)
        for _ in range(TRIES):
            scheduler = self._loop.scheduler()
            self._room.check(len(requests))
            check_limits(requests, scheduler.state, is_array=is_array)
            known = await self._find_chosen(requests, is_array=is_array, must_be_new=must_be_new)
            new = {index: request for index, request in enumerate(requests) if request.id not in known}
            accepted = await self._accept(new, of=scheduler, is_array=is_array) if new else []
            if len(accepted) < len(new):
                continue  # somebody was quicker: now their tasks are on the record
            rest = iter(accepted)
            return self._views([known.get(request.id or "") or next(rest) for request in requests])
        raise Conflict("a chosen id was that of a task that has just been removed: try again in a minute")

    async def _accept(self, requests: Mapping[int, TaskRequest], *, of: Scheduler, is_array: bool) -> list[TaskRecord]:
        """Let the core accept tasks, by their places in what was sent; none comes back if one of their ids is taken."""
        wall = wall_s()
        drafts = []
        for index, request in requests.items():
            try:
                drafts.append(draft_of(request, accepted_at=wall))
            except RotaError as error:
                error.say_index(index if is_array else None)
                raise
        answer: Accepted | IdsTaken | GangRefused = await self._loop.ask(
            lambda to: SubmitTasks(drafts, to), (Accepted, IdsTaken, GangRefused), of=of
        )
        if isinstance(answer, GangRefused):
            raise _conflict(answer.message, list(requests)[answer.index] if is_array else None)
        return answer.tasks if isinstance(answer, Accepted) else []

    async def get(self, task_id: str) -> TaskView:
        """Return a task."""
        return self._views([await self._get_record(task_id)])[0]

    async def wait(self, task_id: str, timeout_s: float) -> TaskView:
        """Return a task when it has ended or the time is over."""
        seq = find_generated_seq(task_id)
        if seq is None:
            seq = (await self._get_record(task_id)).facts.seq
        deadline = asyncio.get_running_loop().time() + timeout_s
        with self._watches.watch(seq) as changed:  # before the look: what ends after it is not missed
            record = await self._get_record(task_id)
            while record.progress.state not in ENDED_STATES and not self._loop.is_stopping:
                try:
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                except TimeoutError:
                    break
                changed.clear()
                record = await self._get_record(task_id)
        return self._views([record])[0]

    async def explain(self, task_id: str) -> tuple[TaskView, Why | None]:
        """Return a task and, if it is pending, all that is known of why it waits."""
        record = await self._get_record(task_id)
        state = self._loop.scheduler().state
        task = state.tasks.get(record.facts.seq)
        is_pending = task is not None and task.state is record.progress.state is TaskState.PENDING
        return self._views([record])[0], why_it_waits(state, task) if task is not None and is_pending else None

    async def history(self, query: TaskQuery) -> tuple[list[TaskView], TaskSeq | None]:
        """Return tasks, newest first."""
        page = await self._recorder.store.history(replace(query, bytes_max=PAGE_BYTES_MAX))
        return self._views(page.tasks), page.next_before

    async def attempts(self, task_id: str) -> list[AttemptRecord]:
        """Return the superseded attempts of a task."""
        record = await self._get_record(task_id)
        return await self._recorder.store.attempts(record.facts.seq)

    async def cancel(self, task_id: str) -> tuple[TaskView, bool]:
        """Wish the end of a task."""
        record = await self._get_record(task_id)
        if record.progress.state in ENDED_STATES:
            return self._views([record])[0], True
        seq = record.facts.seq
        settled = await self._loop.ask(lambda to: CancelTasks([seq], to), Settled, of=self._loop.scheduler())
        return await self.get(task_id), not settled.seqs

    async def retry(self, task_id: str) -> TaskView:
        """Bring an ended task back."""
        scheduler = self._loop.scheduler()
        record = await self._get_record(task_id)
        if record.progress.state not in (TaskState.FAILED, TaskState.CANCELLED):
            raise Conflict(
                f"task {task_id} is {record.progress.state.word}: only failed and cancelled ones can be retried"
            )
        mates = await find_mates(self._recorder.store, record)
        self._room.check(1 + len(mates))
        for one in (record, *mates):
            self._check_blobs_of(one)
        settled = await self._loop.ask(lambda to: RetryTask(record, to, mates), Settled, of=scheduler)
        if not settled.seqs:
            raise Conflict(f"task {task_id} was retried by somebody else at the same time")
        return await self.get(task_id)

    def logs(
        self, view: TaskView, *, attempt: int | None, stream: StreamName | None, follow: bool
    ) -> AsyncIterator[bytes]:
        """Yield output."""
        return self._output.read(view.record, attempt=attempt, stream=stream, follow=follow)

    # Nodes

    async def nodes(self) -> list[NodeView]:
        """Return all known workers; while the store takes no writes, as the record has them."""
        turn = self._loop.turn
        if turn is None:
            return [view_recorded_node(record) for record in await self._recorder.store.load_workers()]
        workers = turn.scheduler.state.cluster.workers
        return [view_node(workers[worker_id]) for worker_id in sorted(workers)]

    async def drain(self, worker_id: str) -> NodeView:
        """Give a worker nothing new."""
        return await self._set_drained(WorkerId(worker_id), drained=True)

    async def resume(self, worker_id: str) -> NodeView:
        """Let a worker work again."""
        return await self._set_drained(WorkerId(worker_id), drained=False)

    async def forget(self, worker_id: str) -> NodeView:
        """Strike off a worker that is gone."""
        scheduler = self._loop.scheduler()
        worker = scheduler.state.cluster.workers.get(WorkerId(worker_id))
        if worker is None:
            raise NotFound(f"there is no node {worker_id!r}")
        view = view_node(worker)
        answer = await self._loop.ask(lambda to: ForgetWorker(worker.id, to), WorkerForgotten, of=scheduler)
        if answer.problem is not None:
            raise Conflict(answer.problem)
        return view

    # The rest

    def events(self, last_id: str | None) -> AsyncIterator[Event | None]:
        """Yield events."""
        return self._events.listen(last_id)

    async def stats(self) -> Stats:
        """Return counts; while the store takes no writes, without those that only a scheduler knows."""
        tasks = await self._recorder.store.count_by_state()
        state = self._loop.turn.scheduler.state if self._loop.turn is not None else None
        if state is not None:
            nodes = Counter(worker.shown_state for worker in state.cluster.workers.values())
        else:
            nodes = Counter(node.state for node in await self.nodes())
        return Stats(
            tasks=tasks,
            reasons=reasons(state) if state is not None else {},
            nodes=dict(nodes),
            capacity=state.cluster.capacity() if state is not None else {},
            used=state.cluster.used() if state is not None else {},
            rates=self._rates.per_second(),
            uptime_s=steady_s() - self._started_at,
            version=__version__,
            cluster=self._leadership.cluster,
            epoch=self._leadership.epoch,
            shadow=self._shadow_report(),
        )

    def _shadow_report(self) -> ShadowReport | None:
        turn = self._loop.turn
        shadow = turn.scheduler.shadow if turn is not None else None
        return shadow.report(steady_s()) if shadow is not None else None

    def is_ready(self) -> bool:
        """Say whether tasks are accepted now."""
        return self._loop.is_serving

    def metrics_text(self) -> tuple[bytes, str]:
        """Return the Prometheus page."""
        return self._metrics()

    def sample_rates(self) -> None:
        """Note the counts of now; called once a second."""
        if self._loop.turn is not None:
            counts = self._loop.turn.scheduler.state.counts
            ended = counts.completed + counts.cancelled + sum(counts.failed.values())
            self._rates.sample(steady_s(), accepted=counts.accepted, started=counts.attempts_assigned, ended=ended)

    # Helpers

    def _check_blobs_of(self, record: TaskRecord) -> None:
        """See that what an ended task needs to run again is still here; then it stays, because it counts as used."""
        spec = decode_spec(record.facts.spec)
        function = [spec.function] if spec.function is not None else []
        if self._recorder.blobs.missing([*function, *blobs_of(spec)]):
            raise Conflict(
                f"task {record.facts.id} can't be retried: its function, a large argument or a file is no longer kept "
                "(--blob-retention): submit it again"
            )

    async def _get_record(self, task_id: str) -> TaskRecord:
        record = (await self._recorder.store.find_tasks([task_id])).get(task_id)
        if record is None:
            raise NotFound(f"there is no task {task_id!r}: it was never submitted here, or retention has removed it")
        return record

    async def _find_chosen(
        self, requests: Sequence[TaskRequest], *, is_array: bool, must_be_new: bool
    ) -> dict[str, TaskRecord]:
        """The tasks that exist already under chosen ids, with equal specs.

        Raises:
            Conflict: One exists with another spec, or at all if it ``must_be_new``; or an id is there twice.
        """
        chosen: dict[str, int] = {}
        for index, request in enumerate(requests):
            if request.id is not None and chosen.setdefault(request.id, index) != index:
                raise _conflict(f"id {request.id!r} is there twice in one request", index)
        if not chosen:
            return {}
        known = await self._recorder.store.find_tasks(list(chosen))
        for task_id, record in known.items():
            index = chosen[task_id]
            at = index if is_array else None
            if must_be_new:
                raise _conflict(f"id {task_id!r} is taken by another task: choose another id", at)
            if not same_spec(requests[index], record):
                raise _conflict(f"id {task_id!r} is taken by a task with another spec: choose another id", at)
        return known

    def _views(self, records: Sequence[TaskRecord]) -> list[TaskView]:
        """Add what only the scheduler knows. Tasks of one shape wait for one reason, found once."""
        turn = self._loop.turn
        if turn is None:
            return [TaskView(record, None, None, None) for record in records]
        state = turn.scheduler.state
        explainer = Explainer(state)
        views = []
        for record in records:
            task = state.tasks.get(record.facts.seq)
            if task is None or record.progress.state is not task.state:
                views.append(TaskView(record, None, None, None))
            elif task.state is TaskState.PENDING:
                reason, sentence = explainer.explain(task)
                views.append(TaskView(record, reason, sentence, None))
            else:
                mark = self._marks.find((task.seq, task.attempt))
                views.append(TaskView(record, None, None, place_in_line(task), mark))
        return views

    async def _set_drained(self, worker_id: WorkerId, *, drained: bool) -> NodeView:
        scheduler = self._loop.scheduler()
        answer = await self._loop.ask(lambda to: SetDrained(worker_id, drained, to), WorkerKnown, of=scheduler)
        worker = self._loop.scheduler().state.cluster.workers.get(worker_id)
        if not answer.known or worker is None:
            raise NotFound(f"there is no node {worker_id!r}")
        return view_node(worker)


def _conflict(message: str, index: int | None) -> Conflict:
    error = Conflict(message)
    error.say_index(index)
    return error
