"""``rota submit``: submits one task, or many from a file, and can wait for them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from rota.cli.batches import Batch, PlacedSpec, cut_into_batches, read_specs
from rota.cli.each import check_marks, specs_of_lines
from rota.cli.ends import wait_and_tell
from rota.cli.exits import REFUSED
from rota.cli.files import ship_files
from rota.cli.mixes import READERS, refuse_second_reader
from rota.cli.options import json_option, print_json, print_json_array, with_client
from rota.cli.spec_options import command_argument, refuse_nothing, spec_from, spec_options
from rota.cli.text import escaped
from rota.cli.wording import option_of
from rota.core.errors import BadSpec, NoCoordinator, RotaError

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["command"]

PATIENCE_S: Final = 600.0
"""How long many tasks are held back while too many wait already: the cluster needs time to work them off."""


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="""Examples:

    \b
    rota submit -- sha256sum /data/a.iso
    rota submit --cpu 2 --memory 1G --retries 3 --timeout 10m -- ./train.sh
    rota submit --file train.py --output 'model-*' -- python3 train.py
    rota submit --shell 'zcat /data/*.gz | wc -l' --wait
    rota submit --python digits.py -- 1000
    ls in/*.csv | rota submit --each-line - --file {} --output '*.png' --file plot.py -- python3 plot.py {/}
    seq 200 | rota submit --each-line - --label job=sweep --id 'fit-{}' -- ./fit.sh --seed {}
    seq 100 | jq -c '{command: ["echo", "\\(.)"]}' | rota submit --from - --wait
    """,
)
@click.option(
    "--from", "source", type=click.File("rb"), help="Tasks in JSON: one, an array, or one a line; - is stdin."
)
@click.option(
    "--each-line",
    "lines",
    type=click.File("rb"),
    help="A task for each line of a text, which stands for {} in the other options; - is stdin.",
)
@click.option("--wait", "is_waited_for", is_flag=True, help="Wait for the end; exit with 1 unless all completed.")
@json_option
@spec_options
@command_argument
@with_client
def command(
    client: HttpClient,
    /,
    *,
    source: BinaryIO | None,
    lines: BinaryIO | None,
    is_waited_for: bool,
    as_json: bool,
    arguments: tuple[str, ...],
    **fields: Any,
) -> None:
    """Submit one task, or many from a file, and print their ids.

    --from FILE reads tasks in JSON: one a line, one array, or one object; - is standard input. Options are for all
    tasks that do not say otherwise. They are sent in requests of at most 1,000 tasks, each accepted whole or not at
    all, while the file is read; when too many tasks wait already, it holds back until there is room.

    --each-line FILE makes one task of each line: in the command and in the options {} is the line, {/} the last part
    of a path, {.} the path without its extension, {/.} both, and {#} the number of the line.
    """
    if source is not None and lines is not None:
        raise click.UsageError("--from and --each-line both say which tasks: give one of them")
    if source is not None:
        _refuse_what_is_of_one(arguments, fields)
    if sys.stdin.buffer in (source, lines):
        readers = [option for name, option in READERS.items() if fields[name] == "-"]
        refuse_second_reader(["--from" if source is not None else "--each-line", *readers])
    spec = spec_from(arguments, fields)
    accepted = _submitted(client, spec, source, lines)
    is_array = (source or lines) is not None
    ids = _tell(accepted, is_array=is_array, as_json=as_json and not is_waited_for, is_told=not as_json)
    if not is_waited_for or not ids:
        return
    is_complete = wait_and_tell(client, ids)["completed"] == len(ids)
    if as_json:
        tasks = (client.task(task_id) for task_id in ids)
        print_json_array(tasks) if is_array else print_json(next(tasks))
    if not is_complete:
        raise click.exceptions.Exit(REFUSED)


def _submitted(client: HttpClient, spec: Json, source: BinaryIO | None, lines: BinaryIO | None) -> Iterable[Json]:
    """Submit what the command line says, and yield the tasks as they are accepted."""
    if source is not None:
        ship_files(client, spec)
        return _submit_all(client, read_specs(source, spec), spec)
    refuse_nothing(spec)
    if lines is None:
        ship_files(client, spec)
        return [client.submit(spec)]
    check_marks(spec)
    return _submit_all(client, specs_of_lines(client, lines, spec), spec)


def _refuse_what_is_of_one(arguments: Sequence[str], fields: Mapping[str, Any]) -> None:
    if arguments:
        raise click.UsageError("give a command or --from, not both")
    if fields["task_id"] is not None:
        raise click.UsageError("--id is of one task: with --from, say ids in the file")


def _submit_all(client: HttpClient, specs: Iterable[PlacedSpec], defaults: Json) -> Iterator[Json]:
    accepted = 0
    on_its_way: Batch | None = None
    try:
        for batch in cut_into_batches(specs):
            on_its_way = batch
            yield from _submit_batch(client, batch, defaults)
            accepted, on_its_way = accepted + batch.count, None
    except RotaError as error:
        if isinstance(error, NoCoordinator) and error.may_have_arrived and on_its_way is not None:
            _say_unknown(accepted, on_its_way)
        elif accepted:
            click.echo(f"rota: the first {accepted} tasks were accepted, the rest was not", err=True)
        raise
    if not accepted:
        click.echo("rota: there is no task in the file", err=True)


def _say_unknown(accepted: int, batch: Batch) -> None:
    before = f"the first {accepted} tasks were accepted; " if accepted else ""
    click.echo(
        f"rota: {before}whether the {batch.count} from {batch.places[0]} to {batch.places[-1]} were is not known: "
        "look with 'rota ps' before you send them again",
        err=True,
    )


def _submit_batch(client: HttpClient, batch: Batch, defaults: Json) -> list[Json]:
    try:
        return client.submit_many(batch.body, patience_s=PATIENCE_S, on_held_back=_say_held_back)
    except RotaError as error:
        index = error.index
        if index is None or not 0 <= index < batch.count:
            raise
        # The coordinator counts within one request, the user has a file.
        raise _placed(error, batch.places[index], _option_at_fault(error, batch.specs()[index], defaults)) from error


def _option_at_fault(error: RotaError, spec: Json, defaults: Json) -> str | None:
    """The option that says what is wrong, where the file leaves it to the options."""
    field = error.field.partition(".")[0] if isinstance(error, BadSpec) else ""
    is_of_options = field in defaults and spec.get(field) == defaults[field]
    return option_of(field) if is_of_options else None


def _placed(error: RotaError, place: str, option: str | None) -> RotaError:
    message = str(error).removeprefix(f"task {error.index}: ")
    where = place if option is None else f"{place}, by {option}"
    return RotaError(f"{where}: {message}", code=error.code)


def _say_held_back(error: RotaError) -> None:
    click.echo(f"rota: {error}; trying again", err=True)


def _tell(accepted: Iterable[Json], *, is_array: bool, as_json: bool, is_told: bool) -> list[str]:
    """Print what was accepted as it comes, and return the ids."""
    ids: list[str] = []

    def noted() -> Iterator[Json]:
        for task in accepted:
            ids.append(str(task["id"]))
            yield task

    if as_json and is_array:
        print_json_array(noted())
    elif as_json:
        print_json(next(noted()))
    else:
        for task in noted():
            if is_told:
                click.echo(escaped(str(task["id"])))
    return ids
