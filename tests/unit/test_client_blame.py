"""What can't be pickled is told by the name that its user knows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rota.client.callables import Callables, dump_arguments
from rota.core.errors import NotPicklable, RotaError

db: Any = None
state: dict[str, Any] = {}


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:")
    monkeypatch.setitem(globals(), "db", opened)
    monkeypatch.setitem(state, "conn", opened)
    yield opened
    opened.close()


def uses_db() -> Any:
    return db.execute("select 1")


def calls_uses_db() -> Any:
    return uses_db()


def uses_state() -> Any:
    return state["conn"]


@dataclass
class Holder:
    lock: Any = field(default_factory=threading.Lock)
    inner: Any = None

    def work(self) -> None: ...


class Refusing:
    def __reduce__(self) -> Any:
        raise ValueError("refuses")


def blamed_arguments(*args: Any, **kwargs: Any) -> NotPicklable:
    with pytest.raises(NotPicklable) as caught:
        dump_arguments(args, kwargs, name="resize")
    return caught.value


def blamed_function(function: Callable[..., Any]) -> NotPicklable:
    with pytest.raises(NotPicklable) as caught:
        Callables().template_of(function)
    return caught.value


def test_error_is_of_both_trees() -> None:
    error = blamed_arguments(x for x in [1])
    assert isinstance(error, TypeError)
    assert isinstance(error, RotaError)
    assert error.__cause__ is not None


def test_argument_is_named_by_its_place() -> None:
    assert str(blamed_arguments(1, (x for x in [1]))) == (
        "argument 2 of resize (a generator) can't be pickled: pass a list of what it yields"
    )
    assert str(blamed_arguments(lock=threading.Lock())) == (
        "argument `lock` of resize (a _thread.lock) can't be pickled: make it inside the function"
    )


def test_path_leads_into_nested_things(connection: sqlite3.Connection) -> None:
    error = blamed_arguments({"a": [1, Holder(lock=None, inner={"conn": connection})]})
    assert error.path == "args[0]['a'][1].inner['conn']"
    assert "args[0]['a'][1].inner['conn'] is a sqlite3.Connection; open it inside the function" in str(error)


def test_what_people_know_is_named_not_what_is_inside() -> None:
    with ThreadPoolExecutor() as pool:
        future = pool.submit(abs, -1)
        assert "(a concurrent.futures._base.Future) can't be pickled: pass its result()" in str(
            blamed_arguments(future)
        )
        assert "a concurrent.futures.thread.ThreadPoolExecutor; make another one inside the function" in str(
            blamed_arguments({"pool": pool})
        )
        assert "uses the variable `pool` (a concurrent.futures.thread.Thread" in str(blamed_function(lambda: pool))


def test_variable_of_a_function_is_named(connection: sqlite3.Connection) -> None:
    assert str(blamed_function(uses_db)) == (
        "the function uses_db uses the variable `db` (a sqlite3.Connection), which can't be pickled: "
        "open it inside the function"
    )


def test_function_that_is_called_is_named(connection: sqlite3.Connection) -> None:
    error = blamed_function(calls_uses_db)
    assert "uses_db, which calls_uses_db calls, uses the variable `db`" in str(error)


def test_item_of_a_variable_is_named(connection: sqlite3.Connection) -> None:
    error = blamed_function(uses_state)
    assert "uses the variable `state`" in str(error)
    assert error.path == "state['conn']"


def test_variable_of_an_enclosing_function_is_named() -> None:
    lock = threading.Lock()
    error = blamed_function(lambda: lock)
    assert "uses the variable `lock` (a _thread.lock)" in str(error)


def test_default_is_named() -> None:
    lock = threading.Lock()

    def inner(guard: Any = lock) -> None: ...

    assert "has a default for its parameter `guard` (a _thread.lock)" in str(blamed_function(inner))


def test_object_of_a_method_is_named() -> None:
    error = blamed_function(Holder().work)
    assert "lock" in error.path
    assert "a _thread.lock" in str(error)


def test_open_file_is_named(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w") as file:
        assert "(an open file) can't be pickled: open it inside the function" in str(blamed_arguments(file))


def test_class_that_refuses_is_blamed_itself() -> None:
    assert "args[0][0] is a" in str(blamed_arguments([Refusing()]))


def test_set_and_key_and_tuple_are_looked_into() -> None:
    lock = threading.Lock()
    assert blamed_arguments({lock: 1}).path.startswith("args[0] key <unlocked")
    assert blamed_arguments(({lock},)).path.startswith("args[0][0] item <unlocked")


def test_search_in_something_large_and_circular_ends() -> None:
    circle: list[Any] = [threading.Lock()]
    for _ in range(100):
        circle = [list(range(50)), circle, circle]
    circle.append(circle)
    assert "args[0][1]" in str(blamed_arguments(circle))


def test_thing_beyond_the_bounds_of_the_search_is_not_named_wrongly() -> None:
    assert str(blamed_arguments([*range(2000), threading.Lock()])) == (
        "argument 1 of resize (a list) can't be pickled: TypeError: cannot pickle '_thread.lock' object"
    )
