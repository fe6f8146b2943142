"""``rota limits``: lists limits, and sets and removes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from rota.cli import completing
from rota.cli.options import json_option, print_json, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import escaped
from rota.cli.views import ShownLimit, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["command"]

COLUMNS: Final = ("LIMIT", "IN USE", "OF", "PENDING")


@click.group(
    invoke_without_command=True,
    epilog="""Examples:

    \b
    rota limits
    rota limits set licence-x 3
    rota submit --limit licence-x=1 -- ./simulate
    """,
)
@json_option
@with_client
@click.pass_context
def command(ctx: click.Context, client: HttpClient, *, as_json: bool) -> None:
    """List limits, and set them: at most so many of these at once."""
    if ctx.invoked_subcommand is not None:
        return
    limits = client.shares.limits()
    if as_json:
        print_json_array(limits)
        return
    print_table(COLUMNS, [_row(view_of(limit, ShownLimit)) for limit in limits])


@command.command(
    "set",
    epilog="""Examples:

    \b
    rota limits set licence-x 3
    """,
)
@click.argument("name", shell_complete=completing.limits())
@click.argument("size", type=int)
@json_option
@with_client
def set_command(client: HttpClient, *, name: str, size: int, as_json: bool) -> None:
    """Say how much there is of a limit. What holds more than that goes on."""
    _show(client.shares.set_limit(name, size), "is", as_json)


@command.command(
    "remove",
    epilog="""Examples:

    \b
    rota limits remove licence-x
    """,
)
@click.argument("name", shell_complete=completing.limits())
@json_option
@with_client
def remove_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Remove a limit that no unfinished task names."""
    _show(client.shares.remove_limit(name), "was", as_json)


def _show(limit: Json, word: str, as_json: bool) -> None:
    if as_json:
        print_json(limit)
        return
    shown = view_of(limit, ShownLimit)
    removed = "; it is removed" if word == "was" else ""
    click.echo(f"limit {escaped(shown.name)} {word} {shown.size:,}, {shown.used:,} in use{removed}")


def _row(limit: ShownLimit) -> tuple[str, ...]:
    return limit.name, f"{limit.used:,}", f"{limit.size:,}", f"{limit.pending:,}"
