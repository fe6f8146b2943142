"""``rota bench``: measures a cluster in a minute, and says what the figures mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from rota.cli import completing, options
from rota.cli.options import json_option, with_client

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

SECONDS_MIN: Final = 2.0
"""Less would measure the start of processes and no more."""

SECONDS_MAX: Final = 600.0
WORKERS_MAX: Final = 64


@click.command(
    epilog="""Examples:

    \b
    rota bench
    rota bench --seconds 10 --json | jq .commands_per_second
    rota bench --local --workers 2       # of a cluster of its own, on this machine
    """
)
@click.option("--seconds", type=options.DURATION, default="60", show_default=True, help="It takes this long at most.")
@click.option("--local", "is_local", is_flag=True, help="Start a cluster on this machine, and measure that.")
@click.option(
    "--workers", type=click.IntRange(1, WORKERS_MAX), help="Of the cluster that --local starts.  [default: 1]"
)
@click.option(
    "--queue", default="default", show_default=True, shell_complete=completing.queues(), help="Where tasks go."
)
@click.option("--anyway", "is_forced", is_flag=True, help="Measure also while the cluster has other work.")
@json_option
@with_client
@click.pass_context
def command(
    ctx: click.Context, _client: HttpClient, /, *, is_local: bool, workers: int | None, seconds: float, **given: Any
) -> None:
    """Measure a cluster in a minute: what a task costs, how many it takes a second, and what limits it.

    It runs some thousand tasks that do nothing, with low priority and the label bench=NAME. A cluster that has other
    work is left alone, unless --anyway says so. Ctrl-C cancels what is left and exits with 130.
    """
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise click.UsageError(f"--seconds: from {SECONDS_MIN:g} to {SECONDS_MAX:g}, got {seconds:g}")
    if workers is not None and not is_local:
        raise click.UsageError("--workers goes with --local: another cluster has the workers that it has")
    from rota.cli import benched  # noqa: PLC0415 - it imports the SDK, which --help does without

    if is_local:
        with benched.local_cluster(workers or 1) as url:
            benched.bench({"url": url}, seconds=seconds, **given)
        return
    connection = {name: ctx.params[name] for name in ("url", "token", "ca_file")}
    benched.bench(connection, seconds=seconds, **given)
