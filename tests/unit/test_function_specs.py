"""What is read of the specs of functions: the same, whether it was read before or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.core.spec import TaskSpec, encode_spec, with_args
from rota.worker.executors import function
from rota.worker.executors.function import CallReader

DIGEST = "ab" * 32

sizes = st.sampled_from([0, 1, 255, 256, 65_535, 65_536])
words = st.sampled_from(["args", "\xa4args", "x", "args\xc4\x00", ""]) | st.text(max_size=20)


@given(
    labels=st.dictionaries(words.filter(bool), words, max_size=3),
    env=st.dictionaries(words.filter(bool), words, max_size=2),
    name=st.none() | words,
    all_args=st.lists(st.builds(bytes, sizes) | st.binary(max_size=40), min_size=2, max_size=5),
)
def test_what_was_read_before_is_read_again_the_same(
    labels: dict[str, str], env: dict[str, str], name: str | None, all_args: list[bytes]
) -> None:
    template = TaskSpec(function=DIGEST, name=name, labels=labels, env=env, queue="q", timeout=2.0)
    reader = CallReader()
    for args, spec in zip(all_args, with_args(encode_spec(template), all_args), strict=True):
        found = reader.read(spec)
        assert found is not None
        call, read_args = found
        assert read_args == args
        assert (call.needs, call.queue, call.timeout_s, call.env) == ((DIGEST,), "q", 2.0, env)


def test_calls_that_differ_by_arguments_alone_are_one() -> None:
    reader = CallReader()
    specs = with_args(encode_spec(TaskSpec(function=DIGEST)), [b"\0one", b"\0" + b"two" * 1000])
    (one, _), (other, _) = (reader.read(spec) or ((), ()) for spec in specs)
    assert one is other


def test_what_comes_before_the_arguments_is_told_apart() -> None:
    reader = CallReader()
    for queue in ("a", "b", "a"):
        (spec,) = with_args(encode_spec(TaskSpec(function=DIGEST, queue=queue)), [b"\0"])
        found = reader.read(spec)
        assert found is not None
        assert found[0].queue == queue


def test_a_name_that_looks_like_arguments_misleads_nobody() -> None:
    reader = CallReader()
    for args in (b"\0one", b"\0two"):
        found = reader.read(encode_spec(TaskSpec(function=DIGEST, labels={"args": "x"}, args=args)))
        assert found is not None
        assert found[1] == args


def test_programs_are_none_of_ours() -> None:
    reader = CallReader()
    assert reader.read(encode_spec(TaskSpec(command=["true"]))) is None
    assert reader.read(encode_spec(TaskSpec(command=["true"], env={"args": "x"}))) is None


def test_only_so_much_is_remembered() -> None:
    reader = CallReader()
    for number in range(function.HEADS_MAX * 2):
        (spec,) = with_args(encode_spec(TaskSpec(function=DIGEST, name=f"n{number}")), [b"\0"])
        reader.read(spec)
    (spec,) = with_args(encode_spec(TaskSpec(function=DIGEST, env={"A": "x" * function.HEAD_BYTES_MAX})), [b"\0"])
    reader.read(spec)
    assert 0 < len(reader._calls) <= function.HEADS_MAX
    assert max(map(len, reader._calls)) < function.HEAD_BYTES_MAX
