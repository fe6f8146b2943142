"""The files that a task brought back: which there are, and their bytes.

They are the work of whoever wrote the task, so a browser is to save them and never to show them as a page of ours.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from rota.coordinator.http.answers import BINARY_TYPE, Answer, Header, Stream, json_answer
from rota.coordinator.http.blobs import find_blob
from rota.coordinator.http.body import unless_gone
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import output_json
from rota.coordinator.http.tasks import WaitQuery
from rota.core.errors import Conflict, Gone, NotFound
from rota.core.model import ENDED_STATES, OutputFile

__all__ = ["get_output", "list_outputs"]

_CHECK: Final[Header] = (b"cache-control", b"private, no-cache")
"""A retry may bring back another file of the same name."""


async def list_outputs(call: Call) -> Answer:
    """List what a task brought back, at once or when it has ended."""
    return json_answer(200, [output_json(output) for output in await _outputs(call)])


async def get_output(call: Call) -> Answer | Stream:
    """Send one file that a task brought back, at once or when it has ended."""
    task_id, name = call.path_values["id"], call.path_values["name"]
    output = next((output for output in await _outputs(call) if output.name == name), None)
    if output is None:
        raise NotFound(
            f"task {task_id} has not brought back {name!r}: see /api/v1/tasks/{task_id}/outputs", code="no_output"
        )
    headers = (BINARY_TYPE, _CHECK, (b"etag", f'"{output.digest}"'.encode()), _disposition(name))
    found = await find_blob(call, output.digest, headers)
    if found is None:
        raise Gone(f"{name!r} of task {task_id} is no longer kept (--blob-retention): run it again")
    return found


async def _outputs(call: Call) -> tuple[OutputFile, ...]:
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
    return progress.outputs


def _disposition(name: str) -> Header:
    """Save it, under the last part of its name, in the way of RFC 6266.

    >>> _disposition("out/é.html")
    (b'content-disposition', b"attachment; filename*=UTF-8''%C3%A9.html")
    """
    return (b"content-disposition", f"attachment; filename*=UTF-8''{quote(name.rpartition('/')[2], safe='')}".encode())
