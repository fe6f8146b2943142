"""``rota stats``: shows the counts of the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from rota.cli.options import json_option, print_json, with_client
from rota.cli.text import duration, escaped, quantity
from rota.cli.views import ShownShadow, ShownStats, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

EXAMPLES: Final = 3
"""Of tasks that would have gone elsewhere: the last ones."""


@click.command(
    epilog="""Examples:

    \b
    rota stats
    rota stats --json | jq .tasks
    """
)
@json_option
@with_client
def command(client: HttpClient, *, as_json: bool) -> None:
    """Show the counts of the coordinator: tasks by state, why they wait, what the workers have left."""
    stats = client.stats()
    if as_json:
        print_json(stats)
        return
    for label, text in _lines(view_of(stats, ShownStats)):
        click.echo(f"{label + ':':<9} {escaped(text)}")


def _lines(stats: ShownStats) -> Iterator[tuple[str, str]]:
    yield "rota", f"{stats.version}, cluster {stats.cluster}, epoch {stats.epoch}, up {duration(stats.uptime)}"
    yield "tasks", _counts(stats.tasks)
    if any(stats.reasons.values()):
        yield "waiting", _counts(stats.reasons)
    yield "workers", _counts(stats.nodes)
    yield "reserved", ", ".join(_reserved(stats)) or "nothing"
    if stats.rates:
        yield "rates", ", ".join(f"{rate:g} {name}/s" for name, rate in sorted(stats.rates.items()))
    if stats.shadow is not None:
        for text in _shadow(stats.shadow):
            yield "shadow", text


def _shadow(shadow: ShownShadow) -> Iterator[str]:
    """What another policy would have done, in sentences."""
    part = shadow.same / shadow.decisions if shadow.decisions else 1.0
    yield (
        f"{shadow.policy} would have chosen the same worker for {100 * part:.0f} % of {shadow.decisions:,} lanes "
        f"in {duration(shadow.seconds)}"
    )
    yield (
        f"with {shadow.other_workers_in_use:.1f} workers in use on average instead of {shadow.workers_in_use:.1f}; "
        f"for {shadow.no_room:,} lanes it had no room"
    )
    yield f"for {duration(shadow.would_start_s)} a task waited that it would have started"
    for each in shadow.examples[-EXAMPLES:]:
        yield f"{each.task} went to {each.worker}, and would have gone to {each.other or 'nobody'}"


def _reserved(stats: ShownStats) -> Iterator[str]:
    for name, total in sorted(stats.capacity.items()):
        yield f"{name} {quantity(name, stats.used.get(name, 0))}/{quantity(name, total)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"
