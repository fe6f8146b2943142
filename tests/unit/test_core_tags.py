"""Tag expressions: what they mean, where they go wrong, and whom a task with some gets."""

from __future__ import annotations

import pytest

from rota.core.tags import TagFilter, TagSyntaxError, parse_tag
from rota.core.why import why_it_waits
from tests.support.core import Core, only


@pytest.mark.parametrize(
    "text,position,problem",
    [
        ("", 1, "must begin"),
        ("!", 2, "must begin"),
        ("-gpu", 1, "must begin"),
        ("gpu fast", 4, "not understood"),
        ("cuda>=", 7, "comes a version"),
        ("cuda>=x", 7, "comes a version"),
        ("cuda>=12 or so", 9, "not understood"),
        ("gpu~~", 5, "not understood"),
        ("!cuda>=12", 1, "goes with a plain tag only"),
        ("!gpu~", 1, "goes with a plain tag only"),
        ("executor:process", 9, "not understood"),
        ("x" * 101, 101, "longer than 100"),
        ("gpü", 3, "not understood"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, position: int, problem: str) -> None:
    with pytest.raises(TagSyntaxError, match=problem) as caught:
        parse_tag(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "expression,tags,accepts",
    [
        ("gpu", {"gpu"}, True),
        ("gpu", {"gpu-2"}, False),
        ("!spot", {"gpu"}, True),
        ("!spot", {"spot"}, False),
        ("gpu~", set(), True),
        ("cuda>=12", {"cuda-12.0"}, True),
        ("cuda>=12", {"cuda-11.8"}, False),
        ("cuda>=12", {"cuda"}, False),
        ("cuda>=12", set(), False),
        ("cuda<12.4", {"cuda-12.3.1"}, True),
        ("cuda==12", {"cuda-12.0"}, True),
        ("cuda>=11", {"cuda-10", "cuda-12"}, True),
        ("cu-da>=3", {"cu-da-3"}, True),
        ("zone=a", {"zone=a"}, True),
        ("zone=a", {"zone=b"}, False),
    ],
)
def test_what_an_expression_accepts(expression: str, tags: set[str], accepts: bool) -> None:
    assert TagFilter([expression]).accepts(frozenset(tags)) is accepts


def test_avoided_and_versioned_tags_decide_where_a_task_goes() -> None:
    core = Core()
    core.hello("old", tags=["gpu", "cuda-11.8"])
    core.hello("spot", tags=["gpu", "cuda-12.4", "spot"])
    core.hello("good", tags=["gpu", "cuda-12.0"])
    assert core.worker_of(only(core.submit(tags=["gpu", "cuda >= 12", "!spot"]))) == "good"


def test_preferred_tags_come_first_and_others_are_better_than_none() -> None:
    core = Core()
    core.hello("plain", cpu=4000)
    core.hello("ssd", tags=["ssd"], cpu=2000)
    core.hello("both", tags=["ssd", "big"], cpu=1000)
    placed = [core.worker_of(only(core.submit(tags=["ssd~", "big~"]))) for _ in range(4)]
    assert placed == ["both", "ssd", "ssd", "plain"]
    core.end(core.state.cluster.workers["both"].lanes[1].line[0].seq)  # type: ignore[index] # ids are texts
    assert core.worker_of(only(core.submit(tags=["ssd~", "big~"]))) == "both"


def test_why_it_waits_is_said_in_the_words_of_the_task() -> None:
    core = Core()
    core.hello("w1", tags=["cuda-11.8"])
    core.hello("w2", tags=["cuda-12.1", "spot"])
    task = core.task(only(core.submit(tags=["cuda>=12", "!spot"])))
    why = why_it_waits(core.state, task)
    assert why.text == "no worker has all of the tags !spot, cuda>=12"
    assert [blocker.text for blocker in why.blockers] == ["1 worker lacks tag !spot", "1 worker lacks tag cuda>=12"]
    only_spot = core.task(only(core.submit(tags=["cuda>=13"])))
    assert why_it_waits(core.state, only_spot).text == "no worker has the tag cuda>=13"


def test_a_task_that_no_tag_keeps_from_anybody_waits_for_no_tag() -> None:
    core = Core()
    core.hello("w1", tags=["spot"])
    task = core.task(only(core.submit(tags=["!spot"])))
    assert why_it_waits(core.state, task).text == "no worker is without the tag spot"
