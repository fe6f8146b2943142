"""Durations, sizes and times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.cli import amounts, text


@pytest.mark.parametrize(
    "written,seconds",
    [("0", 0.0), ("1.5", 1.5), ("250ms", 0.25), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("7d", 604_800.0)],
)
def test_durations_are_read(written: str, seconds: float) -> None:
    assert amounts.parse_duration_s(written) == seconds


@pytest.mark.parametrize("written", ["", "s", "-1", "-5s", "5 m", "1e3", "inf", "nan", "5y", "1h-3m", "٣s", "5s\n"])
def test_what_is_no_duration_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match="write 30s, 5m"):
        amounts.parse_duration_s(written)


@pytest.mark.parametrize(
    "written,mib",
    [("512", 512), ("512M", 512), ("2G", 2048), ("1.5GiB", 1536), ("2gb", 2048), ("1T", 1 << 20), ("1B", 1)],
)
def test_memory_is_read_in_mib_and_rounded_up(written: str, mib: int) -> None:
    assert amounts.parse_memory_mib(written) == mib


@pytest.mark.parametrize("written", ["", "G", "-1G", "1.G", "2 X", "1e9", "0x10"])
def test_what_is_no_size_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        amounts.parse_bytes(written)


@pytest.mark.parametrize("written,milli", [("1", 1000), ("0.5", 500), ("1500m", 1500), ("0", 0)])
def test_cpu_is_read_as_cores_or_millicores(written: str, milli: int) -> None:
    assert amounts.parse_cpu_milli(written) == milli


@pytest.mark.parametrize("written", ["cpu", "=4", "cpu=4.5", "cpu=-1", "cpu=1,cpu=2", "memory=x", ""])
def test_nonsense_resources_are_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"KEY=VALUE|whole number|given twice|not a size"):
        amounts.parse_resources(written)


def test_a_number_of_gpus_that_must_be_their_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 1024"):
        amounts.parse_gpus("24576")


def test_a_time_without_a_zone_is_this_machines() -> None:
    moment = datetime.fromisoformat(amounts.parse_moment("2030-01-31T12:00:00"))
    assert moment.utcoffset() is not None
    assert moment.replace(tzinfo=None) == datetime(2030, 1, 31, 12)  # noqa: DTZ001 - the wall clock is what is compared


def test_since_takes_how_long_ago() -> None:
    assert amounts.parse_since("1h", now=7200.0) == datetime.fromtimestamp(3600.0, UTC).isoformat()
    assert amounts.parse_since("2030-01-31T12:00:00Z", now=0.0) == "2030-01-31T12:00:00+00:00"


@given(st.integers(0, 2**50))
def test_a_number_of_bytes_reads_back_as_itself(count: int) -> None:
    assert amounts.parse_bytes(str(count)) == count


@given(st.floats(0, 1e9, allow_nan=False))
def test_what_is_shown_as_a_duration_is_near_the_truth(seconds: float) -> None:
    shown = text.duration(seconds)
    assert abs(amounts.parse_duration_s(shown) - seconds) <= max(0.05 * seconds, 0.0006)


@given(st.text())
def test_nothing_that_is_shown_moves_a_cursor(name: str) -> None:
    shown = text.escaped(name)
    assert shown.isprintable()
    assert shown == name or not name.isprintable()


def test_a_gang_without_a_size_is_refused() -> None:
    assert amounts.parse_gang("a:b:4") == {"id": "a:b", "size": 4}
    for wrong in ("train", "train:", ":4", "train:x"):
        with pytest.raises(ValueError, match="such as train:4"):
            amounts.parse_gang(wrong)
