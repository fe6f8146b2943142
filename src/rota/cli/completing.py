"""What a shell may offer where a command wants a name: words that are known here, and what the coordinator has now.

Called while a user waits with a finger on TAB, so a coordinator gets a second to answer, and whatever goes wrong
offers nothing, in silence. Names that a shell would have to quote are left out: `click` inserts them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from rota.core.errors import RotaError

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    from rota.client.http import HttpClient, Json

__all__ = [
    "ARRIVALS",
    "DURATIONS",
    "KINDS",
    "MIXES",
    "ORDERINGS",
    "PLACEMENTS",
    "PRIORITIES",
    "Completer",
    "calendars",
    "files",
    "folders",
    "limits",
    "outputs",
    "placements",
    "queues",
    "reservations",
    "tags",
    "tasks",
    "words",
    "workers",
    "zones",
]

Completer = Callable[["click.Context", "click.Parameter", str], "list[CompletionItem[str] | str]"]
"""What `click` asks for the values of an option or an argument that begin with some text."""

ANSWER_S_MAX: Final = 1.0
"""For the coordinator's answer: one that is near needs milliseconds, and nobody waits longer for a hint."""

OFFERED_MAX: Final = 200
"""Tasks, the newest: more can't be looked through."""

PLACEMENTS: Final = (
    "random",
    "round-robin",
    "first-fit",
    "least-loaded",
    "consistent-hash",
    "binpack",
    "spread",
)
ORDERINGS: Final = ("fcfs", "priority", "fair")
PRIORITIES: Final = ("low", "normal", "high", "critical")
KINDS: Final = ("process", "function", "python", "go", "container", "workload")
ARRIVALS: Final = ("steady", "bursty", "ramp-up", "ramp-down", "sinusoidal", "poisson")
MIXES: Final = ("cpu", "io", "memory", "mixed")
DURATIONS: Final = ("fixed", "uniform", "exponential", "lognormal", "pareto")
"""Written down once more, because what knows them is slow to import. A test holds that they are the same."""

_PLAIN: Final = re.compile(r"[\w@%+=:./~-]+", re.ASCII)


def words(*known: str) -> Completer:
    """Offer words that are always the same."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
        return _items(((word, "") for word in known), incomplete)

    return complete


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
    """Let the shell offer files: programs, and what they are given."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - nobody else needs it

    return [CompletionItem(incomplete, type="file")]


def folders(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
    """Let the shell offer folders."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - nobody else needs it

    return [CompletionItem(incomplete, type="dir")]


def placements(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
    """Offer policies: ours, and those that were installed beside."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import

    return _items(((name, "") for name in (*PLACEMENTS, *entry_points(group="rota.placement").names)), incomplete)


def tasks(*states: str) -> Completer:
    """Offer tasks in these states, or all without any; the newest first."""

    def found(client: HttpClient) -> Iterator[tuple[str, str]]:
        for task in next(iter(client.tasks({"state": states, "limit": OFFERED_MAX})), []):
            yield str(task["id"]), f"{task['state']} {task.get('name') or ''}".strip()

    return _live(found)


def outputs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
    """Offer the names of what the tasks on the line have left, but for those that stand there already."""
    # Where the option has no value yet, click leaves the arguments before it as they are.
    ids, there = ctx.params.get("ids") or ctx.args, ctx.params.get("names") or ()

    def found(client: HttpClient) -> Iterator[tuple[str, str]]:
        names = dict.fromkeys(output.name for task_id in ids for output in client.files.outputs(task_id))
        return ((name, "") for name in names if name not in there)

    return _live(found)(ctx, param, incomplete)


def workers(*states: str) -> Completer:
    """Offer workers in these states, or all without any."""
    return _live(
        lambda client: (
            (str(node["id"]), str(node["state"])) for node in client.nodes() if not states or node["state"] in states
        )
    )


def zones(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
    """Offer time zones."""
    from zoneinfo import available_timezones  # noqa: PLC0415 - reads the zones of the system

    return _items(((zone, "") for zone in sorted(available_timezones())), incomplete)


def tags() -> Completer:
    """Offer the tags that workers have."""
    return _live(lambda client: ((tag, "") for tag in sorted({tag for node in client.nodes() for tag in node["tags"]})))


def queues() -> Completer:
    """Offer queues."""
    return _live(lambda client: _names(client.shares.queues()))


def limits() -> Completer:
    """Offer limits."""
    return _live(lambda client: _names(client.shares.limits()))


def reservations() -> Completer:
    """Offer reservations."""
    return _live(lambda client: _names(client.shares.reservations()))


def calendars() -> Completer:
    """Offer calendars."""
    return _live(lambda client: ((str(one["name"]), str(one["expression"])) for one in client.calendars.all()))


def _names(things: list[Json]) -> Iterator[tuple[str, str]]:
    return ((str(thing["name"]), "") for thing in things)


def _live(ask: Callable[[HttpClient], Iterable[tuple[str, str]]]) -> Completer:
    """Offer what the coordinator has, with a word on each; nothing if it does not answer."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str] | str]:
        from rota.client.http import HttpClient  # noqa: PLC0415 - slow to import

        try:
            with HttpClient(**_connection(ctx.params), answer_s_max=ANSWER_S_MAX) as client:
                return _items(ask(client), incomplete)
        except RotaError:
            return []

    return complete


def _connection(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"url": params["url"], "token": params["token"], "ca_file": params["ca_file"]}


def _items(offers: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem[str] | str]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - nobody else needs it

    return [
        CompletionItem(name, help=text or None)
        for name, text in offers
        if name.startswith(incomplete) and _PLAIN.fullmatch(name)
    ]
