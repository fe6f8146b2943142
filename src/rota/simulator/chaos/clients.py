"""A crowd of clients: they submit, ask again when no answer came, cancel, retry, drain, and know what was promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from rota.core.commands import CancelTasks, Draft, ForgetWorker, RetryTask, SetDrained, SubmitTasks
from rota.core.drafts import draft_of
from rota.core.effects import Accepted, Answer, IdsTaken, Settled, WorkerKnown
from rota.core.errors import RotaError
from rota.core.model import TaskRecord, TaskState, WorkerId
from rota.core.requests import parse_requests
from rota.core.spec import decode_spec
from rota.core.turn import Turn
from rota.simulator.chaos.batches import BATCH_MAX, TaskBatch
from rota.simulator.chaos.chores import ENDLESS
from rota.simulator.checker import Checker
from rota.simulator.coordinator import Coordinator
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["Crowd"]

AGAIN_S: Final = (0.05, 2.0)
LOOK_UP_S: Final = (0.0005, 0.01)
"""From a look into the store to the command that follows from it."""

TWICE_PART: Final = 0.1

RETRY_PART: Final = 0.3
"""Of those failed or cancelled tasks that somebody thinks of."""


class Crowd:
    """All clients together. ``busy`` counts requests that are not answered for good."""

    def __init__(
        self,
        world: World,
        coordinator: Coordinator,
        *,
        store: ModelStore,
        checker: Checker,
    ) -> None:
        self.busy = 0
        self._world = world
        self._coordinator = coordinator
        self._store = store
        self._checker = checker

    # What they want

    def submit(self, batch: TaskBatch) -> None:
        """Send a batch; now and then somebody else sends the same."""
        ids, fields, world = batch.ids, batch.fields, self._world
        world.note("client", f"submits batch {batch.number}: {len(ids)} {fields} as {ids[0] or 'anything'}")
        requests = [{**fields, "id": task_id} if task_id else fields for task_id in ids]
        for _ in range(2 if ids[0] is not None and world.chance(TWICE_PART) else 1):
            self.busy += 1
            self._send(requests)

    def cancel(self) -> None:
        """Cancel some of the tasks that have not ended."""
        open_seqs = [record.facts.seq for record in self._store.record.unfinished()]
        if not open_seqs:
            return
        first = self._world.rng.randrange(len(open_seqs))
        seqs = open_seqs[first : first + self._world.rng.randint(1, 4)]
        self._world.note("client", f"cancels {seqs}")
        self._checker.cancel_asked.update(seqs)
        self.busy += 1

        def on_answer(answer: Answer | RotaError | None) -> None:
            del answer
            self.busy -= 1

        self._coordinator.ask(lambda to: CancelTasks(seqs, to), on_answer, of=self._coordinator.turn)

    def cancel_endless(self) -> None:
        """Cancel what may never end, and ask until it is done."""
        unfinished = self._store.record.unfinished()
        seqs = [task.facts.seq for task in unfinished if task.facts.name in ENDLESS or self._lacks_members(task)]
        self._checker.cancel_asked.update(seqs)
        self.busy += 1

        def on_answer(answer: Answer | RotaError | None) -> None:
            self.busy -= 1
            if not isinstance(answer, Settled):
                self._again(self.cancel_endless)

        self._coordinator.ask(lambda to: CancelTasks(seqs, to), on_answer, of=self._coordinator.turn)

    def retry(self) -> None:
        """Bring failed and cancelled tasks back; now and then two people do so at once, or one with an old record."""
        rows = self._store.record
        ended = [
            rows.task(seq)
            for seq, progress in rows.progress.items()
            if progress.state in (TaskState.FAILED, TaskState.CANCELLED) and self._world.chance(RETRY_PART)
        ]
        for record in ended:
            turn = self._coordinator.turn
            self._bring_back(record, turn)
            if self._world.chance(0.2):
                late_s = self._world.between(0.001, 3.0)
                self._world.after(late_s, partial(self._bring_back, record, turn))

    def set_drained(self, worker: str, *, drained: bool, must_be: bool = False) -> None:
        """Drain or resume a worker; ask until it is done if it must be."""
        self.busy += 1

        def on_answer(answer: Answer | RotaError | None) -> None:
            self.busy -= 1
            if must_be and not isinstance(answer, WorkerKnown):
                self._again(lambda: self.set_drained(worker, drained=drained, must_be=True))

        self._world.note("client", f"{'drains' if drained else 'resumes'} {worker}")
        self._coordinator.ask(
            lambda to: SetDrained(WorkerId(worker), drained, to), on_answer, of=self._coordinator.turn
        )

    def forget(self, worker: str) -> None:
        """Strike a worker off, because somebody thinks that it is gone for good: often it is not."""
        self.busy += 1

        def on_answer(_: Answer | RotaError | None) -> None:
            self.busy -= 1

        self._world.note("client", f"forgets {worker}")
        self._coordinator.ask(lambda to: ForgetWorker(WorkerId(worker), to), on_answer, of=self._coordinator.turn)

    # Helpers

    def _send(self, requests: list[dict[str, Any]]) -> None:
        """Look chosen ids up and submit what is not there, as the service does."""
        chosen = [request["id"] for request in requests if "id" in request]
        known = {task_id: task for task_id in chosen if (task := self._store.find_task(task_id)) is not None}
        self._checker.accepted.update(task.facts.seq for task in known.values())
        new = [request for request in requests if request.get("id") not in known]
        if not new:
            self.busy -= 1
            return
        drafts, turn = self._drafts(new), self._coordinator.turn

        def on_answer(answer: Answer | RotaError | None) -> None:
            self.busy -= 1
            if isinstance(answer, Accepted):
                self._checker.accepted.update(task.facts.seq for task in answer.tasks)
            elif isinstance(answer, IdsTaken) or chosen:  # without ids it would run twice: whoever sent it gives up
                self._again(lambda: self._resend(requests))

        delay_s = self._world.between(*LOOK_UP_S)
        self._world.after(
            delay_s, lambda: self._coordinator.ask(lambda to: SubmitTasks(drafts, to), on_answer, of=turn)
        )

    def _lacks_members(self, task: TaskRecord) -> bool:
        terms = decode_spec(task.facts.spec).gang
        return terms is not None and len(self._store.record.mates(task.facts.seq)) < terms.size - 1

    def _resend(self, requests: list[dict[str, Any]]) -> None:
        self.busy += 1
        self._send(requests)

    def _drafts(self, requests: list[dict[str, Any]]) -> list[Draft]:
        parsed, _ = parse_requests(json.dumps(requests).encode(), tasks_max=BATCH_MAX)
        wall = self._world.wall + self._coordinator.wall_jump_s
        return [draft_of(request, accepted_at=wall) for request in parsed]

    def _bring_back(self, record: TaskRecord, turn: Turn | None) -> None:
        mates = self._store.record.mates(record.facts.seq)
        if any(mate.progress.state not in (TaskState.FAILED, TaskState.CANCELLED) for mate in mates):
            return
        self.busy += 1
        self._world.note("client", f"retries {record.facts.seq} after attempt {record.progress.attempt}")

        def on_answer(answer: Answer | RotaError | None) -> None:
            del answer
            self.busy -= 1

        self._coordinator.ask(lambda to: RetryTask(record, to, mates), on_answer, of=turn)

    def _again(self, action: Callable[[], None]) -> None:
        self.busy += 1

        def act() -> None:
            self.busy -= 1
            action()

        self._world.after(self._world.between(*AGAIN_S), act)
