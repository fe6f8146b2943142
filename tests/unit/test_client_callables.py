"""Templates of functions: what they say, when they are made anew, and what happens to decorated functions."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import timeit
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rota.client.callables import PYTHON, Callables, Template, callable_name
from rota.client.decorator import TaskFunction, task
from rota.client.default import NoClient, enter_client, leave_client
from rota.client.options import Options
from rota.core.requests import check_template
from rota.core.spec import TaskSpec, decode_spec

FACTOR = 2
SETTINGS = {"factor": 2}


def scaled(x: int) -> int:
    return inner_scaled(x)


def inner_scaled(x: int) -> int:
    return x * FACTOR


def from_settings(x: int) -> int:
    return x * SETTINGS["factor"]


@task(retries=2, timeout=5)
def decorated(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


def calls_decorated(x: int) -> int:
    return decorated(x)


def run(template: Template, *args: Any) -> Any:
    return pickle.loads(template.pickled)(*args)


def run_elsewhere(template: Template) -> str:
    """Run it in another process: loaded here, it would put the plain function in the place of the decorated one."""
    script = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())())"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, input=template.pickled, cwd="/", capture_output=True, check=True).stdout.decode()


def spec_of(template: Template) -> TaskSpec:
    assert check_template(template.encoded) is not None
    return decode_spec(template.encoded)


@pytest.fixture
def callables() -> Callables:
    return Callables()


def test_template_names_the_function_by_its_digest(callables: Callables) -> None:
    template = callables.template_of(scaled)
    spec = spec_of(template)
    assert (spec.function, spec.callable, spec.python) == (template.function_digest, "scaled", PYTHON)
    assert spec.args is None
    assert run(template, 4) == 8


def test_template_carries_every_option(callables: Callables) -> None:
    options = Options(
        name="n",
        cpu=2,
        memory="1G",
        tags=("ssd",),
        priority="high",
        queue="q",
        timeout=3,
        retries=4,
        losses=0,
        backoff=0.5,
        delay=1,
        labels={"a": "b"},
        env={"A": "1"},
        cwd="/tmp",
        requirements=("numpy",),
        deadline=60,
    )
    spec = spec_of(callables.template_of(scaled, options, job="nightly"))
    assert spec.resources == {"cpu": 2000, "memory": 1024}
    assert spec.labels == {"a": "b", "job": "nightly"}
    assert (spec.name, spec.tags, spec.queue, spec.timeout, spec.retries) == ("n", ["ssd"], "q", 3.0, 4)
    assert (spec.losses, spec.backoff, spec.delay, spec.env) == (0, 0.5, 1.0, {"A": "1"})
    assert (spec.cwd, spec.requirements, spec.deadline, spec.priority) == ("/tmp", ["numpy"], 60.0, "high")


def test_same_function_is_served_from_memory(callables: Callables) -> None:
    options = Options(retries=1)
    assert callables.template_of(scaled) is callables.template_of(scaled)
    assert callables.template_of(scaled, options) is callables.template_of(scaled, Options(retries=1))
    assert callables.template_of(scaled) is not callables.template_of(scaled, options)
    assert callables.template_of(scaled, job="a") is not callables.template_of(scaled, job="b")


def test_submitting_again_costs_next_to_nothing(callables: Callables) -> None:
    first_s = timeit.timeit(lambda: Callables().template_of(scaled), number=20) / 20
    callables.template_of(scaled)
    again_s = min(timeit.repeat(lambda: callables.template_of(scaled), number=1000, repeat=5)) / 1000
    assert again_s < first_s / 5  # 50 times, where nothing else runs


def test_variable_bound_anew_is_noticed(callables: Callables, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(callables.template_of(scaled), 1) == 2
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert run(callables.template_of(scaled), 1) == 3


def test_helper_defined_anew_is_noticed(callables: Callables, monkeypatch: pytest.MonkeyPatch) -> None:
    callables.template_of(scaled)
    monkeypatch.setitem(globals(), "inner_scaled", lambda x: -x)
    assert run(callables.template_of(scaled), 1) == -1


def test_helper_whose_code_is_replaced_is_noticed(callables: Callables, monkeypatch: pytest.MonkeyPatch) -> None:
    callables.template_of(scaled)
    monkeypatch.setattr(inner_scaled, "__code__", (lambda x: x + 100).__code__)
    assert run(callables.template_of(scaled), 1) == 101


def test_cell_of_a_closure_bound_anew_is_noticed(callables: Callables) -> None:
    factor = 1

    def inner(x: int) -> int:
        return x * factor

    assert run(callables.template_of(inner), 2) == 2
    factor = 5
    assert run(callables.template_of(inner), 2) == 10


def test_name_that_is_bound_later_is_noticed(callables: Callables, monkeypatch: pytest.MonkeyPatch) -> None:
    function = eval("lambda: later_name", globals())
    template = callables.template_of(function)
    with pytest.raises(NameError):
        run(template)
    monkeypatch.setitem(globals(), "later_name", 7)
    assert run(callables.template_of(function)) == 7


def test_change_in_place_is_noticed(callables: Callables, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(callables.template_of(from_settings), 1) == 2
    monkeypatch.setitem(SETTINGS, "factor", 9)
    assert run(callables.template_of(from_settings), 1) == 9


def test_same_bytes_give_the_same_template(callables: Callables) -> None:
    # Pickled each time, because it uses what can change; sent once, because it has not.
    assert callables.template_of(from_settings) is callables.template_of(from_settings)


def test_large_things_are_pickled_once(callables: Callables) -> None:
    table = np.zeros(100_000)

    def look_up(index: int) -> float:
        return float(table[index])

    template = callables.template_of(look_up)
    table[3] = 7.0
    assert callables.template_of(look_up) is template


def test_default_bound_anew_is_noticed(callables: Callables, monkeypatch: pytest.MonkeyPatch) -> None:
    def inner(x: int = 1) -> int:
        return x

    callables.template_of(inner)
    inner.__defaults__ = (2,)
    assert run(callables.template_of(inner)) == 2


def test_function_that_is_gone_is_forgotten(callables: Callables) -> None:
    callables.template_of(lambda: 1)
    keep_a_recursive_function(callables)
    gc.collect()
    assert not callables._kept


def keep_a_recursive_function(callables: Callables) -> None:
    def recursive(n: int) -> int:
        return recursive(n - 1) if n else 0

    template = callables.template_of(recursive)
    assert callables.template_of(recursive) is template


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def bump(self) -> int:
        self.count += 1
        return self.count

    @task(retries=1)
    def bump_twice(self) -> int:
        self.bump()
        return self.bump()

    def __call__(self) -> int:
        return self.count


def test_methods_and_callable_objects_travel_as_they_are_now(callables: Callables) -> None:
    counter = Counter()
    assert run_elsewhere(callables.template_of(counter.bump)) == "1\n"
    counter.count = 5
    assert run_elsewhere(callables.template_of(counter.bump)) == "6\n"
    assert run_elsewhere(callables.template_of(counter)) == "5\n"
    assert counter.count == 5


def test_partial_and_builtin_and_class(callables: Callables) -> None:
    assert run(callables.template_of(partial(max, 3)), 1) == 3
    assert run(callables.template_of(sum), [1, 2]) == 3
    assert run(callables.template_of(Path), "a") == Path("a")
    assert run(callables.template_of("-".join), ["a", "b"]) == "a-b"


def test_what_cannot_be_called_is_refused(callables: Callables) -> None:
    with pytest.raises(TypeError, match="submit takes a function and its arguments, and 3 can't be called"):
        callables.template_of(3)  # type: ignore[arg-type]  # that is what is refused


@pytest.mark.parametrize(
    "function,name",
    [
        (scaled, "scaled"),
        (sum, "sum"),
        (partial(partial(max, 1), 2), "max"),
        (Counter().bump, "Counter.bump"),
        (Counter(), "Counter"),
        (lambda: 1, "<lambda>"),
        (np.sqrt, "sqrt"),
        (decorated, "decorated"),
    ],
)
def test_functions_are_called_by_their_names(function: Any, name: str) -> None:
    assert callable_name(function) == name


# @rota.task -----------------------------------------------------------------------------------


def test_decorated_function_is_called_as_before() -> None:
    assert decorated(1, y=2) == 3
    assert decorated.__doc__ == "Add."
    assert getattr(decorated, "__name__", None) == "decorated"
    assert repr(decorated) == "<task function decorated>"


def test_decorator_needs_no_parentheses() -> None:
    @task
    def bare(x: int) -> int:
        return -x

    assert bare(1) == -1
    assert isinstance(bare, TaskFunction)


def test_options_of_a_decorated_function_are_honoured(callables: Callables) -> None:
    assert spec_of(callables.template_of(decorated)).retries == 2
    assert spec_of(callables.template_of(decorated, job="j")).timeout == 5.0
    changed = decorated.options(retries=7)
    assert (spec_of(callables.template_of(changed)).retries, spec_of(callables.template_of(changed)).timeout) == (7, 5)
    assert decorated.task_options.retries == 2


def test_decorated_function_is_plain_on_the_other_side(callables: Callables) -> None:
    assert run(callables.template_of(decorated), 1, 5) == 6
    assert run(callables.template_of(calls_decorated), 4) == 5
    assert type(pickle.loads(callables.template_of(decorated).pickled)).__name__ == "function"


def test_decorated_method_is_bound(callables: Callables) -> None:
    counter = Counter()
    assert counter.bump_twice() == 2
    assert run_elsewhere(callables.template_of(counter.bump_twice)) == "4\n"
    assert spec_of(callables.template_of(counter.bump_twice)).retries == 1


def test_recursive_decorated_function_travels(callables: Callables) -> None:
    @task
    def countdown(n: int) -> int:
        return n if n == 0 else countdown(n - 1)

    assert run(callables.template_of(countdown), 3) == 0


def test_decorating_twice_or_a_value_is_refused() -> None:
    with pytest.raises(TypeError, match="decorated already"):
        task(retries=1)(decorated)
    with pytest.raises(TypeError, match="options are named"):
        task(3)  # type: ignore[call-overload]  # that is what is refused
    with pytest.raises(TypeError, match="did you mean `retries`"):
        task(retires=3)


class FakeClient:
    def __init__(self) -> None:
        self.submitted: list[tuple[Any, ...]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.submitted.append((fn, args, kwargs))
        return "future"


def test_submit_goes_to_the_client_in_use() -> None:
    outer, inner = FakeClient(), FakeClient()
    enter_client(outer)
    enter_client(inner)
    try:
        assert decorated.submit(1, y=2) == "future"  # type: ignore[comparison-overlap]  # the fake's
        leave_client(inner)
        decorated.submit(3)
    finally:
        leave_client(outer)
    assert inner.submitted == [(decorated, (1,), {"y": 2})]
    assert outer.submitted == [(decorated, (3,), {})]


def test_submit_without_a_client_says_what_to_do() -> None:
    with pytest.raises(NoClient, match=r"with rota\.Client"):
        decorated.submit(1)
