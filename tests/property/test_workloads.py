"""Patterns, distributions and mixes: each does what its name says, for any size."""

from __future__ import annotations

import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.errors import BadRequest
from rota.core.requests import check_template
from rota.core.spec import encode_spec, terms_of
from rota.workloads import ARRIVALS, DURATIONS, MIXES, make_arrivals, make_durations, make_mix

rates = st.floats(0.01, 1000.0)
spans = st.floats(1.0, 1000.0)
names = st.sampled_from(sorted(ARRIVALS))
DRAWN: Final = 20_000


def times_of(name: str, *, rate: float, duration_s: float, seed: int = 1) -> list[float]:
    return list(make_arrivals(name, rate=rate, duration_s=duration_s).times(random.Random(seed)))


@given(names, rates, st.floats(0.1, 20.0), st.integers(0, 9))
def test_as_many_come_as_the_rate_says_in_order_and_in_time(name: str, rate: float, span_s: float, seed: int) -> None:
    times = times_of(name, rate=rate, duration_s=span_s, seed=seed)
    assert len(times) == round(rate * span_s)
    assert times == sorted(times)
    assert all(0.0 <= at <= span_s for at in times)


@pytest.mark.parametrize(
    "name,parts",
    [
        ("steady", [0.25, 0.25, 0.25, 0.25]),
        ("ramp-up", [1 / 16, 3 / 16, 5 / 16, 7 / 16]),
        ("ramp-down", [7 / 16, 5 / 16, 3 / 16, 1 / 16]),
        ("poisson", [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_each_quarter_of_the_time_has_its_part(name: str, parts: list[float]) -> None:
    times = times_of(name, rate=200.0, duration_s=100.0)
    counted = [sum(25 * quarter <= at < 25 * (quarter + 1) for at in times) / len(times) for quarter in range(4)]
    assert counted == pytest.approx(parts, abs=0.02)


def test_bursts_have_most_of_the_tasks_in_little_of_the_time() -> None:
    times = times_of("bursty", rate=100.0, duration_s=100.0)
    in_bursts = sum(at % 20.0 >= 16.0 for at in times)
    assert in_bursts / len(times) == pytest.approx(0.8, abs=0.01)


def test_waves_are_highest_in_the_middle_and_nothing_between() -> None:
    times = times_of("sinusoidal", rate=100.0, duration_s=100.0)
    tops = sum(0.25 <= at % 25.0 / 25.0 < 0.75 for at in times)
    assert tops / len(times) == pytest.approx(0.5 + 1.0 / 3.14159265, abs=0.01)


@pytest.mark.parametrize("name", sorted(DURATIONS))
@pytest.mark.parametrize("mean_s", [0.02, 10.0])
def test_durations_have_the_mean_that_was_asked_for(name: str, mean_s: float) -> None:
    rng, durations = random.Random(3), make_durations(name, mean_s=mean_s)
    drawn = [durations.draw(rng) for _ in range(DRAWN)]
    assert sum(drawn) / DRAWN == pytest.approx(mean_s, rel=0.06)
    assert min(drawn) >= 0.0


@pytest.mark.parametrize("name", sorted(MIXES))
@pytest.mark.parametrize("shapes", [0, 1, 100])
def test_mixes_make_tasks_that_a_coordinator_takes(name: str, shapes: int) -> None:
    rng, mix = random.Random(5), make_mix(name, durations=make_durations("uniform", mean_s=1.0), shapes=shapes)
    drawn = [mix.draw(rng) for _ in range(2_000)]
    for task in drawn[:50]:
        check_template(encode_spec(task.spec()))
        assert task.work.mib <= task.resources["memory"]
    found = {terms_of(task.spec()).shape for task in drawn}
    assert len(found) >= min(2, shapes or 2) if name != "mixed" else len(found) > 2
    if shapes:
        assert len(found) <= shapes + 2


@given(names, rates, spans)
def test_same_seed_makes_the_same_tasks(name: str, rate: float, span_s: float) -> None:
    first, second = (times_of(name, rate=min(rate, 50.0), duration_s=min(span_s, 20.0), seed=7) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "make,says",
    [
        (lambda: make_arrivals("burst", rate=1, duration_s=1), "did you mean 'bursty'"),
        (lambda: make_arrivals("zzz", rate=1, duration_s=1), "there are steady, bursty"),
        (lambda: make_arrivals("steady", rate=-1, duration_s=1), "rate is -1: it must be"),
        (lambda: make_arrivals("steady", rate=1, duration_s=float("nan")), "duration is nan"),
        (lambda: make_arrivals("steady", rate=float("inf"), duration_s=1), "rate is inf"),
        (lambda: make_durations("fixd", mean_s=1), "did you mean 'fixed'"),
        (lambda: make_durations("fixed", mean_s=-1), "the mean duration is -1"),
        (lambda: make_mix("gpu", durations=make_durations("fixed", mean_s=1)), "mix: there is no 'gpu'"),
        (lambda: make_mix("cpu", durations=make_durations("fixed", mean_s=1), shapes=-1), "shapes is -1"),
    ],
)
def test_nonsense_is_refused_with_what_to_do(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(BadRequest, match=says):
        make()
