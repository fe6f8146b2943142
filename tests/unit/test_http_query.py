"""Query strings and paths: whatever bytes they are, they are understood or refused, never our failure."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.coordinator.http import Guard, GuardConfig
from rota.coordinator.http.query import NoQuery, QueryReader, check_path, next_page_link
from rota.coordinator.http.tasks import ListQuery, LogsQuery, WaitQuery
from rota.core.errors import BadRequest, Forbidden

NAMES = [*ListQuery.__struct_fields__, *LogsQuery.__struct_fields__, *WaitQuery.__struct_fields__, "other"]
VALUES = st.sampled_from(
    ["", "1", "-1", "1e400", "nan", "null", "true", "2026-01-01T00:00:00Z", "%", "%ff", "%00", "a:b"]
)
QUERIES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode()
    ),
)


@given(QUERIES)
def test_any_query_is_understood_or_refused(query: bytes) -> None:
    for shape in (NoQuery, WaitQuery, ListQuery, LogsQuery):
        with suppress(BadRequest):
            assert isinstance(QueryReader(shape).read(query), shape)


@given(st.binary(max_size=60))
def test_any_path_is_understood_or_refused(path: bytes) -> None:
    with suppress(BadRequest):
        check_path(path)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_host_and_origin_pass_or_are_refused(host: bytes, origin: bytes) -> None:
    with suppress(Forbidden):
        Guard(GuardConfig()).check([(b"host", host), (b"origin", origin)], path="/", scheme="http")


def test_an_empty_query_gives_the_defaults() -> None:
    assert QueryReader(ListQuery).read(b"") == ListQuery()


def test_a_plus_that_became_a_space_in_a_moment_is_read_as_meant() -> None:
    read = QueryReader(ListQuery).read
    assert read(b"since=2026-01-01T02:00:00+02:00") == read(b"since=2026-01-01T00:00:00Z")


@pytest.mark.parametrize("wait,words", [(b"999", "wait: must be at most 300"), (b"-1", "wait: must be at least 0")])
def test_a_number_out_of_bounds_is_told_the_bound(wait: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        QueryReader(WaitQuery).read(b"wait=" + wait)


def test_an_endpoint_without_parameters_says_so() -> None:
    with pytest.raises(BadRequest, match="none"):
        QueryReader(NoQuery).read(b"verbose=1")


@given(st.lists(st.tuples(st.sampled_from(["state", "label", "name"]), st.text(max_size=8)), max_size=4))
def test_the_next_page_keeps_every_filter(pairs: list[tuple[str, str]]) -> None:
    with suppress(BadRequest):
        link = next_page_link("/p", urlencode(pairs).encode(), cursor=5).decode()
        query = link.removeprefix("</p?").removesuffix('>; rel="next"')
        assert parse_qsl(query, keep_blank_values=True) == [*pairs, ("cursor", "5")]
