"""The command ``rota``: finds the subcommand, loads its module only then, and turns errors into one line.

Starting must stay quick, so this module imports ``click`` and little else: the help of the
whole comes from the table below, and a test holds that it says what the commands say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from rota import __version__
from rota.cli.exits import ABORTED, CLOSED_PIPE, exit_code_of_error
from rota.core.errors import RotaError

__all__ = ["COMMANDS", "COMPLETION_VARIABLE", "cli", "main"]

COMMANDS: Final = {
    "Start": {
        "up": "Start a whole cluster on this machine.",
        "coordinator": "Start a coordinator.",
        "worker": "Start a worker.",
        "backup": "Copy a coordinator's state, while it works or not.",
    },
    "Run": {
        "run": "Run a command on the cluster as if it ran here.",
        "submit": "Submit one task, or many from a file.",
        "wait": "Wait until tasks have ended, and say how they did.",
        "cancel": "Cancel tasks.",
        "retry": "Bring failed or cancelled tasks back.",
        "cron": "List and make calendars: tasks that run by the clock.",
        "workload": "Put a made-up load on the cluster.",
    },
    "Look": {
        "top": "Show what the cluster does, again and again.",
        "ps": "List tasks, newest first.",
        "show": "Show all about a task.",
        "why": "Say why a task waits.",
        "logs": "Print the output of a task.",
        "fetch": "Bring back the files that tasks have left.",
        "events": "Follow what happens.",
        "stats": "Show the counts of the coordinator.",
    },
    "Try": {
        "bench": "Measure a cluster in a minute.",
        "simulate": "Try a cluster, a policy or a workload in virtual time.",
    },
    "Share": {
        "queues": "List queues, and set them.",
        "limits": "List limits, and set them.",
        "reserve": "List reservations, and make them.",
    },
    "Workers": {
        "nodes": "List workers.",
        "drain": "Give workers nothing new.",
        "resume": "Undo a drain.",
        "forget": "Strike off workers that are gone for good.",
    },
    "Learn": {
        "help": "Show the help of a command.",
        "completion": "Print what teaches a shell to complete commands.",
    },
}
"""Every command with its short help, by what one wants: the module ``rota.cli.<command>`` has it."""

COMPLETION_VARIABLE: Final = "_ROTA_COMPLETE"
"""By which the scripts of shells tell what they want: the name that `click` makes of the program's."""

_HELP: Final = {name: text for section in COMMANDS.values() for name, text in section.items()}

_OPTIONS_OF_COMMANDS: Final = frozenset({"--url", "--server", "--token", "--ca-file", "--json"})
"""What most commands take, and people write before them."""


class Failure(click.ClickException):
    """An error of ours on its way out of click: one line on stderr, and our exit code."""

    def __init__(self, error: RotaError) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code_of_error(error)  # type: ignore[misc]  # click's pattern, typed as the class's

    def show(self, file: Any = None) -> None:  # the type is click's
        """Print the line."""
        click.echo(f"rota: {self.message}", file=file or sys.stderr)


class RotaGroup(click.Group):
    """The subcommands, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(_HELP)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in _HELP:
            return None
        command = import_module(f"rota.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the list of commands without importing them, in two columns: all of it is to fit on a screen."""
        titles, names = max(map(len, COMMANDS)), max(map(len, _HELP))
        formatter.write_paragraph()
        formatter.write_dl(
            [
                (f"{'' if index else title:<{titles}}  {name:<{names}}", text)
                for title, commands in COMMANDS.items()
                for index, (name, text) in enumerate(commands.items())
            ]
        )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:  # items of click's
        """Offer the commands without importing them."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell asks

        offers = [CompletionItem(name, help=text) for name, text in _HELP.items() if name.startswith(incomplete)]
        return [*offers, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where there is none of that name, suggest the near one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], _HELP, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what stands before the command; say where options of commands belong."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in _OPTIONS_OF_COMMANDS:
                raise
            name = error.option_name
            raise click.UsageError(f"{name} goes after the command, as in 'rota ps {name} …'.", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:  # the type is click's
        try:
            result = super().invoke(ctx)
            # Here, not at the interpreter's end, where a reader that has left would cause a traceback.
            sys.stdout.flush()
        except RotaError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(ABORTED) from None
        except BrokenPipeError:
            _forget_stdout()
            raise click.exceptions.Exit(CLOSED_PIPE) from None
        return result


@click.group(
    cls=RotaGroup,
    help="""Rota runs your tasks on one machine or a thousand.

    \b
    Try it:
      rota up                     start a cluster here
      rota run -- echo hello      run something on it
      rota ps                     look at what ran
    """,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""Commands find the coordinator by --url or ROTA_URL, and show it --token or ROTA_TOKEN. 'rota help COMMAND'
    says all about one, and ends with examples.""",
)
@click.version_option(__version__, prog_name="rota")
def cli() -> None:
    """The group that all commands are in."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``rota`` with these arguments, or with those of the process, and exit."""
    if COMPLETION_VARIABLE in os.environ:
        from rota.cli.shells import register  # noqa: PLC0415 - only a shell asks

        register()
    cli.main(args=list(arguments) if arguments is not None else None, prog_name="rota")
    sys.exit(0)


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader of our output has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
