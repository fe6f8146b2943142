"""Traces of real work: CSV with one task a line, and the Standard Workload Format.

SWF: https://www.cs.huji.ac.il/labs/parallel/workload/swf.html (Feitelson and others), 18 fields a job, ``;`` before
comments, -1 for what is not known.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, Protocol

from msgspec.structs import replace

from rota.core.errors import BadRequest
from rota.core.model import WORK_MIXES, GangTerms, SyntheticWork
from rota.core.spec import TaskSpec
from rota.simulator.load import Arrival, priority_number, task_of
from rota.simulator.plan import LoadPlan
from rota.simulator.scenarios import check_task

__all__ = ["CSV_COLUMNS", "read_trace"]

CSV_COLUMNS: Final = (
    "at", "seconds", "name", "cpu", "memory", "gpu", "gpu_memory", "tags", "queue", "priority", "mix", "mib", "timeout",
)  # fmt: skip
"""Of a CSV trace. The first two must be there; ``tags`` are parted by spaces."""

_NEEDED: Final = ("at", "seconds")
NUMBER_MAX: Final = 10**12
"""Of any figure in a trace; of times that is 30,000 years."""

_RESOURCES: Final = ("cpu", "memory", "gpu", "gpu_memory")

SWF_FIELDS: Final = 18
SWF_SUBMIT, SWF_RUN, SWF_PROCESSORS, SWF_MEMORY_KB = 1, 3, 4, 6
SWF_WANTED_PROCESSORS, SWF_WANTED_S, SWF_WANTED_KB, SWF_USER, SWF_QUEUE = 7, 8, 9, 11, 14


def read_trace(lines: Iterable[str], load: LoadPlan, *, is_swf: bool, cores_max: int) -> list[Arrival]:
    """Read the tasks of a trace, in order of the time at which they come.

    Args:
        lines: Of the file.
        load: What the trace doesn't say: queue, tags and so on, and how its times are stretched.
        is_swf: Whether it is in the Standard Workload Format; else it is CSV with a header.
        cores_max: Of one worker: a job on more processors becomes a gang of tasks.

    Raises:
        BadRequest: A line is not as it should be; names it and says why.
    """
    arrivals = [*(_of_swf(lines, load, cores_max) if is_swf else _of_csv(lines, load))]
    if not arrivals:
        raise BadRequest("the trace has no tasks in it")
    first = min(arrival.at for arrival in arrivals)
    moved = [
        Arrival(load.starts_at + (arrival.at - first) * load.time_scale, arrival.template, arrival.work)
        for arrival in arrivals
    ]
    moved.sort(key=lambda arrival: arrival.at)
    return moved if load.tasks is None else _first(moved, load.tasks)


def _first(arrivals: list[Arrival], count: int) -> list[Arrival]:
    """So many tasks, and what is missing then of the last gang: without its other members it would never start."""
    while 0 < count < len(arrivals) and _gang_of(arrivals[count]) == _gang_of(arrivals[count - 1]) is not None:
        count += 1
    return arrivals[:count]


def _gang_of(arrival: Arrival) -> str | None:
    gang = arrival.template.gang
    return None if gang is None else gang.id


class _Rows(Protocol):
    """What `csv.reader` makes, whose type has no name."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


# CSV ----------------------------------------------------------------------------------------


def _of_csv(lines: Iterable[str], load: LoadPlan) -> Iterator[Arrival]:
    rows = csv.reader(lines)
    try:
        header = _checked_header(next(rows, []))
        yield from _tasks_of_rows(rows, header, load)
    except csv.Error as error:
        raise _bad_line(rows.line_num, f"is no CSV: {error}") from None


def _checked_header(row: Sequence[str]) -> list[str]:
    header = [name.strip() for name in row]
    if len(header) == 1 and ";" in header[0]:
        raise BadRequest("line 1 of the trace: columns are parted by commas, not by semicolons")
    for at, name in enumerate(header):
        if name not in CSV_COLUMNS:
            near = get_close_matches(name, CSV_COLUMNS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CSV_COLUMNS)}"
            raise BadRequest(f"line 1 of the trace: there is no column {name!r}; {hint}")
        if name in header[:at]:
            raise BadRequest(f"line 1 of the trace: the column {name!r} is there twice")
    for name in _NEEDED:
        if name not in header:
            raise BadRequest(f"line 1 of the trace: the column {name!r} is missing")
    return header


def _tasks_of_rows(rows: _Rows, header: list[str], load: LoadPlan) -> Iterator[Arrival]:
    templates: dict[tuple[str, ...], TaskSpec] = {}
    kept = [header.index(name) for name in header if name not in ("at", "seconds", "mib")]
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise _bad_line(rows.line_num, f"has {len(row)} fields, not the {len(header)} of line 1")
        fields = {name: text.strip() for name, text in zip(header, row, strict=True) if text.strip()}
        key = tuple(row[column] for column in kept)
        try:
            template = templates.get(key)
            if template is None:
                template = templates[key] = _template_of(fields, load)
                check_task(template, f"line {rows.line_num} of the trace")
            work = SyntheticWork(_mix(fields), _number(fields, "seconds"), int(_number(fields, "mib", 0.0)))
            yield Arrival(_number(fields, "at"), template, work)
        except ValueError as error:
            raise BadRequest(f"line {rows.line_num} of the trace: {error}") from None


def _template_of(fields: dict[str, str], load: LoadPlan) -> TaskSpec:
    common = task_of(load)
    return replace(
        common,
        name=fields.get("name"),
        resources={name: round(_number(fields, name)) for name in _RESOURCES if name in fields},
        tags=[*load.tags, *fields.get("tags", "").split()],
        queue=fields.get("queue", load.queue),
        priority=priority_number(fields["priority"]) if "priority" in fields else common.priority,
        timeout=_number(fields, "timeout") if "timeout" in fields else load.timeout,
    )


def _mix(fields: dict[str, str]) -> str:
    mix = fields.get("mix", "cpu")
    if mix not in WORK_MIXES:
        raise ValueError(f"mix {mix!r} is not one of {', '.join(WORK_MIXES)}")
    return mix


def _number(fields: dict[str, str], name: str, default: float | None = None) -> float:
    text = fields.get(name)
    if text is None:
        if default is None:
            raise ValueError(f"{name} is empty")
        return default
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, not a number") from None
    if not 0 <= value <= NUMBER_MAX:
        raise ValueError(f"{name} is {text}: it must be 0 to {NUMBER_MAX:,.0f}")
    return value


# SWF ----------------------------------------------------------------------------------------


def _of_swf(lines: Iterable[str], load: LoadPlan, cores_max: int) -> Iterator[Arrival]:
    templates: dict[tuple[int, int, str, float, float], TaskSpec] = {}
    for at, line in enumerate(lines, start=1):
        text = line.partition(";")[0].split()
        if not text:
            continue
        if len(text) != SWF_FIELDS:
            raise _bad_line(at, f"has {len(text)} fields: a job of the Standard Workload Format has {SWF_FIELDS}")
        try:
            fields = [float(field) for field in text]
        except ValueError:
            raise _bad_line(at, "has a field that is no number") from None
        if not all(math.isfinite(field) and abs(field) <= NUMBER_MAX for field in fields):
            raise _bad_line(at, f"has a field that is not -1 to {NUMBER_MAX:,}")
        run_s = fields[SWF_RUN]
        cores = int(max(fields[SWF_PROCESSORS], fields[SWF_WANTED_PROCESSORS]))
        if run_s < 0 or cores < 1:
            continue  # it was cancelled before it ran, or nobody knows what it was
        yield from _job(fields, at, load, cores_max=cores_max, templates=templates)


def _job(
    fields: Sequence[float],
    at: int,
    load: LoadPlan,
    *,
    cores_max: int,
    templates: dict[tuple[int, int, str, float, float], TaskSpec],
) -> Iterator[Arrival]:
    """The task of a job, or the members of a gang where it is larger than a worker."""
    cores = int(max(fields[SWF_PROCESSORS], fields[SWF_WANTED_PROCESSORS]))
    members = -(-cores // cores_max)
    cpu = 1000 * -(-cores // members)
    memory_kb = max(fields[SWF_MEMORY_KB], fields[SWF_WANTED_KB], 0.0) * cores / members
    queue = f"{load.queue}-{fields[SWF_QUEUE]:.0f}" if fields[SWF_QUEUE] >= 0 else load.queue
    wanted_s = fields[SWF_WANTED_S] if fields[SWF_WANTED_S] > 0 else 0.0
    key = (cpu, int(memory_kb / 1024), queue, wanted_s, fields[SWF_USER])
    template = templates.get(key)
    if template is None or members > 1:
        template = replace(
            task_of(load),
            name=f"user-{fields[SWF_USER]:.0f}" if fields[SWF_USER] >= 0 else None,
            resources={"cpu": cpu, "memory": key[1]},
            queue=queue,
            timeout=wanted_s or load.timeout,
            gang=GangTerms(f"{load.queue}-job-{at}", members) if members > 1 else None,
        )
        check_task(template, f"line {at} of the trace")
        if members == 1:
            templates[key] = template
    for _ in range(members):
        yield Arrival(fields[SWF_SUBMIT], template, SyntheticWork("cpu", fields[SWF_RUN]))


def _bad_line(number: int, problem: str) -> BadRequest:
    return BadRequest(f"line {number} of the trace {problem}")
