"""Whatever can be pickled comes back the same, whichever way it goes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rota.functions.envelope import pack_value, unpack_value, value_bytes
from rota.functions.failure import dump_failure, load_failure
from rota.functions.pickling import dump_call, dump_value, load_call, load_value

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=200)
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.uuids()
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)
shapes = st.lists(st.integers(0, 7), max_size=3)
dtypes = st.sampled_from(["u1", "i8", "f4", "c16", ">i4", "S3", "datetime64[s]"])


def joined(pieces: list[bytes | memoryview]) -> bytes:
    made = b"".join(pieces)
    assert len(made) == value_bytes(pieces)
    return made


@given(values, st.booleans())
def test_values_round_trip(value: Any, is_by_value: bool) -> None:
    back = load_value(joined(dump_value(value, is_local=lambda pickled: is_by_value)))
    assert back == value
    assert pickle.dumps(type(back)) == pickle.dumps(type(value))


@given(st.lists(values, max_size=4), st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_calls_round_trip(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert load_call(joined(dump_call(tuple(args), kwargs))) == (tuple(args), kwargs)


@given(st.lists(st.tuples(shapes, dtypes, st.sampled_from("CF")), min_size=1, max_size=5))
def test_arrays_round_trip_and_can_be_written_to(described: list[tuple[list[int], str, str]]) -> None:
    arrays = []
    for shape, dtype, order in described:
        array = np.zeros(shape, dtype, order=order)  # type: ignore[call-overload]  # C or F, as said
        array.reshape(-1).view("u1")[:] = 1 if array.size else 0
        arrays.append(array)
    back = load_value(joined(dump_value({"arrays": arrays, "sliced": arrays[0][..., ::-1] if arrays[0].ndim else 1})))
    for array, copy in zip(arrays, back["arrays"], strict=True):
        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        assert copy.tobytes() == array.tobytes()
        copy[...] = np.zeros(1, array.dtype)[0]


@given(st.binary(max_size=100), st.lists(st.binary(max_size=300), max_size=6))
def test_pieces_are_found_where_they_were_put(pickled: bytes, buffers: list[bytes]) -> None:
    envelope = joined(pack_value(pickled, [memoryview(buffer) for buffer in buffers]))
    found, parts = unpack_value(envelope)
    assert (bytes(found), [bytes(part) for part in parts]) == (pickled, buffers)


@given(
    st.sampled_from([ValueError, KeyError, OSError, RuntimeError, StopIteration]),
    st.lists(leaves, max_size=3),
    st.lists(st.text(max_size=10), max_size=2),
)
def test_exceptions_round_trip(kind: type[Exception], args: list[Any], notes: list[str]) -> None:
    error = kind(*args)
    for note in notes:
        error.add_note(note)
    back, _ = load_failure(joined(dump_failure(error)))
    assert type(back) is type(error)
    assert back.args == error.args
    assert getattr(back, "__notes__", []) == notes
