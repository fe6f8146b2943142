"""Tasks as JSON: that every field of a spec comes back, and that times are said the same way everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.coordinator.http.render import TaskJson, rfc3339, task_json
from rota.coordinator.service import TaskView
from rota.core.model import Cause, Progress, TaskRecord, TaskState
from rota.core.requests import parse_requests
from rota.core.spec import TaskRequest
from tests.support.fake_service import FakeService


async def rendered(spec: bytes) -> TaskJson:
    requests, _ = parse_requests(spec, tasks_max=1)
    return task_json((await FakeService().submit(requests, is_array=False))[0])


def test_every_field_that_can_be_sent_is_answered() -> None:
    assert set(TaskRequest.__struct_fields__) <= set(TaskJson.__struct_fields__)


async def test_what_was_left_out_is_filled_in() -> None:
    task = await rendered(b'{"command": ["true"]}')
    assert (task.kind, task.priority, task.resources, task.losses) == ("process", 50, {"cpu": 1000}, 5)
    assert msgspec.to_builtins(task.backoff) == {"base": 1.0, "factor": 2.0, "max": 300.0}
    assert (task.env, task.stdin, task.labels, task.tags) == ({}, None, {}, [])


async def test_what_was_said_is_answered() -> None:
    task = await rendered(
        b'{"command": ["a", "b"], "resources": {"memory": 64, "cpu": 0}, "backoff": 4, "delay": 1.5, "deadline": 60,'
        b' "priority": "critical", "timeout": 9, "cwd": "/tmp", "labels": {"a": "b"}, "queue": "q", "name": "n"}'
    )
    assert (task.command, task.resources, task.priority) == (["a", "b"], {"cpu": 0, "memory": 64}, 100)
    assert (task.backoff.base, task.timeout, task.cwd, task.labels) == (4.0, 9.0, "/tmp", {"a": "b"})
    assert (task.delay, task.start_at) == (1.5, "2026-01-01T00:00:01.750Z")
    assert task.deadline == "2026-01-01T00:01:00.250Z"


@pytest.mark.parametrize("wish,is_cancel", [(None, False), (Cause.CANCELLED, True), (Cause.EXPIRED, False)])
async def test_only_a_cancel_is_shown_as_one(wish: Cause | None, *, is_cancel: bool) -> None:
    requests, _ = parse_requests(b'{"shell": ":"}', tasks_max=1)
    view = (await FakeService().submit(requests, is_array=False))[0]
    running = TaskRecord(view.record.facts, Progress(state=TaskState.RUNNING, wish=wish))
    assert task_json(TaskView(running, None, None, None)).cancel_requested is is_cancel


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_moments_are_read_back_to_the_millisecond(moment: datetime) -> None:
    text = rfc3339(moment.timestamp())
    assert len(text) == len("2026-01-01T00:00:00.000Z")
    assert abs(datetime.fromisoformat(text).timestamp() - moment.timestamp()) <= 0.001


@pytest.mark.parametrize("wall", [-1e15, 1e15, -62_135_683_200.0, 253_402_387_199.0])
def test_moments_that_no_calendar_has_are_no_failure(wall: float) -> None:
    datetime.fromisoformat(rfc3339(wall))
