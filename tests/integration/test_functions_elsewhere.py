"""Functions, arguments, results and failures between this process and one that has only what a slot has.

The other process imports `rota.functions` alone, from another folder, so none of what is defined here can be
imported there.
"""

from __future__ import annotations

import enum
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rota.client.callables import Callables, dump_arguments
from rota.client.decorator import task
from rota.functions.failure import RemoteTraceback, load_failure
from rota.functions.pickling import load_value

SLOT = """
import pickle, struct, sys
from rota.functions.failure import dump_failure
from rota.functions.pickling import dump_value, load_call, load_function
unknown = [name for name in sys.modules if name.startswith(("rota.client", "rota.core", "msgspec", "numpy"))]
assert not unknown, unknown
functions = {}
source, sink = sys.stdin.buffer, sys.stdout.buffer
while head := source.read(8):
    name, function, envelope = pickle.loads(source.read(struct.unpack("<Q", head)[0]))
    try:
        if name not in functions:
            functions[name] = load_function(function)
        args, kwargs = load_call(envelope)
        answer = True, b"".join(dump_value(functions[name](*args, **kwargs)))
    except BaseException as error:
        answer = False, b"".join(dump_failure(error))
    body = pickle.dumps(answer)
    sink.write(struct.pack("<Q", len(body)) + body)
    sink.flush()
"""


class Slot:
    """Calls functions in the other process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._callables = Callables()

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        template = self._callables.template_of(function)
        envelope = b"".join(dump_arguments(args, kwargs))
        body = pickle.dumps((template.function_digest, template.pickled, envelope))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack("<Q", len(body)) + body)
        self._process.stdin.flush()
        (length,) = struct.unpack("<Q", self._process.stdout.read(8))
        is_result, answer = pickle.loads(self._process.stdout.read(length))
        if is_result:
            return load_value(answer)
        error, text = load_failure(answer)
        raise error if error is not None else AssertionError(text)


@pytest.fixture(scope="module")
def slot() -> Iterator[Slot]:
    with subprocess.Popen(
        [sys.executable, "-c", SLOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as process:
        yield Slot(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Shape:
    sides: int
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)

    def doubled(self) -> Shape:
        return Shape(self.sides * FACTOR, self.colour, [*self.tags, "doubled"])


class Refused(Exception):
    """One of the user's own, with arguments of its own."""

    def __init__(self, shape: Shape, *, reason: str) -> None:
        super().__init__(f"{shape.sides} sides: {reason}")
        self.shape = shape
        self.reason = reason


FACTOR = 2


def double(shape: Shape) -> Shape:
    assert isinstance(shape, Shape)
    return shape.doubled()


def refuse(shape: Shape) -> None:
    try:
        raise KeyError(shape.sides)
    except KeyError as error:
        raise Refused(shape, reason="too many") from error


def add_one(array: Any) -> Any:
    array += 1
    return array


@task(retries=1)
def triple(x: int) -> int:
    return x * 3


def nine_times(x: int) -> int:
    return triple(triple(x))


def make_class() -> Any:
    class Made:
        value = 7

    return Made()


def test_values_of_own_classes_are_of_them_when_they_come_back(slot: Slot) -> None:
    back = slot.call(double, Shape(3, Colour.BLUE))
    assert type(back) is Shape
    assert back == Shape(6, Colour.BLUE, ["doubled"])
    assert back.colour is Colour.BLUE


def test_own_class_keeps_its_globals_after_a_result(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    slot.call(double, Shape(3))
    monkeypatch.setitem(globals(), "FACTOR", 5)
    assert Shape(1).doubled().sides == 5


def test_own_exception_is_caught_by_its_class(slot: Slot) -> None:
    with pytest.raises(Refused, match="3 sides: too many") as caught:
        slot.call(refuse, Shape(3))
    assert caught.value.shape == Shape(3)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in refuse" in caught.value.__cause__.text
    assert isinstance(caught.value.__cause__.__cause__, KeyError)


def test_arrays_can_be_written_to_on_both_sides(slot: Slot) -> None:
    array = np.zeros(1000)
    back = slot.call(add_one, array)
    back += 1
    assert back.sum() == 2000
    assert array.sum() == 0


def test_decorated_functions_call_each_other_there(slot: Slot) -> None:
    assert slot.call(triple, 2) == 6
    assert slot.call(nine_times, 2) == 18


def test_closures_and_lambdas_travel_with_what_they_use_now(slot: Slot) -> None:
    factor = 2
    multiply = lambda x: x * factor  # noqa: E731 - what users write
    assert slot.call(multiply, 4) == 8
    factor = 3
    assert slot.call(multiply, 4) == 12
    assert slot.call(sorted, [3, 1, 2], key=lambda x: -x) == [3, 2, 1]


def test_class_made_there_is_known_here_by_its_looks(slot: Slot) -> None:
    one, other = slot.call(make_class), slot.call(make_class)
    assert (one.value, other.value) == (7, 7)
    assert type(one) is not Shape


def test_missing_module_is_named(slot: Slot) -> None:
    def import_it() -> None:
        import no_such_module_anywhere  # type: ignore[import-not-found]  # noqa: F401, PLC0415 - it is to fail

    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        slot.call(import_it)


def test_result_that_cannot_travel_is_a_failure(slot: Slot) -> None:
    with pytest.raises(TypeError, match="pickle"):
        slot.call(lambda: (x for x in [1]))
