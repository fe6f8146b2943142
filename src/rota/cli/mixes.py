"""Refuses options that describe a task and can't be meant together, in the words in which they were typed.

The coordinator would refuse them too, by the names of its fields; and some of them it would never see, because one
has taken the place of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

__all__ = ["READERS", "refuse_mixes", "refuse_second_reader"]

WORK: Final = {
    "shell": "--shell",
    "python_file": "--python",
    "go_file": "--go",
    "code": "--code",
    "data": "--data",
    "image": "--image",
}
"""The options that say what to run."""

WITH_ARGUMENTS: Final = frozenset({"python_file", "go_file", "code", "data", "image"})
"""Those that take what stands after ``--`` as arguments; for others it would be a second thing to run."""

READERS: Final = {"python_file": "--python", "go_file": "--go", "stdin": "--stdin"}
"""The options for which ``-`` is our own input, which can be read once."""

AMOUNTS: Final = ("cpu", "memory", "gpu", "gpu_memory")


def refuse_mixes(given: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Refuse what can't be meant together.

    Args:
        given: The values of the options that were given, by their names.
        arguments: What stands after ``--``.

    Raises:
        click.UsageError: Options contradict each other; names them and says what to do.
    """
    work = [option for name, option in WORK.items() if name in given]
    if arguments and not WITH_ARGUMENTS & given.keys():
        work.append("a command")
    if len(work) > 1:
        raise click.UsageError(f"{_and(work)} each say what to run: give one of them")
    for name in ("python_file", "go_file"):
        if name in given and "kind" in given:
            raise click.UsageError(f"{WORK[name]} says what --kind would say: leave --kind out")
    if "code" in given and "kind" not in given:
        raise click.UsageError("--code needs --kind python or --kind go: say which it is")
    if "start_at" in given and "delay" in given:
        raise click.UsageError("--start-at and --delay both say when it may start: give one of them")
    with_scratch = [option for name, option in (("files", "--file"), ("outputs", "--output")) if name in given]
    if "cwd" in given and with_scratch:
        raise click.UsageError(
            f"--cwd does not go with {_and(with_scratch)}: such a task runs in a scratch directory, where its files are"
        )
    for name, _ in given.get("resource", ()):
        if name in AMOUNTS and name in given:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} and --resource {name}=… say the same: give one of them")
    refuse_second_reader([option for name, option in READERS.items() if given.get(name) == "-"])


def refuse_second_reader(options: Sequence[str]) -> None:
    """Refuse options that would all read our own input.

    Raises:
        click.UsageError: There are two or more.
    """
    if len(options) > 1:
        raise click.UsageError(f"{_and(options)} can't both read our own input: let one of them read a file")


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
