"""Consistent hashing moves few keys, whoever comes; tag expressions read back as they are written."""

from __future__ import annotations

import random
import string

from hypothesis import given
from hypothesis import strategies as st

from rota.core.cluster import Room
from rota.core.model import Shape, WorkerId, WorkerRecord
from rota.core.placement.consistent_hash import ConsistentHash
from rota.core.queues import Queue
from rota.core.tags import TagFilter, TagSyntaxError, parse_tag
from rota.core.workers import Worker
from tests.support.core import make_offer

KEYS = [f"key-{number}" for number in range(400)]

names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6)
versions = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))


def worker(name: str, number: int) -> Worker:
    return Worker(WorkerRecord(WorkerId(name), "i", make_offer(cpu=10**9), False, 0.0, None), number=number, now=0.0)


def homes(there: list[Worker]) -> dict[str, str]:
    policy = ConsistentHash(random.Random(0))
    index = policy.make_index(Room(Shape((), frozenset()), policy, Queue("default")), there)
    found: dict[str, str] = {}
    for key in KEYS:
        chosen = index.choose(key, lambda _: True)
        assert chosen is not None
        found[key] = chosen.id
    return found


@given(count=st.integers(2, 30), salt=st.integers(0, 10**6))
def test_one_worker_more_takes_its_share_and_moves_nothing_else(count: int, salt: int) -> None:
    there = [worker(f"w{salt}-{number}", number) for number in range(count)]
    new = worker(f"new-{salt}", count)
    before, after = homes(there), homes([*there, new])
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(after[key] == new.id for key in moved)
    assert len(moved) <= 3 * len(KEYS) / (count + 1) + 10


@given(st.permutations(list(range(12))))
def test_the_order_in_which_workers_come_does_not_matter(order: list[int]) -> None:
    assert homes([worker(f"w{number}", number) for number in order]) == homes(
        [worker(f"w{number}", number) for number in range(12)]
    )


@given(
    name=names,
    kind=st.sampled_from(["{}", "!{}", "{}~", "{} >= V", "{}<V", "{} ==V~", "{}!= V"]),
    version=versions,
)
def test_an_expression_is_written_in_one_way(name: str, kind: str, version: str) -> None:
    wish = parse_tag(kind.format(name).replace("V", version))
    assert parse_tag(str(wish)) == wish
    assert " " not in str(wish)


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_an_error_with_a_place(text: str) -> None:
    error = None
    try:
        parse_tag(text)
    except TagSyntaxError as caught:
        error = caught
    if error is not None:
        assert 1 <= error.position <= len(text) + 1
        assert f"at character {error.position}" in str(error)


@given(found=versions, wanted=versions)
def test_versions_compare_as_numbers(found: str, wanted: str) -> None:
    def numbers(text: str) -> list[int]:
        parts = [int(part) for part in text.split(".")]
        return parts + [0] * (3 - len(parts))

    tags = frozenset({f"cuda-{found}", "other-99"})
    for operator, expected in (
        (">=", numbers(found) >= numbers(wanted)),
        ("<", numbers(found) < numbers(wanted)),
        ("==", numbers(found) == numbers(wanted)),
        ("!=", numbers(found) != numbers(wanted)),
    ):
        wish = TagFilter([f"cuda{operator}{wanted}"])
        assert wish.accepts(tags) == expected
        assert wish.unmet(tags) == ([] if expected else [f"cuda{operator}{wanted}"])
