"""Values, calls and functions as bytes, and the task that a running function sees."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from rota.functions.context import CurrentTask, NotInATask, current, find_current, set_current
from rota.functions.envelope import ALIGNMENT, BadEnvelope, pack_value, unpack_value, value_bytes
from rota.functions.pickling import (
    call,
    digest_of,
    dump_call,
    dump_function,
    dump_value,
    load_call,
    load_function,
    load_value,
)


def joined(pieces: list[bytes | memoryview]) -> bytes:
    return b"".join(pieces)


def test_array_comes_back_writable() -> None:
    back = load_value(joined(dump_value(np.arange(5))))
    back += 1
    assert back.tolist() == [1, 2, 3, 4, 5]


def test_array_that_was_read_only_stays_so() -> None:
    array = np.arange(5)
    array.flags.writeable = False
    assert not load_value(joined(dump_value(array))).flags.writeable


def test_array_in_writable_memory_is_not_copied() -> None:
    envelope = bytearray(joined(dump_value(np.zeros(1000))))
    back = load_value(memoryview(envelope))
    back[:] = 7
    assert np.frombuffer(envelope, dtype=float, count=1000, offset=len(envelope) - 8000).sum() == 7000


def test_buffers_are_aligned_and_not_copied() -> None:
    array = np.arange(1000.0)
    pieces = dump_value(array)
    assert any(isinstance(piece, memoryview) and piece.nbytes == 8000 for piece in pieces)
    _, buffers = unpack_value(memoryview(bytearray(joined(pieces))))
    at = value_bytes(pieces) - buffers[-1].nbytes
    assert at % ALIGNMENT == 0


def test_lambda_among_the_arguments_goes_through() -> None:
    args, kwargs = load_call(joined(dump_call((lambda x: x + 1,), {"key": lambda x: -x})))
    assert args[0](1) == 2
    assert kwargs["key"](1) == -1


def test_what_is_local_goes_by_value() -> None:
    asked: list[bytes] = []
    pieces = dump_value(ValueError, is_local=lambda pickled: not asked.append(pickled))  # type: ignore[func-returns-value]  # it notes
    assert asked
    assert load_value(joined(pieces)) is ValueError


def test_class_that_comes_back_with_a_value_stays_as_it_is_here() -> None:
    class Shape:
        def area(self) -> str:
            return "as defined"

    pickled = joined(dump_value(Shape()))
    Shape.area = lambda self: "as changed since"  # type: ignore[method-assign]  # that is what users do
    back = load_value(pickled)
    assert type(back) is Shape
    assert back.area() == "as changed since"


def test_arguments_bring_a_class_to_the_state_that_it_has_over_there() -> None:
    class Shape:
        sides = 3

    pickled = joined(dump_call((Shape(),), {}))
    Shape.sides = 4
    args, _ = load_call(pickled)
    assert args[0].sides == 3


def test_class_that_is_unknown_here_comes_whole() -> None:
    class Shape:
        def area(self) -> str:
            return "as defined"

    envelope = joined(dump_value([Shape(), "x" * 100_000]))
    script = (
        "import sys; from rota.functions.pickling import load_value;"
        "print(load_value(sys.stdin.buffer.read())[0].area())"
    )
    done = subprocess.run([sys.executable, "-c", script], input=envelope, capture_output=True, check=True)
    assert done.stdout == b"as defined\n"


@pytest.mark.parametrize("args", [(), ((),), ((1,), {}), ((), {"a": 1}), (1, {"a": 2}), ([], {})])
def test_call_is_told_from_arguments_that_look_like_one(args: tuple[object, ...]) -> None:
    assert load_call(joined(dump_call(args, {}))) == (args, {})
    assert load_call(joined(dump_call(args, {"k": 1}))) == (args, {"k": 1})


def test_function_travels() -> None:
    factor = 3
    assert load_function(dump_function(lambda x: x * factor))(2) == 6
    assert load_function(dump_function(call))(lambda: 7) == 7


def test_digest_is_that_of_the_bytes() -> None:
    assert digest_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "envelope", [b"", b"\x09abc", b"\x01\x00", joined(pack_value(b"abc", [memoryview(b"xyz")]))[:-1]]
)
def test_broken_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(BadEnvelope):
        load_value(envelope)


def test_unpicklable_value_raises() -> None:
    with pytest.raises((TypeError, pickle.PicklingError)):
        dump_value(x for x in [1])


def test_there_is_no_current_task_outside_of_one() -> None:
    assert find_current() is None
    with pytest.raises(NotInATask, match="find_current"):
        current()


def test_progress_is_checked_and_reported() -> None:
    told: list[tuple[float | None, str]] = []
    task = CurrentTask(id="t1", attempt=1, queue="q", worker="w", report=lambda *mark: told.append(mark))
    set_current(task)
    try:
        assert current() is task is find_current()
        current().set_progress(0.4, "x" * 500)
        current().set_progress(None)
        with pytest.raises(ValueError, match=r"0\.0 to 1\.0"):
            current().set_progress(1.1)
        with pytest.raises(TypeError, match="must be a number, or None, got 'half'"):
            current().set_progress("half")  # type: ignore[arg-type]  # what users do
        with pytest.raises(TypeError, match="must be a string, got 3"):
            current().set_progress(0.5, 3)  # type: ignore[arg-type]  # what users do
    finally:
        set_current(None)
    assert told == [(0.4, "x" * 200), (None, "")]
    assert repr(task) == "<task t1, attempt 1>"
