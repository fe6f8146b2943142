"""``rota cron``: lists calendars, makes them, and says what became of their fire times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from rota.cli import completing
from rota.cli.bulk import change_each
from rota.cli.cron_views import ShownCalendar, ShownFire, terms_of
from rota.cli.files import ship_files
from rota.cli.options import json_option, print_json, print_json_array, with_client
from rota.cli.spec_options import command_argument, refuse_nothing, spec_from, spec_options
from rota.cli.table import print_table, styled_state
from rota.cli.text import escaped, from_now, one_line
from rota.cli.views import view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json
    from rota.core.cron import FireTimes

__all__ = ["command"]

COLUMNS: Final = ("CALENDAR", "STATE", "EXPRESSION", "ZONE", "NEXT", "LAST", "RUNS")
HISTORY_COLUMNS: Final = ("FIRE TIME", "OUTCOME", "TASK", "STATE")

NOT_OF_CALENDARS: Final = frozenset({"task_id", "start_at", "gang"})
"""Options of tasks that say what a calendar says, or what can't be said of many."""

ZONE_HELP: Final = "Whose clock it follows, by its IANA name: Europe/Berlin."

_LABEL_WIDTH: Final = 11
"""Of the longest label, and a space."""


@click.group(
    invoke_without_command=True,
    epilog="""Examples:

    \b
    rota cron add '0 3 * * *' --zone Europe/Berlin -- ./backup.sh /data
    rota cron add @hourly --name report --overlap skip --retries 2 -- ./report.sh
    rota cron
    rota cron history report
    """,
)
@json_option
@with_client
@click.pass_context
def command(ctx: click.Context, client: HttpClient, *, as_json: bool) -> None:
    """List and make calendars: tasks that run by the clock."""
    if ctx.invoked_subcommand is None:
        _list(client, as_json)


@command.command(
    "list",
    epilog="""Examples:

    \b
    rota cron list
    rota cron list --json | jq -r '.[].name'
    """,
)
@json_option
@with_client
def list_command(client: HttpClient, *, as_json: bool) -> None:
    """List calendars: when each fires next, and what it did last."""
    _list(client, as_json)


class AddCommand(click.Command):
    """Reads options on both sides of the expression, and so needs the ``--`` before a command that has its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say so where it is missing."""
        has_end = "--" in args
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if has_end:
                raise
            hint = f"{error.message} Write -- before the command whose option it is."
            raise click.UsageError(hint, ctx) from None


@command.command(
    "add",
    cls=AddCommand,
    epilog="""Examples:

    \b
    rota cron add '0 3 * * *' --zone Europe/Berlin -- ./backup.sh /data
    rota cron add '0 9 * * MON-FRI' --name mail --misfire skip --shell './report.sh | wc -l'
    rota cron add @hourly --name mail --replace --overlap skip --retries 2 -- ./report.sh

    The five fields of EXPRESSION are minute, hour, day of the month, month and day of the week: numbers, names (MON,
    JAN), ranges (1-5), lists (1,5), steps (*/5), L for the last day, MON#1 for the first Monday. Or @hourly, @daily,
    @weekly, @monthly, @yearly. Besides its own it takes the options of `rota submit` that can be said of many tasks.
    """,
)
@click.argument("expression")
@click.option("--zone", default="UTC", show_default=True, shell_complete=completing.zones, help=ZONE_HELP)
@click.option(
    "--misfire",
    type=click.Choice(("skip", "once", "all")),
    default="once",
    show_default=True,
    help="For fire times that were missed: no task, one for all of them, or one for each.",
)
@click.option(
    "--overlap",
    type=click.Choice(("allow", "skip")),
    default="allow",
    show_default=True,
    help="Whether it fires while a task of it has not ended.",
)
@click.option("--paused", is_flag=True, help="Let it make nothing until it is resumed.")
@click.option(
    "--replace",
    "replaces",
    is_flag=True,
    help="If there is one of this name, have it say this from now on; one that is paused stays so.",
)
@json_option
@spec_options
@command_argument
@with_client
def add_command(
    client: HttpClient,
    /,
    *,
    expression: str,
    replaces: bool,
    as_json: bool,
    arguments: tuple[str, ...],
    name: str | None,
    **fields: Any,
) -> None:
    """Add a calendar: a task that is submitted whenever the clock of a zone shows the times of a cron expression.

    Its --name is that of its tasks too; without one it is given one.
    """
    says = {key: fields.pop(key) for key in ("zone", "misfire", "overlap")}
    if fields.pop("paused"):  # else one that is replaced stays as it is in that
        says["paused"] = True
    _read_times(expression, says["zone"])
    task = spec_from(arguments, fields)
    refuse_nothing(task)
    ship_files(client, task)
    calendar: Json = {"expression": expression, **says, "task": task}
    if replaces and name is None:
        raise click.UsageError("--replace needs the --name of the calendar to replace")
    if name is None or not replaces:
        answer = client.calendars.add(calendar if name is None else {"name": name, **calendar})
    else:
        answer = client.calendars.put(name, calendar)
    _tell(answer, as_json)


add_command.params = [param for param in add_command.params if param.name not in NOT_OF_CALENDARS]


@command.command(
    "show",
    epilog="""Examples:

    \b
    rota cron show report
    """,
)
@click.argument("name", shell_complete=completing.calendars())
@json_option
@with_client
def show_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Show all about a calendar."""
    answer = client.calendars.get(name)
    if as_json:
        print_json(answer)
        return
    terms = ", ".join(terms_of(answer["task"]))
    for label, text in _facts(view_of(answer, ShownCalendar), terms, time.time()):
        click.echo(f"{label + ':' if label else '':<{_LABEL_WIDTH}} {text}")


@command.command(
    "pause",
    epilog="""Examples:

    \b
    rota cron pause report
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.calendars())
@json_option
@with_client
def pause_command(client: HttpClient, *, names: tuple[str, ...], as_json: bool) -> None:
    """Let calendars make nothing. What comes meanwhile is forgotten, and no misfire."""
    change_each(
        names, client.calendars.pause, as_json=as_json, describe=lambda one: f"calendar {one['name']} is paused"
    )


@command.command(
    "resume",
    epilog="""Examples:

    \b
    rota cron resume report
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.calendars())
@json_option
@with_client
def resume_command(client: HttpClient, *, names: tuple[str, ...], as_json: bool) -> None:
    """Undo a pause."""
    change_each(names, client.calendars.resume, as_json=as_json, describe=_in_words)


@command.command(
    "run",
    epilog="""Examples:

    \b
    rota cron run report
    """,
)
@click.argument("name", shell_complete=completing.calendars())
@json_option
@with_client
def run_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Make a task of a calendar now, whatever it says, and print its id."""
    task = client.calendars.run(name)
    if as_json:
        print_json(task)
        return
    click.echo(escaped(str(task["id"])))


@command.command(
    "history",
    epilog="""Examples:

    \b
    rota cron history report
    rota cron history report --json | jq -r '.[] | select(.outcome == "missed") | .at'
    """,
)
@click.argument("name", shell_complete=completing.calendars())
@json_option
@with_client
def history_command(client: HttpClient, *, name: str, as_json: bool) -> None:
    """Say what became of the latest fire times of a calendar, the latest first."""
    fires = client.calendars.history(name)
    if as_json:
        print_json_array(fires)
        return
    print_table(HISTORY_COLUMNS, [_fire_row(view_of(fire, ShownFire)) for fire in fires], wide=("OUTCOME",))


@command.command(
    "remove",
    epilog="""Examples:

    \b
    rota cron remove report
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.calendars())
@json_option
@with_client
def remove_command(client: HttpClient, *, names: tuple[str, ...], as_json: bool) -> None:
    """Remove calendars. Their tasks stay."""
    change_each(
        names, client.calendars.remove, as_json=as_json, describe=lambda one: f"calendar {one['name']} is removed"
    )


@command.command(
    "next",
    epilog="""Examples:

    \b
    rota cron next '*/15 9-17 * * MON-FRI' --zone America/New_York
    rota cron next @monthly --count 12
    """,
)
@click.argument("expression")
@click.option("--zone", default="UTC", show_default=True, shell_complete=completing.zones, help=ZONE_HELP)
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="So many of them.")
@json_option
def next_command(*, expression: str, zone: str, count: int, as_json: bool) -> None:
    """Print the next fire times of an expression. Asks no coordinator."""
    now = time.time()
    times = _read_times(expression, zone)
    shown = [times.shown(at) for at in islice(times.after(now), count)]
    if as_json:
        print_json_array({"at": at} for at in shown)
        return
    for at in shown:
        click.echo(f"{at}  {from_now(at, now)}")


def _list(client: HttpClient, as_json: bool) -> None:
    calendars = client.calendars.all()
    if as_json:
        print_json_array(calendars)
        return
    now = time.time()
    rows = [_row(view_of(one, ShownCalendar), now) for one in calendars]
    print_table(COLUMNS, rows, wide=("RUNS", "LAST"), spare=("RUNS", "ZONE"))


def _read_times(expression: str, zone: str) -> FireTimes:
    """Read an expression here, so that its mistake can be pointed at.

    Raises:
        click.UsageError: It, or the zone, makes no sense.
    """
    # Only here: `rota cron --help` does without time zones.
    from rota.core.cron import CronSyntaxError, FireTimes, UnknownZone  # noqa: PLC0415 - see above

    try:
        return FireTimes(expression, zone)
    except CronSyntaxError as error:
        before = escaped(error.expression[: error.column - 1])
        pointer = f"  {escaped(error.expression)}\n  {' ' * len(before)}{'^' * error.width}"
        raise click.UsageError(f"{escaped(str(error))}\n{pointer}") from None
    except UnknownZone as error:
        raise click.UsageError(f"--zone: {escaped(str(error))}") from None


def _tell(answer: Json, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    click.echo(escaped(_in_words(answer)))


def _in_words(answer: Json) -> str:
    shown = view_of(answer, ShownCalendar)
    when = shown.next_words(time.time())
    if shown.state == "active" and shown.next:
        return f"calendar {shown.name} fires next at {when}, {shown.zone}"
    return f"calendar {shown.name}: {when}"


def _row(one: ShownCalendar, now: float) -> tuple[str, ...]:
    last = one.last.latest(now) if one.last is not None else ""
    when = from_now(one.next[0], now) if one.state == "active" and one.next else ""
    return one.name, one.state, one.expression, one.zone, when, last, one.task.words


def _fire_row(fire: ShownFire) -> tuple[str, ...]:
    is_own = fire.outcome in {"fired", "manual"}
    state = fire.state or "removed" if is_own else ""
    return fire.time, fire.words, (fire.task or "") if is_own else "", state


def _facts(one: ShownCalendar, terms: str, now: float) -> Iterator[tuple[str, str]]:
    yield "calendar", escaped(one.name)
    yield "says", escaped(f"{one.expression} in {one.zone}")
    yield (
        "runs",
        one_line(one.task.words) + (f" in queue {escaped(one.task.queue)}" if one.task.queue != "default" else ""),
    )
    if terms:
        yield "with", one_line(terms)
    yield "state", one.state + (f": {one_line(one.problem)}" if one.problem else "")
    yield "misfire", {"skip": "skip what was missed", "once": "one task for all", "all": "a task for each"}[one.misfire]
    yield "overlap", one.overlap
    yield "created", one.created_at
    if one.last is not None:
        last = one.last
        state = f", {styled_state(last.state)}" if last.state and last.outcome != "skipped" else ""
        task = f": {escaped(last.task)}" if last.task and last.outcome != "skipped" else ""
        yield "last", f"{last.time} {escaped(last.words)}{task}{state}"
    if one.unfinished:
        yield "unfinished", escaped(", ".join(one.unfinished[:10])) + (" …" if len(one.unfinished) > 10 else "")
    for index, at in enumerate(one.next if not one.paused else ()):
        yield "" if index else "next", f"{at} ({from_now(at, now)})"
