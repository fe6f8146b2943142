"""Handlers of calendars, and what these look like in JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from rota.coordinator.calendars import CalendarView, FireView
from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.body import decoded_body
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import TaskJson, rfc3339, task_json
from rota.core.calendars import Calendar, Misfire, Outcome, Overlap
from rota.core.checks import LABELS_MAX
from rota.core.errors import BadRequest, BadSpec, TooLarge
from rota.core.firing import AT_LABEL, CALENDAR_LABEL
from rota.core.names import NAME_RULE, is_name
from rota.core.requests import parse_requests
from rota.core.spec import TaskRequest, snippet_kind
from rota.process.clock import wall_s

__all__ = [
    "CALENDARS_PATH",
    "CalendarBody",
    "CalendarJson",
    "FireJson",
    "NamedCalendarBody",
    "add_calendar",
    "calendar_history",
    "get_calendar",
    "list_calendars",
    "pause_calendar",
    "put_calendar",
    "remove_calendar",
    "resume_calendar",
    "run_calendar",
]

CALENDARS_PATH: Final = "/api/v1/calendars"

TASK_BYTES_MAX: Final = 64 << 10
"""Of what a calendar is to run: all calendars stay in memory, and a thousand of these are 64 MiB."""

OWN_LABELS_MAX: Final = LABELS_MAX - 2
"""Of the task: the calendar adds whose it is, and when it was due."""


class CalendarBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a calendar is to say: ``task`` (as for ``POST /tasks``) is submitted at the fire times of ``expression``.

    ``zone`` is a name of the IANA database. ``misfire`` says what becomes of fire times that were missed: nothing
    (``skip``), one task for all (``once``), or one for each (``all``). With ``overlap`` ``skip`` nothing is made while
    a task of it has not ended. Without ``paused`` one that is there stays as it is in that, and a new one goes on.
    """

    expression: str
    task: Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/TaskRequest"})]
    zone: str = "UTC"
    misfire: Misfire = "once"
    overlap: Overlap = "allow"
    paused: bool | None = None


class NamedCalendarBody(CalendarBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same with its name; without one it is given one."""

    name: str | None = None


class FireJson(Struct, frozen=True, kw_only=True):
    """What became of a fire time, or of ``count`` in a row, ``at`` to ``last``; with ``more``, of more than that.

    ``outcome`` is ``fired``, ``manual`` (somebody asked for it), ``skipped`` (``task`` had not ended) or ``missed``.
    ``state`` is that of ``task`` now, ``null`` if it is no longer kept.
    """

    outcome: Outcome
    at: str
    last: str
    count: int
    more: bool
    task: str | None
    state: str | None
    decided_at: str


class CalendarJson(Struct, frozen=True, kw_only=True):
    """A calendar. ``next`` are its next fire times: five, or one in a list. Times of it are written in its zone.

    ``unfinished`` are those of its tasks that have not ended. ``problem`` says why it stands still, if it does.
    """

    name: str
    expression: str
    zone: str
    misfire: Misfire
    overlap: Overlap
    paused: bool
    next: list[str]
    last: FireJson | None
    unfinished: list[str]
    problem: str | None
    created_at: str
    task: Annotated[
        TaskRequest,
        Meta(description="What it runs; in a list without what may be large (env, stdin, code, data, files, outputs)."),
    ]


async def list_calendars(call: Call) -> Answer:
    """List all calendars."""
    return json_answer(200, [_calendar_json(view, is_listed=True) for view in await call.service.calendars.all()])


async def get_calendar(call: Call) -> Answer:
    """Return one."""
    return await _shown(call, 200, call.path_values["name"])


async def add_calendar(call: Call) -> Answer:
    """Add one under its name, or one that is made up."""
    body = decoded_body(call.body, NamedCalendarBody)
    if body.name is not None:
        _check_name(body.name)
    name, existed = await call.service.calendars.add(body.name, _checked(body))
    return await _shown(call, 200 if existed else 201, name)


async def put_calendar(call: Call) -> Answer:
    """Add one, or have one say something else."""
    name, body = call.path_values["name"], decoded_body(call.body, CalendarBody)
    _check_name(name)
    existed = await call.service.calendars.put(name, _checked(body), keeps_pause=body.paused is None)
    return await _shown(call, 200 if existed else 201, name)


async def remove_calendar(call: Call) -> Answer:
    """Remove one; its tasks stay."""
    view = await call.service.calendars.get(call.path_values["name"])
    await call.service.calendars.remove(view.name)
    return json_answer(200, _calendar_json(view))


async def pause_calendar(call: Call) -> Answer:
    """Let one make nothing."""
    return json_answer(200, _calendar_json(await call.service.calendars.pause(call.path_values["name"], paused=True)))


async def resume_calendar(call: Call) -> Answer:
    """Let one go on."""
    return json_answer(200, _calendar_json(await call.service.calendars.pause(call.path_values["name"], paused=False)))


async def run_calendar(call: Call) -> Answer:
    """Make a task of one now."""
    task: TaskJson = task_json(await call.service.get(await call.service.calendars.run(call.path_values["name"])))
    return json_answer(201, task, headers=((b"location", f"/api/v1/tasks/{task.id}".encode()),))


async def calendar_history(call: Call) -> Answer:
    """Say what became of the latest fire times of one."""
    view, fires = await call.service.calendars.history(call.path_values["name"])
    return json_answer(200, [_fire_json(fire, view) for fire in fires])


async def _shown(call: Call, status: int, name: str) -> Answer:
    return json_answer(status, _calendar_json(await call.service.calendars.get(name)))


def _check_name(name: str) -> None:
    if not is_name(name):
        shown = name if len(name) <= 100 else name[:100] + "…"
        raise BadRequest(f"name is {shown!r}: use {NAME_RULE}")


def _checked(body: CalendarBody) -> Calendar:
    """Refuse tasks that can't be made again and again. What it says of times is checked by who serves."""
    task = _checked_task(bytes(body.task))
    return Calendar(
        expression=body.expression,
        zone=body.zone,
        task=task,
        misfire=body.misfire,
        overlap=body.overlap,
        paused=body.paused or False,
        created_at=wall_s(),
    )


def _checked_task(text: bytes) -> TaskRequest:
    if len(text) > TASK_BYTES_MAX:
        raise TooLarge(f"task: {len(text):,} bytes: at most {TASK_BYTES_MAX:,}; ship more as a file (`files`)")
    try:
        requests, is_array = parse_requests(text, tasks_max=1)
    except BadSpec as error:
        raise error if error.field == "task" else BadSpec(f"task.{error.field}", error.problem) from None
    if is_array:
        raise BadSpec("task", "must be one task, not an array")
    task = requests[0]
    for field, problem in (
        ("id", "each task of a calendar gets an id of its own: leave it out"),
        ("start_at", "the calendar says when: leave it out, or use delay"),
        ("gang", "the tasks of a calendar come one by one"),
    ):
        if getattr(task, field) is not None:
            raise BadSpec(f"task.{field}", problem)
    if isinstance(task.deadline, datetime):
        raise BadSpec("task.deadline", "must be a duration in seconds, counted from when a task is made")
    for label in (CALENDAR_LABEL, AT_LABEL):
        if label in task.labels:
            raise BadSpec("task.labels", f"{label} says whose a task is and when it was due: choose another key")
    if len(task.labels) > OWN_LABELS_MAX:
        count = len(task.labels)
        raise BadSpec("task.labels", f"has {count} labels: at most {OWN_LABELS_MAX}, for the calendar adds two")
    return task


def _calendar_json(view: CalendarView, *, is_listed: bool = False) -> CalendarJson:
    calendar = view.calendar
    task = calendar.task
    if is_listed:  # the kind stays of a snippet that is left out
        kind = task.kind or snippet_kind(task.data or "")
        task = replace(task, kind=kind, env={}, stdin=None, code=None, data=None, files={}, outputs=[])
    return CalendarJson(
        name=view.name,
        expression=calendar.expression,
        zone=calendar.zone,
        misfire=calendar.misfire,
        overlap=calendar.overlap,
        paused=calendar.paused,
        next=[view.shown(at) for at in view.upcoming],
        last=None if view.last is None else _fire_json(view.last, view),
        unfinished=[*view.unfinished],
        problem=view.problem,
        created_at=rfc3339(calendar.created_at),
        task=task,
    )


def _fire_json(fire: FireView, view: CalendarView) -> FireJson:
    record = fire.record
    return FireJson(
        outcome=record.outcome,
        at=view.shown(record.at),
        last=view.shown(record.last),
        count=record.count,
        more=record.more,
        task=fire.task,
        state=None if fire.state is None else fire.state.word,
        decided_at=rfc3339(record.decided_at),
    )
