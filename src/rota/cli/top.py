"""``rota top``: shows what the cluster does, again and again, until somebody has seen enough."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from rota.cli.options import DURATION, with_client
from rota.cli.overview import Glance, head_of, look, sections_of
from rota.cli.table import print_table, terminal_table
from rota.cli.text import escaped
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from rota.client.http import HttpClient

__all__ = ["command"]

EVERY_S_MIN: Final = 0.2
"""Between looks: each costs the coordinator some milliseconds."""

KEYS_MAX: Final = 64
"""Taken at once of what was typed while nobody looked."""

PIPE_LINES: Final = 60
"""Of what is printed where there is no screen."""


@click.command(
    epilog="""Examples:

    \b
    rota top
    rota top --every 10s
    rota top --once                # once, as in a pipe
    """
)
@click.option("--every", "every_s", type=DURATION, default="2s", show_default=True, help="How long between looks.")
@click.option("--once", is_flag=True, help="Print it once, and leave.")
@with_client
def command(client: HttpClient, *, every_s: float, once: bool) -> None:
    """Show what the cluster does, again and again: how full it is, its workers, what runs, why the rest waits.

    q or Ctrl-C leaves; any other key looks at once. In a pipe, and on a terminal that can only print, it prints all
    that once. It goes on through restarts of the coordinator.
    """
    if every_s < EVERY_S_MIN:
        raise click.BadParameter(f"at least {EVERY_S_MIN:g}s", param_hint="--every")
    if once or not sys.stdout.isatty() or os.environ.get("TERM") in {None, "dumb"}:
        _print(look(client, client.url, now=time.time()))
        return
    try:
        with _keys_at_once():
            _watch(client, every_s)
    except KeyboardInterrupt:
        return  # the way to leave, and no mistake


def _print(glance: Glance) -> None:
    for line in head_of(glance):
        click.echo(escaped(line))
    for section in sections_of(glance, lines=PIPE_LINES):
        click.echo(f"\n{escaped(section.title)}")
        if section.rows:
            print_table(section.columns, section.rows, wide=section.wide, spare=section.spare)


def _watch(client: HttpClient, every_s: float) -> None:
    # Only here, as in `table`.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.live import Live  # noqa: PLC0415 - see above

    console = Console(highlight=False)
    glance = look(client, client.url, now=time.time())
    trouble = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(glance, trouble, console), refresh=True)
            if _is_left(every_s):
                return
            try:
                glance, trouble = look(client, client.url, now=time.time()), ""
            except RotaError as error:
                if not error.retryable:
                    raise
                # What was last seen stays: it is what one would want to look at now.
                trouble = f"{error}; this is how it was before"


def _screen(glance: Glance, trouble: str, console: Console) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    parts: list[RenderableType] = [Text(escaped(line), no_wrap=True, overflow="ellipsis") for line in head_of(glance)]
    if trouble:
        parts.append(Text(escaped(trouble), style="red", no_wrap=True, overflow="ellipsis"))
    for section in sections_of(glance, lines=console.height - len(parts)):
        parts.append(Text(f"\n{escaped(section.title)}", style="dim"))
        if section.rows:
            parts.append(
                terminal_table(
                    section.columns, section.rows, width=console.width, wide=section.wide, spare=section.spare
                )
            )
    return Group(*parts)


def _is_left(wait_s: float) -> bool:
    """Wait; return whether somebody pressed q meanwhile. Other keys only look again at once."""
    if not sys.stdin.isatty():
        time.sleep(wait_s)
        return False
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    if not ready:
        return False
    keys = os.read(sys.stdin.fileno(), KEYS_MAX)  # all at once: what Python's own buffer kept, nobody would hear of
    return not keys or b"q" in keys.lower()


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Have keys without Enter, and none of them shown; Ctrl-C is still Ctrl-C."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
