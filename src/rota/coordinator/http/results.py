"""What a function returned or raised, as the bytes that its worker reported: nobody here looks into them."""

from __future__ import annotations

from rota.coordinator.http.answers import BINARY_TYPE, Answer, Header, Stream
from rota.coordinator.http.blobs import find_blob
from rota.coordinator.http.body import unless_gone
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.tasks import WaitQuery
from rota.core.errors import Conflict, Gone, NotFound
from rota.core.model import ENDED_STATES

__all__ = ["get_result"]


async def get_result(call: Call) -> Answer | Stream:
    """Send the result of a task, at once or when it has ended."""
    task_id, wait_s = call.path_values["id"], call.query_as(WaitQuery).wait
    if wait_s:
        view = await unless_gone(call.receive, call.service.wait(task_id, wait_s))
    else:
        view = await call.service.get(task_id)
    progress = view.record.progress
    if progress.state not in ENDED_STATES:
        raise Conflict(
            f"task {task_id} is {progress.state.word}: ask again when it has ended, or with ?wait=", code="not_ended"
        )
    if not progress.value:
        raise NotFound(f"task {task_id} has no result: only functions return one", code="no_result")
    headers: tuple[Header, ...] = (BINARY_TYPE, (b"x-rota-state", progress.state.word.encode()))
    if progress.cause is not None:
        headers += ((b"x-rota-cause", progress.cause.encode()),)
    if not progress.blobs:
        return Answer(200, progress.value, headers)
    # A result that is large is one blob, and what stands with the task is its name.
    found = await find_blob(call, progress.blobs[0], headers)
    if found is None:
        raise Gone(f"the result of task {task_id} was large and is no longer kept (--blob-retention): run it again")
    return found
