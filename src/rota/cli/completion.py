"""``rota completion``: prints the script by which a shell completes commands, options and names.

The scripts are those of `click`. On TAB they call ``rota``, which finds out what fits: commands and options from the
parser, ids and names from the coordinator (`rota.cli.completing`).
"""

from __future__ import annotations

from typing import Final

import click

from rota.cli.main import COMPLETION_VARIABLE

__all__ = ["command"]

SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    epilog="""Examples:

    \b
    source <(rota completion bash)         # now; in ~/.bashrc for always
    rota completion zsh > ~/.zfunc/_rota   # with fpath+=~/.zfunc before compinit in ~/.zshrc
    rota completion fish > ~/.config/fish/completions/rota.fish
    """
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what teaches a shell to complete commands.

    Then TAB completes commands, options and their values, and asks the coordinator at ROTA_URL for ids of tasks that
    fit the command, for workers, queues, limits and tags. Without a coordinator it offers none of these.
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - nobody else needs it

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.Command("rota"), {}, "rota", COMPLETION_VARIABLE).source(), nl=False)
