"""``rota help``: the help of the whole, or of one command, for those who ask with a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["command"]


def _commands_there(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
    """Offer what may come next: commands, or those of the command that is named already."""
    at = _context_of(ctx.params["names"] or (), ctx)
    return [*at.command.shell_complete(at, incomplete)] if isinstance(at.command, click.Group) else []


@click.command(
    epilog="""Examples:

    \b
    rota help
    rota help submit
    rota help queues set
    """
)
@click.argument("names", metavar="[COMMAND]...", nargs=-1, shell_complete=_commands_there)
@click.pass_context
def command(ctx: click.Context, *, names: tuple[str, ...]) -> None:
    """Show the help of a command. It ends with examples to copy."""
    click.echo(_context_of(names, ctx).get_help())


def _context_of(names: tuple[str, ...], ctx: click.Context) -> click.Context:
    """Return the context in which this command would run.

    Raises:
        click.UsageError: There is no such command.
    """
    at = ctx.find_root()
    for name in names:
        if not isinstance(at.command, click.Group):
            raise click.UsageError(f"'{at.command_path}' has no commands of its own, such as '{name}'.", ctx)
        _, found, _ = at.command.resolve_command(at, [name])
        if found is None:  # only while a shell asks: else it has raised
            break
        at = click.Context(found, info_name=name, parent=at)
    return at
