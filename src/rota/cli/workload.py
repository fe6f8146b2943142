"""``rota workload``: puts a made-up load on a live cluster, and says how it took it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rota.cli import completing, options
from rota.cli.options import json_option, with_client

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]


@click.command(
    epilog="""Examples:

    \b
    rota workload
    rota workload --pattern sinusoidal --mix mixed --rate 50 --duration 60
    rota workload --pattern bursty --mix io --durations pareto --mean-duration 500ms --seed 7 --json
    """
)
@click.option(
    "--pattern",
    metavar="PATTERN",
    shell_complete=completing.words(*completing.ARRIVALS),
    default="steady",
    show_default=True,
    help="When tasks come: steady, bursty, ramp-up, ramp-down, sinusoidal or poisson.",
)
@click.option(
    "--mix",
    metavar="MIX",
    shell_complete=completing.words(*completing.MIXES),
    default="mixed",
    show_default=True,
    help="What they do: cpu, io, memory or mixed.",
)
@click.option("--rate", type=float, default=1.0, show_default=True, help="Tasks a second, on average.")
@click.option("--duration", type=options.DURATION, default="1m", show_default=True, help="For how long they come.")
@click.option("--mean-duration", type=options.DURATION, default="1s", show_default=True, help="Of a task.")
@click.option(
    "--durations",
    metavar="DISTRIBUTION",
    shell_complete=completing.words(*completing.DURATIONS),
    default="exponential",
    show_default=True,
    help="Of the tasks: fixed, uniform, exponential, lognormal or pareto.",
)
@click.option("--shapes", type=int, default=0, help="Kinds of tasks that ask for different things.  [default: a few]")
@click.option("--seed", type=int, help="Of all chance: the same makes the same tasks.  [default: drawn]")
@click.option(
    "--queue", shell_complete=completing.queues(), default="default", show_default=True, help="Where the tasks go."
)
@json_option
@with_client
def command(client: HttpClient, /, *, as_json: bool, **given: Any) -> None:  # the types are those of the options
    """Put a made-up load on the cluster: tasks that really compute, write, or hold memory, by the clock.

    No task asks for more than the largest worker has, and there are 1,000,000 at most. When all have ended it says how
    long they waited; it exits with 1 unless all completed. Ctrl-C or SIGTERM stops submitting, tells what is left, and
    exits with 130; the tasks go on.
    """
    from rota.cli import generated  # noqa: PLC0415 - it imports the workloads, which --help does without

    generated.run(client, given, as_json=as_json)
