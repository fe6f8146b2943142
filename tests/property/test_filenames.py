"""Names never lead out of the folder they are joined to; patterns match as a dumb second way says."""

from __future__ import annotations

import os.path
import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rota.core.filenames import FilePattern, find_flaw_in_name, find_flaw_in_pattern
from rota.core.model import OutputFile

DIGEST = "ab" * 32

hostile = st.lists(
    st.one_of(st.sampled_from(["..", ".", "", "/", "\\", "\0", "\n", "a", "~", "*", "C:"]), st.text(max_size=3)),
    max_size=8,
).map("/".join)
parts = st.text(alphabet="ab.", min_size=1, max_size=4).filter(lambda part: part not in (".", ".."))
names = st.lists(parts, min_size=1, max_size=5).map("/".join)
pattern_parts = st.one_of(
    st.just("**"),
    st.text(alphabet="ab.*?", min_size=1, max_size=4).filter(lambda part: "**" not in part and part not in (".", "..")),
)
patterns = st.lists(pattern_parts, min_size=1, max_size=5).map("/".join)


@given(hostile)
def test_a_name_that_is_taken_stays_below_the_folder(name: str) -> None:
    if find_flaw_in_name(name) is None:
        joined = os.path.normpath(os.path.join("/scratch/7", name))
        assert joined.startswith("/scratch/7/")
        assert joined == f"/scratch/7/{name}"
        assert name.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", name)


@given(hostile)
def test_what_a_worker_may_name_is_what_may_be_named(name: str) -> None:
    """The bounds at the border say the same as the rules, but for the length of one part."""
    try:
        msgspec.convert((name, DIGEST, 1), OutputFile)
    except msgspec.ValidationError:
        assert find_flaw_in_name(name) is not None
    else:
        assert find_flaw_in_name(name) is None


@given(patterns, names)
def test_a_pattern_matches_what_its_regular_expression_does(pattern: str, name: str) -> None:
    assert find_flaw_in_pattern(pattern) is None
    assert FilePattern(pattern).matches(name) == (re.fullmatch(as_expression(pattern), name) is not None)


def test_a_row_of_any_folders_is_walked_like_one() -> None:
    row, one = FilePattern("**/" * 340 + "x"), FilePattern("**/x")
    assert (row.start, row.step(row.start, "a")) == (one.start, one.step(one.start, "a"))


def as_expression(pattern: str) -> str:
    visible = r"(?!\.)"
    expression = ""
    given_parts = pattern.split("/")
    for place, part in enumerate(given_parts):
        is_last = place == len(given_parts) - 1
        if part == "**":
            expression += f"(?:{visible}[^/]+/)*" + (f"{visible}[^/]+" if is_last else "")
            continue
        if not part.startswith("."):
            expression += visible
        expression += "".join({"*": "[^/]*", "?": "[^/]"}.get(sign) or re.escape(sign) for sign in part)
        expression += "" if is_last else "/"
    return expression


@given(patterns, names)
def test_a_walk_gives_a_folder_up_only_where_nothing_below_it_can_match(pattern: str, name: str) -> None:
    walked = FilePattern(pattern)
    places = walked.start
    is_open = True
    for part in name.split("/")[:-1]:
        places = walked.step(places, part)
        is_open = is_open and bool(places)
    assert is_open or not walked.matches(name)
