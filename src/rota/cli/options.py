"""What the commands share: types of options, the way to the coordinator, and printing JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

import click

from rota.cli import amounts
from rota.cli.wording import say_in_options
from rota.core.errors import RotaError
from rota.wire.tokens import read_tokens

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = [
    "BYTES",
    "CPU",
    "DEFAULT_URL",
    "DURATION",
    "FACTORS",
    "GPUS",
    "GRPC_PORT",
    "ID",
    "LIMIT",
    "MEMORY",
    "MOMENT",
    "MOMENT_OR_DURATION",
    "PAIR",
    "PAIR_TEXT",
    "RESOURCE",
    "RESOURCES",
    "Parsed",
    "json_option",
    "print_json",
    "print_json_array",
    "tokens_of",
    "with_client",
]

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"


class Parsed(click.ParamType[T], Generic[T]):
    """An option whose text is read by a function that raises `ValueError` with a sentence."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:  # click's types
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default, which is of type T already
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parse_id(text: str) -> str:
    if not text or not text.isprintable() or text.startswith("."):
        raise ValueError(f"{text!r} can't be an id")
    return text


def _parse_grpc_port(text: str) -> int | Literal["auto", "off"]:
    if text in ("auto", "off"):
        return text  # type: ignore[return-value]  # one of the two
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is not a port, auto or off")
    return int(text)


DURATION = Parsed("duration", amounts.parse_duration_s)
BYTES = Parsed("size", amounts.parse_bytes)
MEMORY = Parsed("size", amounts.parse_memory_mib)
CPU = Parsed("cores", amounts.parse_cpu_milli)
MOMENT = Parsed("time", amounts.parse_moment)
MOMENT_OR_DURATION = Parsed("time", amounts.parse_moment_or_duration_s)
PAIR = Parsed("key=value", amounts.parse_pair)
PAIR_TEXT = Parsed("key=value", lambda text: "=".join(amounts.parse_pair(text)))
RESOURCE = Parsed("name=amount", amounts.parse_resource)
LIMIT = Parsed("name[=count]", amounts.parse_limit)
GPUS = Parsed("gpus", amounts.parse_gpus)
RESOURCES = Parsed("name=amount,…", amounts.parse_resources)
FACTORS = Parsed("name=factor,…", amounts.parse_factors)
ID = Parsed("id", _parse_id)
GRPC_PORT = Parsed("port|auto|off", _parse_grpc_port)
GANG = Parsed("id:size", amounts.parse_gang)


def with_client(function: Callable[Concatenate[HttpClient, P], None]) -> Callable[..., None]:
    """Give a command ``--url``, ``--token`` and ``--ca-file``, and hand it a client made of them."""

    @click.option(
        "--url", "--server", envvar="ROTA_URL", default=DEFAULT_URL, show_default=True, help="The coordinator."
    )
    @click.option("--token", envvar="ROTA_TOKEN", help="What the coordinator asks for (better: ROTA_TOKEN).")
    @click.option(
        "--ca-file", envvar="ROTA_CA_FILE", type=click.Path(exists=True), help="Authority to trust, for https."
    )
    @functools.wraps(function)
    def with_connection(url: str, token: str | None, ca_file: str | None, **params: Any) -> None:  # of any command
        # Only here: `rota <command> --help` does without the HTTP library.
        from rota.client.http import HttpClient  # noqa: PLC0415 - see above

        try:
            with HttpClient(url, token=token, ca_file=ca_file) as client:
                function(client, **params)  # type: ignore[call-arg]  # the options are the command's own
        except RotaError as error:
            say_in_options(error)
            raise

    return with_connection


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON as the API gives it.")


def tokens_of(path: Path) -> tuple[str, ...]:
    """Return the tokens of a file, at least one.

    Raises:
        ValueError: It can't be read, or has none that can be used; the sentence names the file.
    """
    try:
        return read_tokens(path)
    except OSError as error:
        raise ValueError(f"token_file {str(path)!r} can't be read: {error.strerror}") from error


def print_json(value: Json) -> None:
    """Print one object, indented."""
    click.echo(json.dumps(value, indent=2))


def print_json_array(items: Iterable[Json]) -> None:
    """Print an array with an element a line, each as soon as it is there."""
    before = "[\n"
    for item in items:
        click.echo(before + json.dumps(item), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")
