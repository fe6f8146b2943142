"""Tasks in files, cut into requests."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.cli.batches import BATCH_BYTES_MAX, BATCH_TASKS_MAX, PlacedSpec, Spec, cut_into_batches, read_specs
from rota.core.errors import BadRequest, TooLarge

specs = st.lists(st.fixed_dictionaries({"command": st.lists(st.text(), min_size=1, max_size=3)}), max_size=5)


def read(content: str, **defaults: object) -> list[Spec]:
    return [placed.spec for placed in placed_specs(content, **defaults)]


def placed_specs(content: str, **defaults: object) -> list[PlacedSpec]:
    return list(read_specs(io.BytesIO(content.encode()), defaults))


def on_lines(tasks: list[Spec]) -> list[PlacedSpec]:
    return [PlacedSpec(f"line {line}", task) for line, task in enumerate(tasks, start=1)]


@given(specs)
def test_lines_and_arrays_hold_the_same_tasks(tasks: list[Spec]) -> None:
    lines = "\n".join(json.dumps(task) for task in tasks)
    assert read(lines) == tasks
    assert read(json.dumps(tasks)) == tasks
    assert read(json.dumps(tasks, indent=2)) == tasks


def test_each_task_knows_its_place() -> None:
    lines = '\n{"shell": "a"}\n\n{"shell": "b"}\n'
    array = '\n [{"shell":\n"a"},\n\n{"shell": "[{},\\n{}]"}, {"shell": "c"}\n,\n{"shell": "c"}]'
    assert [placed.place for placed in placed_specs(lines)] == ["line 2", "line 4"]
    places = [placed.place for placed in placed_specs(array)]
    assert places == ["task 0 (line 2)", "task 1 (line 5)", "task 2 (line 5)", "task 3 (line 7)"]
    assert [placed.place for placed in placed_specs('\n{\n "shell": "a"}')] == ["line 2"]


def test_one_task_may_stand_on_several_lines() -> None:
    assert read('\n{\n  "shell": "true"\n}\n') == [{"shell": "true"}]


def test_blank_lines_are_passed_over() -> None:
    assert read('{"shell": "a"}\n\n  \n{"shell": "b"}\n') == [{"shell": "a"}, {"shell": "b"}]


def test_options_fill_in_what_a_task_leaves_out() -> None:
    assert read('{"shell": "a"}\n{"shell": "b", "queue": "slow"}', queue="fast") == [
        {"shell": "a", "queue": "fast"},
        {"shell": "b", "queue": "slow"},
    ]


@pytest.mark.parametrize("content", ["nonsense", "[1]", "[", "7", "[{}", '"a"'])
def test_what_is_no_task_is_refused(content: str) -> None:
    with pytest.raises(BadRequest, match="line 1 is not a task in JSON"):
        read(content)


def test_a_bad_line_is_named() -> None:
    with pytest.raises(BadRequest, match="line 3 is not a task"):
        read('{"shell": "a"}\n\n{"shell": "b"\n')


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(BadRequest, match="line 2"):
        list(read_specs(io.BytesIO(b'{"shell": "a"}\n{"shell": "\xff"}'), {}))
    with pytest.raises(BadRequest, match="line 1"):
        list(read_specs(io.BytesIO(b'{"shell": "\xff"}\n{"shell": "a"}'), {}))


def test_brackets_without_end_are_refused() -> None:
    for before in ("", '{"shell": "a"}\n'):
        with pytest.raises(BadRequest, match="is not a task"):
            read(before + '{"env": ' + "[" * 100_000)


def test_batches_keep_the_order_and_know_their_place() -> None:
    tasks = [{"name": str(number)} for number in range(2 * BATCH_TASKS_MAX + 1)]
    batches = list(cut_into_batches(on_lines(tasks)))
    assert [(batch.places[0], batch.count) for batch in batches] == [
        ("line 1", 1000),
        ("line 1001", 1000),
        ("line 2001", 1),
    ]
    assert [task for batch in batches for task in json.loads(batch.body)] == tasks


def test_large_tasks_make_small_batches() -> None:
    tasks = [{"stdin": "x" * 1_000_000}] * 9
    batches = list(cut_into_batches(on_lines(tasks)))
    assert sum(batch.count for batch in batches) == 9
    assert all(len(batch.body) <= BATCH_BYTES_MAX + 1_000_100 for batch in batches)


def test_an_empty_file_has_no_tasks() -> None:
    assert list(cut_into_batches(placed_specs(""))) == []


def test_a_task_that_no_request_can_hold_is_named() -> None:
    tasks = on_lines([{"shell": "a"}, {"stdin": "x" * (8 << 20)}])
    with pytest.raises(TooLarge, match="line 2: the task is 8,388,6"):
        list(cut_into_batches(tasks))
