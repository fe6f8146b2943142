"""One change to each of many things: all are tried, and the failures are told one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from rota.cli.exits import REFUSED
from rota.cli.options import print_json_array
from rota.cli.text import escaped
from rota.core.errors import NoCoordinator, RotaError

if TYPE_CHECKING:
    from rota.client.http import Json

__all__ = ["change_each"]


def change_each(
    ids: Iterable[str],
    change: Callable[[str], Json],
    *,
    as_json: bool,
    describe: Callable[[Json], str],
) -> int:
    """Make one change to each and print what became of it; a refusal does not keep the others from it.

    Returns:
        How many were changed.

    Raises:
        NoCoordinator: Nobody answers; the rest is not tried.
        click.exceptions.Exit: Some were refused.
    """
    changed: list[Json] = []
    refusals = 0
    for each in ids:
        try:
            answer = change(each)
        except NoCoordinator:
            raise
        except RotaError as error:
            refusals += 1
            click.echo(f"rota: {error}", err=True)
            continue
        changed.append(answer)
        if not as_json:
            click.echo(escaped(describe(answer)))
    if as_json:
        print_json_array(changed)
    if refusals:
        raise click.exceptions.Exit(REFUSED)
    return len(changed)
