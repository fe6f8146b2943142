"""``rota reserve``: lists reservations, and makes and ends them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from rota.cli import completing, options
from rota.cli.options import json_option, print_json, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import escaped, from_now, quantity
from rota.cli.views import ShownReservation, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

COLUMNS: Final = ("RESERVATION", "FOR", "BEGINS", "ENDS", "EACH", "ON")


@click.group(
    invoke_without_command=True,
    epilog="""Examples:

    \b
    rota reserve
    rota reserve add nightly --queue batch --resources cpu=8000,memory=32G --for 8h
    rota reserve add demo --workers 2 --tag gpu --resources gpu=1 --start-at 2030-01-31T12:00:00Z --for 2h
    rota reserve end demo
    """,
)
@json_option
@with_client
@click.pass_context
def command(ctx: click.Context, client: HttpClient, *, as_json: bool) -> None:
    """List reservations, and make them: room on workers that is kept for a queue or a label, for a span of time."""
    if ctx.invoked_subcommand is not None:
        return
    reservations = client.shares.reservations()
    if as_json:
        print_json_array(reservations)
        return
    now = time.time()
    rows = [_row(view_of(one, ShownReservation), now) for one in reservations]
    print_table(COLUMNS, rows, wide=("ON",), spare=("EACH",))


@command.command(
    "add",
    epilog="""Examples:

    \b
    rota reserve add nightly --queue batch --resources cpu=8000,memory=32G --for 8h
    rota reserve add demo --workers 2 --tag gpu --resources gpu=1 --start-at 2030-01-31T12:00:00Z --for 2h
    """,
)
@click.argument("name")
@click.option("--resources", type=options.RESOURCES, required=True, help="On each worker: cpu=8000,memory=32G.")
@click.option("--for", "seconds", type=options.DURATION, required=True, help="How long: 8h, 30m.")
@click.option("--start-at", type=options.MOMENT, help="When it begins.  [default: now]")
@click.option(
    "--queue",
    shell_complete=completing.queues(),
    help="For tasks of this queue; always for those with the label reservation=NAME.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    shell_complete=completing.tags(),
    help="On workers whose tags are so. Repeat for more.",
)
@click.option("--workers", type=int, help="On so many of them.  [default: all]")
@json_option
@with_client
def add_command(client: HttpClient, /, *, as_json: bool, tags: tuple[str, ...], **given: Any) -> None:
    """Reserve room on workers."""
    reservation = client.shares.reserve({**given, "tags": list(tags)})
    if as_json:
        print_json(reservation)
        return
    shown = view_of(reservation, ShownReservation)
    where = _where(shown, given["workers"], time.time())
    click.echo(f"reservation {escaped(shown.name)}: {_each(shown)} for {_for(shown)}, {where}")


@command.command(
    "end",
    epilog="""Examples:

    \b
    rota reserve end demo
    """,
)
@click.argument("name", shell_complete=completing.reservations())
@json_option
@with_client
def end_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """End a reservation before its time."""
    ended = client.shares.end_reservation(name)
    if as_json:
        print_json(ended)
        return
    click.echo(f"reservation {escaped(name)} is over")


def _where(one: ShownReservation, wanted: int | None, now: float) -> str:
    """On which workers it is in force, and whether that is less than was asked for."""
    begins = from_now(one.start_at, now)
    if begins.startswith("in "):
        return f"begins {begins}"
    if not one.on:
        return "on no worker yet: none that is online offers so much and has these tags"
    if wanted is not None and len(one.on) < wanted:
        return f"on {len(one.on):,} of {wanted:,} workers: no more that are online offer so much and have these tags"
    return f"on {len(one.on):,} workers" if len(one.on) > 1 else f"on {one.on[0]}"


def _row(one: ShownReservation, now: float) -> tuple[str, ...]:
    return one.name, _for(one), from_now(one.start_at, now), from_now(one.end_at, now), _each(one), ",".join(one.on)


def _for(one: ShownReservation) -> str:
    label = f"the label reservation={one.name}"
    return label if one.queue is None else f"the queue {one.queue}"


def _each(one: ShownReservation) -> str:
    return " ".join(f"{name}:{quantity(name, amount)}" for name, amount in sorted(one.resources.items()))
