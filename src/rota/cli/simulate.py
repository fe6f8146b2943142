"""``rota simulate``: runs a cluster that there is not, in virtual time, and says how it did."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from rota.cli import completing, options
from rota.cli.options import json_option

__all__ = ["command"]

EXISTING: Final = click.Path(exists=True, dir_okay=False, path_type=Path)

SCENARIO_OR_FLAGS: Final = (
    "workers", "worker_cpu", "worker_memory", "worker_gpus", "tasks", "rate", "duration", "arrivals", "mix",
    "mean_duration", "durations", "shapes", "trace", "time_scale",
)  # fmt: skip
"""Flags that a scenario file says better: with one they are refused, or it would not be clear what they change."""


@click.command(
    epilog="""Examples:

    \b
    rota simulate
    rota simulate --workers 200 --tasks 5000 --arrivals bursty --mean-duration 30s
    rota simulate --workers 50 --tasks 5000 --compare binpack,spread,least-loaded --plot picture.svg
    rota simulate scenario.yaml --ordering fair --json
    rota simulate --trace jobs.swf --workers 64 --worker-cpu 32
    rota simulate --from-history ~/.local/state/rota --placement binpack --add-workers 20
    """
)
@click.argument("scenario", required=False, type=EXISTING)
@click.option("--workers", type=int, help="How many there are.  [default: 10]")
@click.option("--worker-cpu", type=options.CPU, help="Cores of each.  [default: 4]")
@click.option("--worker-memory", type=options.MEMORY, help="Of each.  [default: 16G]")
@click.option("--worker-gpus", type=options.GPUS, help="Memory of each card: 24G,24G.")
@click.option("--tasks", type=int, help="How many come.  [default: 1000, without --duration]")
@click.option("--rate", type=float, help="Tasks a second.  [default: what keeps 90 % of the cores busy]")
@click.option("--duration", type=options.DURATION, help="For how long they come.")
@click.option(
    "--arrivals",
    metavar="PATTERN",
    shell_complete=completing.words(*completing.ARRIVALS),
    help="steady, bursty, ramp-up, ramp-down, sinusoidal or poisson.  [default: poisson]",
)
@click.option(
    "--mix",
    metavar="MIX",
    shell_complete=completing.words(*completing.MIXES),
    help="What tasks do: cpu, io, memory or mixed.  [default: mixed]",
)
@click.option("--mean-duration", type=options.DURATION, help="Of a task.  [default: 10s]")
@click.option(
    "--durations",
    metavar="DISTRIBUTION",
    shell_complete=completing.words(*completing.DURATIONS),
    help="fixed, uniform, exponential, lognormal or pareto.  [default: exponential]",
)
@click.option("--shapes", type=int, help="Kinds of tasks that ask for different things.  [default: a few]")
@click.option("--trace", type=EXISTING, help="What came: .csv, or .swf (Standard Workload Format); .gz if packed.")
@click.option("--time-scale", type=float, help="Let a trace come this much slower; below 1, faster.")
@click.option(
    "--placement",
    metavar="POLICY",
    shell_complete=completing.placements,
    help="Which worker gets a task.  [default: least-loaded]",
)
@click.option(
    "--ordering",
    metavar="ORDER",
    shell_complete=completing.words(*completing.ORDERINGS),
    help="Which task goes first: fcfs, priority or fair.  [default: priority]",
)
@click.option("--ageing", type=float, help="Priority gained for a minute's wait.  [default: 0]")
@click.option("--compare", metavar="A,B,…", help="Run each of these placements; fair:binpack sets the ordering, too.")
@click.option(
    "--from-history",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="STATE",
    help="Replay what a coordinator's state directory has on record.",
)
@click.option(
    "--add-workers", type=click.IntRange(0), default=0, help="To those of the history: more of their usual kind."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw it into this .png or .svg.")
@click.option("--events", is_flag=True, help="Print all that happens, to stderr.")
@click.option("--seed", type=int, help="Of all chance: the same gives the same, to the byte.  [default: 0]")
@click.option("--until", type=options.DURATION, help="Stop after so much virtual time.")
@json_option
def command(*, as_json: bool, **given: Any) -> None:  # the types are those of the options
    """Try a cluster, a policy or a workload in virtual time, before it meets you.

    The scheduler, the order of its duties and the workers' side of the protocol are those of a real cluster; time,
    network and store are not. What tasks do is made up, or replayed from a trace or from a cluster's own history. A
    scenario is a YAML file with workers, load, queues, limits and faults; without one, options say what there is, and
    of --tasks, --rate and --duration two say how many come.
    """
    from rota.cli import simulated  # noqa: PLC0415 - it imports the simulator, which --help does without
    from rota.cli.reports import show  # noqa: PLC0415 - likewise

    misplaced = [name for name in SCENARIO_OR_FLAGS if given[name] is not None]
    if given["scenario"] is not None and misplaced:
        flag = misplaced[0].replace("_", "-")
        raise click.UsageError(f"--{flag} goes without a scenario file: change the file, or leave it out.")
    if given["from_history"] is not None and (given["scenario"] is not None or misplaced):
        raise click.UsageError("--from-history brings its own workers and tasks: leave out what would make others.")
    began = time.perf_counter()
    if given["plot"] is not None:
        simulated.check_picture(given["plot"])
    comparison = simulated.make_comparison(given)
    finished = simulated.run_comparison(comparison, on_line=_to_stderr if given["events"] else None)
    show(finished, history=comparison.history, as_json=as_json)
    if given["plot"] is not None:  # last, so that a full disk costs the picture alone
        simulated.draw(finished, given["plot"])
    seconds = time.perf_counter() - began
    decisions = sum(each.report.decisions for each in finished)
    click.echo(f"simulated in {seconds:.1f} s: {decisions / seconds:,.0f} decisions a second", err=True)


def _to_stderr(line: str) -> None:
    with suppress(BrokenPipeError):
        click.echo(line, err=True)
