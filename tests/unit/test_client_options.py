"""What a user may say of tasks, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import rota
from rota.client.options import DEFAULT_OPTIONS, Options, refuse_as_arguments


def test_unknown_option_is_refused_with_the_near_name() -> None:
    with pytest.raises(TypeError, match="no option `retires`: did you mean `retries`"):
        Options.of(retires=3)
    with pytest.raises(TypeError, match="there are cpu, memory, name"):
        Options.of(xyzzy=3)


def test_an_option_among_the_arguments_is_told_where_it_belongs() -> None:
    def fit(x: int, *, priority: int = 0) -> int:
        return x + priority

    with pytest.raises(TypeError, match=r"fit\(\) takes no argument 'retries'.*submit\(rota.task\(retries=…\)\(fit\)"):
        refuse_as_arguments(fit, ["x", "retries"])
    with pytest.raises(TypeError, match=r"submit\(rota.task\(cpu=…\)\(fit\)"):
        refuse_as_arguments(rota.task(retries=2)(fit), ["cpu"])


def test_what_a_function_takes_is_its_own() -> None:
    def free(**anything: int) -> int:
        return len(anything)

    def named(name: str, timeout: float) -> str:
        return name * int(timeout)

    refuse_as_arguments(free, ["retries", "cpu"])
    refuse_as_arguments(named, ["name", "timeout"])
    refuse_as_arguments(max, ["retries"])  # does not say what it takes
    refuse_as_arguments(named, ["mistaken"])  # is Python's to tell


def test_amounts_have_one_form() -> None:
    assert Options(cpu=2, memory="4G") == Options(resources={"cpu": 2000, "memory": 4096})
    assert Options(memory=512).resources == {"memory": 512}
    assert Options(cpu=0.5).resources == {"cpu": 500}
    assert Options(resources={"gpu": 1, "gpu_memory": "8G"}).resources == {"gpu": 1, "gpu_memory": 8192}  # type: ignore[dict-item]  # a size is understood


def test_equal_options_are_found_under_each_other() -> None:
    one = Options(labels={"a": "1", "b": "2"})
    other = Options(labels={"b": "2", "a": "1"})
    assert {one: 1}[other] == 1


def test_changes_add_to_what_is_there() -> None:
    options = Options(cpu=2, labels={"a": "1"}, retries=1).changed(memory="1G", labels={"b": "2"}, cpu=1)
    assert options == Options(cpu=1, memory="1G", labels={"a": "1", "b": "2"}, retries=1)
    with pytest.raises(TypeError, match="timeout"):
        options.changed(timout=3)


def test_durations_may_be_timedeltas() -> None:
    assert Options(timeout=timedelta(minutes=2)).timeout == 120.0  # type: ignore[arg-type]  # understood as well


@pytest.mark.parametrize(
    "options,problem",
    [
        ({"retries": -1}, "retries can't be negative"),
        ({"retries": 1.5}, "whole number"),
        ({"retries": True}, "whole number"),
        ({"timeout": 0}, "more than 0"),
        ({"timeout": float("nan")}, "more than 0"),
        ({"timeout": "5m"}, "number of seconds"),
        ({"delay": -1}, "at least 0"),
        ({"priority": 101}, "0 to 100"),
        ({"priority": "urgent"}, "low, medium, normal, high, critical"),
        ({"priority": 1.5}, "whole number"),
        ({"resources": {"cpu": 2}}, "thousandths of a core"),
        ({"resources": {"cpu": -2000}}, "negative"),
        ({"resources": "cpu=2"}, "dictionary"),
        ({"cpu": "2"}, "number of cores"),
        ({"cpu": -1}, "can't be"),
        ({"memory": "4 gigs"}, "'512M' or '4G'"),
        ({"memory": 1.5}, "whole number"),
        ({"tags": "gpu"}, "list of texts"),
        ({"tags": [1]}, "list of texts"),
        ({"labels": {"a": 1}}, "texts to texts"),
        ({"env": ["A=1"]}, "dictionary"),
        ({"queue": 3}, "must be a text"),
        ({"start_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is what is refused
        ({"start_at": "tomorrow"}, "datetime"),
        ({"requirements": "numpy"}, "list of texts"),
        ({"exclusive": 1}, "True or False"),
        ({"gang": "train"}, "an id and a size"),
        ({"gang": ("train", -1)}, "can't be negative"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        Options.of(**options)


def test_all_that_makes_sense_is_taken() -> None:
    options = Options(
        name="n",
        priority="high",
        queue="q",
        timeout=1,
        backoff=0,
        deadline=datetime(2030, 1, 1, tzinfo=UTC),
        tags=("ssd",),
        env={"A": "1"},
        requirements=("pandas==2.2",),
    )
    assert options != DEFAULT_OPTIONS
    assert options.changed() == options
