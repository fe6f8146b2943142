"""Cron expressions: when they fire, also where clocks are set, and what is said of those that make no sense."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.cron import CronSyntaxError, FireTimes, UnknownZone, find_zone

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    """A moment as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def fires(expression: str, after: str, count: int, zone: str = BERLIN) -> list[str]:
    times = FireTimes(expression, zone)
    return [times.shown(fire) for fire in islice(times.after(at(after)), count)]


def test_an_expression_follows_the_clock_of_its_zone() -> None:
    assert fires("0 3 * * *", "2030-01-31T00:00:00Z", 2) == ["2030-01-31T03:00:00+01:00", "2030-02-01T03:00:00+01:00"]
    assert fires("0 3 * * *", "2030-07-01T00:00:00Z", 1) == ["2030-07-01T03:00:00+02:00"]
    assert fires("0 3 * * *", "2030-07-01T00:00:00Z", 1, "UTC") == ["2030-07-01T03:00:00+00:00"]


def test_the_moment_itself_is_not_after_it() -> None:
    assert fires("0 3 * * *", "2030-01-31T03:00:00+01:00", 1) == ["2030-02-01T03:00:00+01:00"]
    assert fires("0 3 * * *", "2030-01-31T02:59:59.999+01:00", 1) == ["2030-01-31T03:00:00+01:00"]


@pytest.mark.parametrize(
    "macro,fields",
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@MIDNIGHT", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
    ],
)
def test_macros_stand_for_fields(macro: str, fields: str) -> None:
    assert fires(macro, "2030-01-31T00:00:00Z", 3) == fires(fields, "2030-01-31T00:00:00Z", 3)


# Berlin sets its clocks from 02:00 to 03:00 on 2030-03-31, and from 03:00 to 02:00 on 2030-10-27.


def test_a_time_that_clocks_skip_fires_at_the_end_of_the_gap() -> None:
    expected = ["2030-03-30T02:30:00+01:00", "2030-03-31T03:00:00+02:00", "2030-04-01T02:30:00+02:00"]
    assert fires("30 2 * * *", "2030-03-30T00:00:00Z", 3) == expected


def test_several_times_that_clocks_skip_fire_once() -> None:
    expected = ["2030-03-31T03:00:00+02:00", "2030-04-01T02:00:00+02:00"]
    assert fires("0,15,30 2 * * *", "2030-03-30T12:00:00Z", 2) == expected
    # That of the gap and the one at its end are one, too.
    assert fires("0 2,3 * * *", "2030-03-30T12:00:00Z", 2) == expected


def test_a_time_that_comes_twice_fires_the_first_time() -> None:
    expected = ["2030-10-27T02:30:00+02:00", "2030-10-28T02:30:00+01:00"]
    assert fires("30 2 * * *", "2030-10-26T12:00:00Z", 2) == expected


def test_asked_between_both_comings_it_does_not_fire_again() -> None:
    assert fires("30 2 * * *", "2030-10-27T02:15:00+01:00", 1) == ["2030-10-28T02:30:00+01:00"]
    assert fires("30 2 * * *", "2030-10-27T02:45:00+02:00", 1) == ["2030-10-28T02:30:00+01:00"]


def test_the_hour_after_the_gap_fires_as_ever() -> None:
    assert fires("0 3 * * *", "2030-03-30T12:00:00Z", 1) == ["2030-03-31T03:00:00+02:00"]
    assert fires("0 3 * * *", "2030-10-26T12:00:00Z", 1) == ["2030-10-27T03:00:00+01:00"]


def test_what_begins_with_a_star_goes_on_evenly_through_both_nights() -> None:
    spring = fires("30 * * * *", "2030-03-31T00:00:00+01:00", 3)
    assert spring == ["2030-03-31T00:30:00+01:00", "2030-03-31T01:30:00+01:00", "2030-03-31T03:30:00+02:00"]
    autumn = fires("*/30 * * * *", "2030-10-27T02:00:00+02:00", 4)
    assert [fire[11:] for fire in autumn] == ["02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00", "03:00:00+01:00"]


@given(
    st.sampled_from(["* * * * *", "30 2 * * *", "0,30 2 * * *", "*/30 2 * * *", "0 2,3 * * *", "15 */2 * * *"]),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    st.integers(1_900_000_000, 1_935_000_000),
    st.integers(1, 86_400 * 3),
    st.integers(1, 50),
)
def test_the_latest_are_the_end_of_all(expression: str, zone: str, after: int, span_s: int, count_max: int) -> None:
    times = FireTimes(expression, zone)
    until = float(after + span_s)
    everything = []
    for fire in times.after(float(after)):
        if fire > until:
            break
        everything.append(fire)
    assert everything == sorted(set(everything))
    latest, more = times.latest(count_max, after=float(after), until=until)
    assert latest == everything[-count_max:]
    assert more == (len(everything) > count_max)


@given(st.sampled_from([BERLIN, "Australia/Lord_Howe"]), st.integers(1_900_000_000, 1_935_000_000), st.floats(0.0, 1e6))
def test_where_one_begins_to_look_changes_nothing(zone: str, start: int, later_s: float) -> None:
    times = FireTimes("10,40 2,14 * * *", zone)
    later = start + later_s
    from_start = next(fire for fire in times.after(float(start)) if fire > later)
    assert next(times.after(later)) == from_start


@pytest.mark.parametrize(
    "expression,column,width,problem",
    [
        ("0 25 * * *", 3, 2, "field 2 (hour), column 3: 25 is out of range: it must be 0 to 23"),
        ("60 * * * *", 1, 2, "field 1 (minute), column 1: 60 is out of range: it must be 0 to 59"),
        ("0 0 0 * *", 5, 1, "field 3 (day of the month), column 5: 0 is out of range: it must be 1 to 31"),
        ("0  0 *  13 *", 9, 2, "column 9: 13 is out of range: it must be 1 to 12 or JAN to DEC"),
        ("0 0 * * 1,8", 11, 1, "column 11: 8 is out of range: it must be 0 to 7 or SUN to SAT"),
        ("0 1-99 * * *", 5, 2, "column 5: 99 is out of range"),
        ("0 0 * * FRI-MON", 9, 7, "FRI-MON runs backwards: write FRI-7,0-MON to go round the end"),
        ("*/0 * * * *", 3, 1, "the step is '0': it must be a whole number from 1"),
        ("*/ * * * *", 3, 1, "the step is ''"),
        ("1,,2 * * * *", 3, 1, "there is nothing before or after a comma"),
        ("0 0 * * monday", 9, 6, "'monday' is no day of the week: it must be 0 to 7 or SUN to SAT"),
        ("*-5 * * * *", 1, 1, "'*' is no minute"),
        ("0 0 30 2 *", 5, 2, "it never fires: no month that it names has a day 30"),
        (
            "0 3 * *",
            8,
            1,
            "it has 4 fields: it must have five (minute, hour, day of the month, month, day of the week)",
        ),
        ("0", 2, 1, "put it in quotes, so that the shell leaves * alone"),
        ("", 1, 1, "it has 0 fields"),
        ("0 0 3 * * *", 11, 1, "it has 6 fields: it must have five"),
        ("@dayly", 1, 6, "there is no @dayly: write @daily or five fields"),
        ("@reboot", 1, 7, "there is no @reboot: write @hourly, @daily"),
        ("1\n2 * * * *", 11, 1, "it has 6 fields"),
    ],
)
def test_a_mistake_is_pointed_at(expression: str, column: int, width: int, problem: str) -> None:
    with pytest.raises(CronSyntaxError) as caught:
        FireTimes(expression, "UTC")
    assert problem in str(caught.value)
    assert (caught.value.column, caught.value.width) == (column, width)


def test_an_endless_expression_is_refused_unread() -> None:
    with pytest.raises(CronSyntaxError, match="3,009 characters: at most 500"):
        FireTimes("1" + ",1" * 1500 + " * * * *", "UTC")


@given(st.text(st.sampled_from("0123456789*/,-#LW@ \tJANmon\u017f\xb2\0"), max_size=30) | st.text(max_size=30))
def test_any_text_is_an_expression_or_a_mistake_in_it(text: str) -> None:
    column = 1
    found: list[float] = []
    try:
        found = list(islice(FireTimes(text, "UTC").after(1_900_000_000.0), 2))
    except CronSyntaxError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1
    assert all(fire % 60 == 0 for fire in found)


@pytest.mark.parametrize(
    "name,hint",
    [
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Berlin", "did you mean Europe/Berlin?"),
        ("Europe/Berlim", "did you mean Europe/Berlin"),
        ("new york", "did you mean America/New_York?"),
        ("Europe", "time zone 'Europe'"),
        ("../../etc/passwd", "time zone '../../etc/passwd'"),
        ("/etc/localtime", "time zone"),
        ("localtime", "time zone"),
        ("", "use a name such as UTC or Europe/Berlin"),
        ("UTC\0", "time zone"),
        ("x" * 1_000_000, "has at most 100 characters, not 1,000,000"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_near_one(name: str, hint: str) -> None:
    with pytest.raises(UnknownZone) as caught:
        find_zone(name)
    assert hint in str(caught.value)


def test_a_machine_without_zones_of_its_own_has_those_of_the_package() -> None:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert fires("0 3 * * *", "2030-07-01T00:00:00Z", 1) == ["2030-07-01T03:00:00+02:00"]
    finally:
        zoneinfo.reset_tzpath(before)


def test_times_end_where_the_calendar_does() -> None:
    assert list(islice(FireTimes("0 0 1 1 *", "UTC").after(at("9998-06-01T00:00:00Z")), 5)) == [
        at("9999-01-01T00:00:00Z")
    ]
