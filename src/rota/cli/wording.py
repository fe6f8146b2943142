"""Says what was refused by the options that somebody typed, where it came by the names of REST or of a configuration.

Whoever writes ``rota run --start-at … --delay …`` has never heard of ``start_at``. What a message is about is told by
the field that an error names, or by the first word of a sentence; further names are those with an underscore, which no
English word has, and those before an equals sign. What stands in quotes is the user's own and stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import click
from click.core import ParameterSource

from rota.core.errors import BadSpec, RotaError

__all__ = ["in_options", "option_of", "say_in_options"]

UNITS: Final = ("", "_s", "_bytes")
"""What the fields of a configuration have after their names, and options have not."""

COMMAND: Final = "the command"

_BEGINNING = re.compile(r"(?:query parameter |task\.)?([a-z_]+)(?=[ :])")
_NAME = re.compile(r"'[^']*'|(?<![\w./-])([a-z]+(?:_[a-z]+)+)(?!\w|[./-]\w)|\b([a-z]+)(?==)")  # no part of a path
_AT_PATH = re.compile(r"(?P<what>.*) - at `\$\.(?P<name>\w+)[^`]*`(?:; the fields are .*)?")


def say_in_options(error: RotaError) -> None:
    """Have an error name the options of the command that runs, wherever it names what they set."""
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return
    if isinstance(error, BadSpec) and (word := option_of(error.field, problem=error.problem)) is not None:
        problem = error.problem
        if error.field.removeprefix("task.") == "resources" and word != "--resource":
            problem = problem.partition(" ")[2]  # it begins with the name of the amount
            error.args = (f"{word} {problem}",)
        else:
            error.args = (f"{word}: {_with_options(problem, _options_of(ctx))}",)
    else:
        error.args = (in_options(str(error)), *error.args[1:])


def in_options(message: str) -> str:
    """A sentence with the options of the command that runs in the place of the names of what they set."""
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return message
    options = _options_of(ctx)
    if at := _AT_PATH.fullmatch(message):
        message = f"{at['name']}: {at['what']}"
    begin = _BEGINNING.match(message)
    if begin is None or begin[1] not in options:
        return _with_options(message, options)
    return options[begin[1]] + _with_options(message[begin.end() :], options)


def option_of(field: str, *, problem: str = "") -> str | None:
    """The option of the command that runs which sets a field of a task, or ``None``.

    Args:
        field: By the name of REST.
        problem: What is wrong with it, which may say which of several it is.
    """
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return None
    options, given = _options_of(ctx), ctx.params
    field = field.removeprefix("task.").partition(".")[0]
    if field == "command" and "arguments" in given:
        return COMMAND
    if field == "code":
        field = next((name for name in ("python", "go") if given.get(f"{name}_file") is not None), field)
    if field == "resources" and "resource" in options:
        amount = problem.partition(" ")[0]
        field = amount if given.get(amount) is not None else "resource"
    return options.get(field)


def _options_of(ctx: click.Context) -> Mapping[str, str]:
    """The options of a command by all names that what they set may have."""
    options: dict[str, str] = {}
    for param in ctx.command.params:
        shown = _shown(param, ctx)
        # No letters: -a of `ps` would stand for the first word of "a token is asked for".
        words = (text.removeprefix("--").replace("-", "_") for text in param.opts if text.startswith("--"))
        for name in (param.name, *words):
            for unit in UNITS if name else ():
                options.setdefault(f"{name}{unit}", shown)
    return options


def _shown(param: click.Parameter, ctx: click.Context) -> str:
    """What a user calls an option: by its long name, or by that of the variable that it was taken from."""
    if isinstance(param, click.Argument):
        return param.make_metavar(ctx).strip("[].").partition("]")[0]
    source = ctx.get_parameter_source(param.name) if param.name else None
    if source is ParameterSource.ENVIRONMENT and isinstance(param.envvar, str):
        return param.envvar
    if param.name == "token" and ctx.params.get("token_file") is not None:
        return "--token-file"
    return next((text for text in param.opts if text.startswith("--")), param.opts[0])


def _with_options(text: str, options: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> Any:  # of a text, which mypy can't know
        return options.get(match[1] or match[2] or "", match[0])

    return _NAME.sub(replaced, text)
