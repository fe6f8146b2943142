"""``rota queues``: lists queues, and sets, pauses and resumes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from rota.cli import completing, options
from rota.cli.options import json_option, print_json, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import escaped, quantity
from rota.cli.views import ShownQueue, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["command"]

COLUMNS: Final = ("QUEUE", "STATE", "PENDING", "RUNNING", "WEIGHT", "USES", "SET")

FIELDS: Final = ("weight", "paused", "max_running", "max_resources", "ordering", "placement", "preempts_by")
"""What can be set."""


@click.group(
    invoke_without_command=True,
    epilog="""Examples:

    \b
    rota queues
    rota queues set batch --weight 3 --max-running 10
    rota queues pause batch
    """,
)
@json_option
@with_client
@click.pass_context
def command(ctx: click.Context, client: HttpClient, *, as_json: bool) -> None:
    """List queues, and set them: what waits, what runs, and how much of the cluster each may have."""
    if ctx.invoked_subcommand is not None:
        return
    queues = client.shares.queues()
    if as_json:
        print_json_array(queues)
        return
    print_table(COLUMNS, [_row(view_of(queue, ShownQueue)) for queue in queues], wide=("SET",), spare=("USES",))


@command.command(
    "set",
    epilog="""Examples:

    \b
    rota queues set batch --weight 3 --max-running 10
    rota queues set urgent --preempts-by 20 --placement spread
    rota queues set batch --reset
    """,
)
@click.argument("name", shell_complete=completing.queues())
@click.option("--weight", type=float, help="Its part under fair ordering.  [default: 1]")
@click.option("--max-running", type=int, help="At most so many attempts at once.")
@click.option("--max-resources", type=options.RESOURCES, help="At most so much at once: cpu=8000,memory=16G.")
@click.option("--ordering", type=click.Choice(("fcfs", "priority")), help="Of its own tasks, under fair ordering.")
@click.option(
    "--placement", metavar="POLICY", shell_complete=completing.placements, help="For its tasks that name none."
)
@click.option("--preempts-by", type=int, help="May take the place of tasks whose priority is so much lower.")
@click.option("--pause/--no-pause", "paused", default=None, help="Start nothing more of it.")
@click.option("--reset", is_flag=True, help="What is not given gets its default, instead of staying as it is.")
@json_option
@with_client
def set_command(client: HttpClient, /, *, name: str, reset: bool, as_json: bool, **given: Any) -> None:
    """Set a queue. What is not given stays as it is."""
    kept = {} if reset else _settings_of(client, name)
    _show(
        client.shares.set_queue(name, kept | {field: value for field, value in given.items() if value is not None}),
        as_json,
    )


@command.command(
    "pause",
    epilog="""Examples:

    \b
    rota queues pause batch
    """,
)
@click.argument("name", shell_complete=completing.queues())
@json_option
@with_client
def pause_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Start nothing more of a queue; what runs goes on. Before anything names it: rota queues set NAME --pause."""
    _show(client.shares.pause_queue(name), as_json)


@command.command(
    "resume",
    epilog="""Examples:

    \b
    rota queues resume batch
    """,
)
@click.argument("name", shell_complete=completing.queues())
@json_option
@with_client
def resume_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Undo a pause."""
    _show(client.shares.resume_queue(name), as_json)


@command.command(
    "remove",
    epilog="""Examples:

    \b
    rota queues remove batch
    """,
)
@click.argument("name", shell_complete=completing.queues())
@json_option
@with_client
def remove_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Give a queue the defaults again. Its tasks stay."""
    queue = client.shares.forget_queue(name)
    if as_json:
        print_json(queue)
        return
    click.echo(f"queue {escaped(name)} has the defaults again")


def _settings_of(client: HttpClient, name: str) -> Json:
    """What is set of a queue now; nothing if there is none yet."""
    for queue in client.shares.queues():
        if queue["name"] == name:
            return {field: queue[field] for field in FIELDS if field in queue}
    return {}


def _show(queue: Json, as_json: bool) -> None:
    if as_json:
        print_json(queue)
        return
    shown = view_of(queue, ShownQueue)
    state = "is paused" if shown.paused else "is open"
    click.echo(f"queue {escaped(shown.name)} {state}" + "".join(f", {text}" for text in _set_texts(shown)))


def _row(queue: ShownQueue) -> tuple[str, ...]:
    return (
        queue.name,
        "paused" if queue.paused else "open",
        f"{queue.pending:,}",
        f"{queue.running:,}" + (f"/{queue.max_running:,}" if queue.max_running is not None else ""),
        f"{queue.weight:g}",
        " ".join(f"{name}:{quantity(name, amount)}" for name, amount in queue.used.items()),
        ", ".join(_set_texts(queue)),
    )


def _set_texts(queue: ShownQueue) -> list[str]:
    texts = [f"weight {queue.weight:g}"] if queue.weight != 1.0 else []
    if queue.max_running is not None:
        texts.append(f"at most {queue.max_running:,} at once")
    texts += [f"at most {quantity(name, amount)} {name}" for name, amount in queue.max_resources.items()]
    words = {"ordering": queue.ordering, "placement": queue.placement}
    texts += [f"{word} {value}" for word, value in words.items() if value]
    if queue.preempts_by is not None:
        texts.append(f"preempts by {queue.preempts_by}")
    return texts
