"""``POST /submit-task``: how TaskAndGo's users submit over HTTP, whatever content type they send.

Every answer of the handler has the same three fields; what is wrong is in ``message``.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.endpoint import Body, Call, Documented, Endpoint
from rota.coordinator.http.errors import error_answer
from rota.coordinator.taskandgo import submit_task
from rota.core.errors import BadRequest, RotaError

__all__ = ["SUBMIT_ONE_TASK", "SubmittedJson", "SubmittedTaskBody", "submit_one_task"]


class SubmittedTaskBody(Struct, frozen=True):
    """A task as TaskAndGo's users send it. What else is there is ignored, as it always was.

    ``task_id``: 1 to 200 letters, digits or ``._:@-``; it gets one if it is left out. ``priority``: low, medium,
    normal, high or critical. ``data``: ``python:<code>`` or ``go:<code>``.
    """

    task_id: str | None = None
    priority: str | None = None
    data: str | None = None


class SubmittedJson(Struct, frozen=True):
    """Whether the task was accepted, under which id, and a sentence."""

    task_id: str
    success: bool
    message: str


_AT_FIELD: Final = re.compile(r" - at `\$\.(\w+)`\Z")
_decoder = msgspec.json.Decoder(SubmittedTaskBody)


async def submit_one_task(call: Call) -> Answer:
    """Accept one task."""
    given = SubmittedTaskBody()
    try:
        given = _read(call.body)
        task_id = await submit_task(
            call.service, task_id=given.task_id or "", priority=given.priority or "", data=given.data or ""
        )
    except RotaError as error:
        refused = error_answer(error)
        content = SubmittedJson(given.task_id or "", success=False, message=str(error))
        return json_answer(refused.status, content, headers=refused.headers[1:])
    return json_answer(201, SubmittedJson(task_id, success=True, message=f"Task {task_id} submitted successfully"))


def _read(body: bytes) -> SubmittedTaskBody:
    """Read what was sent.

    Raises:
        BadRequest: It is no task.
    """
    if body.strip() in (b"", b"null"):
        raise BadRequest("No task provided")
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        at = _AT_FIELD.search(str(error))
        problem = f"{at[1]} must be text" if at else "the body must be an object with task_id, priority and data"
        raise BadRequest(problem) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON in UTF-8: {error}") from error


_MEANINGS: Final = (
    (201, "On the record."),
    (400, "Something is wrong with it: the message says what."),
    (409, "There is a task of this id."),
    (413, "Its data is over 1 MiB; or, in the form of all other errors, the body is over 8 MiB."),
    (429, "Too many tasks wait: again in a moment."),
    (503, "The store takes no writes, or the coordinator is stopping: again in a moment."),
)

SUBMIT_ONE_TASK: Final = Endpoint(
    method="POST",
    path="/submit-task",
    summary="Submit one task in the words of TaskAndGo, whatever its content type",
    handler=submit_one_task,
    body=Body("One task.", SubmittedTaskBody),
    answers=tuple(Documented(status, meaning, SubmittedJson) for status, meaning in _MEANINGS),
)
