"""What `rota bench` says: each sentence stands on figures, changes with them, and is not there without."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from rota.cli.main import cli
from rota.cli.verdicts import Figures, Times, WorkerFigures, verdicts
from rota.core.model import Offer
from tests.support.coordinators import live_coordinator
from tests.support.house import ROOT


def times(median_ms: float) -> Times:
    return Times(count=100, median_ms=median_ms, p99_ms=2 * median_ms)


def said(**measured: Any) -> str:
    """What is said of a cluster of two workers with four cores."""
    return "\n".join(verdicts(Figures(run="b-1", url="http://x", workers=2, cores=4.0, at_once=4, **measured)))


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert said() == ""


@pytest.mark.parametrize(
    "rate,cost,worth", [(1000.0, "4.0 ms", "36 ms"), (100.0, "40 ms", "360 ms"), (2.0, "2.0s", "18s")]
)
def test_a_command_is_worth_a_task_from_nine_times_its_cost_on(rate: float, cost: str, worth: str) -> None:
    text = said(commands_per_second=rate)
    assert f"A command costs about {cost} of a core." in text
    assert f"From {worth} on, nine tenths of the time is work." in text


def test_functions_are_recommended_by_how_much_less_they_cost() -> None:
    assert "costs 0.20 ms of a core, 20 times less than a command" in said(
        commands_per_second=1000.0, functions_per_second=20_000.0
    )
    # As dear as a command, or with nothing to compare: no advice.
    for text in (said(commands_per_second=1000.0, functions_per_second=1100.0), said(functions_per_second=1100.0)):
        assert "times less" not in text
        assert "A Python function costs 3.6 ms of a core." in text


def test_a_slow_disk_is_named_with_its_commit() -> None:
    text = said(round_trip=times(31.0), commit_ms=12.0, program_ms=2.0, request=times(0.5))
    assert "takes 31 ms, of that about 24 ms for the two commits of the store, 2.0 ms for the program" in text
    assert "The store's disk is the bottleneck of single tasks: a commit takes 12 ms." in text
    assert "way to the coordinator is" not in text


def test_a_long_way_is_named_and_the_disk_is_not() -> None:
    text = said(round_trip=times(50.0), commit_ms=1.0, program_ms=2.0, request=times(20.0))
    assert "40 ms for two requests there and back" in text
    assert "The way to the coordinator is what a single task waits for" in text
    assert "bottleneck" not in text


def test_where_nothing_stands_out_nothing_is_blamed() -> None:
    text = said(round_trip=times(10.0), commit_ms=1.0, program_ms=3.0, request=times(0.5))
    assert "takes 10 ms" in text
    assert "bottleneck" not in text
    assert "waits for" not in text.replace("submitted and waited for", "")


def test_many_in_one_request_are_recommended_where_it_helps() -> None:
    text = said(submit=times(2.0), submits_per_second=20_000.0)
    assert "one by one, 500/s are accepted, many in one request 20,000/s: 40 times as many" in text
    assert said(submit=times(2.0), submits_per_second=700.0) == ""


@pytest.mark.parametrize(
    "loop,workers,words",
    [
        (0.93, 0.5, "the coordinator's loop works 93% of the time: it is the limit"),
        (0.2, 0.9, "programs run on 90% of the 4 cores: the workers are the limit"),
        (0.2, 0.3, "works 20% of the time, and programs run on 30% of the 4 cores: neither is full"),
    ],
)
def test_the_limit_is_what_is_full(loop: float, workers: float, words: str) -> None:
    assert words in said(commands_per_second=1000.0, loop_busy=loop, workers_busy=workers)


def test_without_the_metrics_no_limit_is_named() -> None:
    assert "limit" not in said(commands_per_second=1000.0)


def test_a_slow_worker_is_named_and_like_ones_are_called_so() -> None:
    quick, slow = (WorkerFigures(id=name, commands=50, command_ms=ms) for name, ms in (("w1", 3.0), ("w2", 12.0)))
    assert "Worker w2 needs 12 ms for a command, w1 3.0 ms" in said(by_worker=[quick, slow])
    assert "The 2 workers are alike: from 3.0 ms to 3.0 ms" in said(
        by_worker=[quick, msgspec.structs.replace(quick, id="w3")]
    )


def test_workers_that_got_nothing_are_told() -> None:
    assert said(by_worker=[WorkerFigures(id="w1", commands=50, command_ms=3.0)]) == (
        "Of 2 workers only 1 got any of the many commands."
    )


def test_every_field_of_the_json_is_in_the_reference() -> None:
    names = {field.encode_name for shape in (Figures, Times, WorkerFigures) for field in msgspec.structs.fields(shape)}
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert not [name for name in names if f"`{name}`" not in reference]


# Before anything is measured -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--seconds", "1"], "--seconds: from 2 to 600, got 1"),
        (["--seconds", "1h"], "--seconds: from 2 to 600, got 3600"),
        (["--workers", "2"], "--workers goes with --local"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["bench", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_cluster_without_workers_says_what_to_do() -> None:
    with live_coordinator() as coordinator:
        empty = CliRunner().invoke(cli, ["bench", "--url", coordinator.url])
        coordinator.do(lambda: coordinator.service.add_node("half", offer=Offer(resources=(("cpu", 500),))))
        small = CliRunner().invoke(cli, ["bench", "--url", coordinator.url])
    assert (empty.exit_code, small.exit_code) == (1, 1)
    assert "there are no workers" in empty.stderr
    assert f"start one with 'rota worker --server {coordinator.url}'" in empty.stderr
    assert "of 1 workers none is online, takes commands and offers a core" in small.stderr
