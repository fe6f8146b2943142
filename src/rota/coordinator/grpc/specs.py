"""Specs of tasks between `rota.v1.TaskSpec` and the core's: the same fields by the same names.

Reading goes over the fields that are set, so that a task with a command alone costs one step. What a value may be is
checked by `rota.core.checks`, as for what comes over REST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from rota.core.checks import check_request
from rota.core.errors import BadSpec
from rota.core.model import GangTerms, InputFile, SyntheticWork, TaskFacts
from rota.core.spec import TaskRequest, TaskSpec, backoff_of, input_of, priority_of
from rota.v1 import task_pb2

__all__ = ["LARGE_FIELDS", "read_spec", "timestamp", "write_spec"]

LARGE_FIELDS: Final = ("env", "stdin", "code", "data", "args", "blobs", "files", "outputs")
"""What lists leave out."""

_NAME_OF: Final = {"priority_word": "priority", "deadline_at": "deadline"}
"""Where two fields of ours are one of the core's."""


def read_spec(message: task_pb2.TaskSpec, *, index: int) -> TaskRequest:
    """Read and check one task.

    Raises:
        BadSpec: A field is wrong; names it, and the index.
    """
    fields: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        name = descriptor.name
        convert = _READERS.get(name)
        try:
            fields[_NAME_OF.get(name, name)] = convert(value) if convert is not None else value
        except ValueError:  # of a timestamp: nothing else can fail
            raise BadSpec(name, "is no moment: it must be in the years 1 to 9999", index=index) from None
    request = TaskRequest(**fields)
    check_request(request, index=index)
    return request


def write_spec(spec: TaskSpec, facts: TaskFacts, *, is_listed: bool) -> task_pb2.TaskSpec:
    """Say what was asked for, with what was left out filled in; in a list without what may be large."""
    fields: dict[str, Any] = {name: getattr(spec, name) for name in _SAME if not (is_listed and name in LARGE_FIELDS)}
    backoff = backoff_of(spec)
    written = task_pb2.TaskSpec(
        resources={"cpu": 1000, **spec.resources},
        priority=priority_of(spec),
        backoff=task_pb2.Retrying(base=backoff.base_s, factor=backoff.factor, max=backoff.cap_s),
        start_at=timestamp(facts.start_at),
        deadline_at=timestamp(facts.deadline_at),
        **fields,
    )
    if spec.gang is not None:
        written.gang.CopyFrom(task_pb2.Gang(id=spec.gang.id, size=spec.gang.size))
    if not is_listed:
        for name, given in spec.files.items():
            file = input_of(given)
            written.files[name].CopyFrom(task_pb2.InputFile(digest=file.digest, executable=file.executable))
    if spec.workload is not None:
        work = spec.workload
        written.workload.CopyFrom(task_pb2.Workload(mix=work.mix, seconds=work.seconds, mib=work.mib))
    return written


def timestamp(wall: float | None) -> Timestamp | None:
    """A moment, to the millisecond.

    >>> timestamp(1.0006).ToJsonString(), timestamp(-0.5).ToJsonString(), timestamp(None)
    ('1970-01-01T00:00:01.001Z', '1969-12-31T23:59:59.500Z', None)
    """
    if wall is None:
        return None
    second, millisecond = divmod(round(wall * 1000), 1000)
    return Timestamp(seconds=second, nanos=millisecond * 1_000_000)


def _read_moment(value: Timestamp) -> object:
    return value.ToDatetime(UTC)


def _read_backoff(value: task_pb2.Retrying) -> dict[str, float]:
    return {descriptor.name: number for descriptor, number in value.ListFields()}


def _read_gang(value: task_pb2.Gang) -> GangTerms:
    return GangTerms(value.id, value.size)


def _read_files(value: Mapping[str, task_pb2.InputFile]) -> dict[str, str | InputFile]:
    return {name: InputFile(one.digest, one.executable) for name, one in value.items()}


def _read_workload(value: task_pb2.Workload) -> SyntheticWork:
    return SyntheticWork(value.mix, value.seconds, value.mib)


_READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    **dict.fromkeys(("command", "tags", "requirements", "blobs", "outputs"), list),
    **dict.fromkeys(("resources", "labels", "env", "limits"), dict),
    **dict.fromkeys(("start_at", "deadline_at"), _read_moment),
    "backoff": _read_backoff,
    "files": _read_files,
    "gang": _read_gang,
    "workload": _read_workload,
}
"""Of fields that are no plain values."""

_OTHERWISE: Final = frozenset(
    {"resources", "priority", "backoff", "start_at", "delay", "deadline", "gang", "workload", "files"}
)
_SAME: Final = tuple(
    name
    for name in TaskSpec.__struct_fields__
    if name not in _OTHERWISE and name in task_pb2.TaskSpec.DESCRIPTOR.fields_by_name
)
"""What is written as it is."""
