"""Cron expressions: what each says is found wrong where it is wrong, and when it fires in a time zone.

`cronsim` decides what an expression means, as Debian's cron does: five fields, where a day must match both day fields
if one of them begins with a star, else either. What begins with a star in minute or hour follows the clock as it runs;
all else fires once a day of the calendar: a time that clocks skip in spring fires at the end of the gap, one that comes
twice in autumn the first time. Here stand the checks that lead people to their mistake, and the search in both
directions: what the library offers backwards never ends in such a gap.

Zones are read from the system's data or the package ``tzdata``, once each, like the code of a module.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from itertools import islice, takewhile
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

__all__ = ["CronSyntaxError", "FireTimes", "UnknownZone", "find_zone"]

EXPRESSION_CHARS_MAX: Final = 500
"""Of an expression: one that lists every minute and hour has 250."""

MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

ZONE_CHARS_MAX: Final = 100

_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]*\Z")
_LOCAL_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Files among the zones that mean something else on each machine, or nothing."""


class CronSyntaxError(ValueError):
    """An expression that makes no sense: ``width`` characters from ``column`` on, counted from 1, are the mistake."""

    def __init__(self, expression: str, problem: str, *, column: int, width: int) -> None:
        super().__init__(f"{expression!r}: {problem}")
        self.expression = expression
        self.column = column
        self.width = width


class UnknownZone(ValueError):
    """No time zone has this name."""


class _Field(NamedTuple):
    """One of the five: ``low`` to ``high``, or ``names`` for those from ``low`` on."""

    title: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def find_number(self, text: str) -> int | None:
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def choice(self) -> str:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.low} to {self.high}{names}"


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    _Field("day of the week", 0, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)
_FIELD_TITLES: Final = ", ".join(field.title for field in _FIELDS)

_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""To ask the library whether it can read something: any day will do."""


class FireTimes:
    """When an expression fires in a zone. Times are wall-clock seconds since 1970.

    Raises:
        CronSyntaxError: The expression makes no sense; says where.
        UnknownZone: There is no such zone; names near ones.

    >>> berlin = FireTimes("30 2 * * *", "Europe/Berlin")
    >>> [berlin.shown(at) for at, _ in zip(berlin.after(1_901_102_400.0), range(2))]  # clocks go forward that night
    ['2030-03-31T03:00:00+02:00', '2030-04-01T02:30:00+02:00']
    """

    __slots__ = ("_fields", "_zone")

    def __init__(self, expression: str, zone: str) -> None:
        self._fields = _checked(expression)
        self._zone = find_zone(zone)

    def after(self, moment: float) -> Iterator[float]:
        """Yield the fire times after a moment, in order; none beyond fifty years without one."""
        last = moment
        try:
            for fire in CronSim(self._fields, datetime.fromtimestamp(int(moment), self._zone)):
                # It knows the hour that comes twice by its first coming alone, also when asked in the second.
                if (at := fire.timestamp()) > last:
                    last = at
                    yield at
        except OverflowError:  # beyond the year 9999
            return

    def latest(self, count_max: int, *, after: float, until: float) -> tuple[list[float], bool]:
        """Return the latest in (``after``, ``until``], oldest first, and whether there are more than ``count_max``.

        O(``count_max``), for expressions that fire at about the same pace all year.
        """
        first = list(islice(self._between(after, until), count_max + 1))
        if len(first) <= count_max:
            return first, False
        span_s = first[-1] - first[0]
        while True:
            start = max(after, until - span_s)
            found = deque(self._between(start, until), maxlen=count_max)
            if len(found) == count_max:
                return list(found), True
            span_s *= 2

    def _between(self, after: float, until: float) -> Iterator[float]:
        return takewhile(lambda at: at <= until, self.after(after))

    def shown(self, at: float) -> str:
        """A fire time as RFC 3339, in the zone."""
        return datetime.fromtimestamp(at, self._zone).isoformat(timespec="seconds")


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database, such as ``Europe/Berlin``.

    Raises:
        UnknownZone: There is none; names near ones.
    """
    if len(name) > ZONE_CHARS_MAX:  # neither shown nor compared with all that there are
        raise UnknownZone(f"the name of a time zone has at most {ZONE_CHARS_MAX} characters, not {len(name):,}")
    if _ZONE.match(name) and name not in _LOCAL_ZONES:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # none, a broken file, a folder of them
            pass
    raise UnknownZone(f"there is no time zone {name!r}; {_zone_hint(name)}")


def _zone_hint(name: str) -> str:
    known = _known_zones()
    wanted = name.strip().replace(" ", "_").lower()
    near = [known[wanted]] if wanted in known else []
    near += [zone for lowered, zone in known.items() if lowered.rpartition("/")[2] == wanted and zone not in near]
    near = near or [known[each] for each in get_close_matches(wanted, known, n=3)]
    return f"did you mean {' or '.join(near[:3])}?" if near else "use a name such as UTC or Europe/Berlin"


@cache
def _known_zones() -> dict[str, str]:
    """All zones by their names in lower case. Looks at every file of the data: for mistakes only."""
    return {zone.lower(): zone for zone in sorted(available_timezones()) if zone not in _LOCAL_ZONES}


# Mistakes --------------------------------------------------------------------------------


def _checked(expression: str) -> str:
    """Return what the library reads; find the mistake where it would refuse."""
    if len(expression) > EXPRESSION_CHARS_MAX:
        problem = f"it has {len(expression):,} characters: at most {EXPRESSION_CHARS_MAX} are taken"
        raise CronSyntaxError(expression[:20] + "…", problem, column=1, width=1)
    words = list(re.finditer(r"\S+", expression))
    if len(words) == 1 and words[0][0].startswith("@"):
        return _macro(expression, words[0])
    if len(words) != len(_FIELDS):
        raise _wrong_count(expression, words)
    fields = " ".join(word[0] for word in words)
    if _is_readable(fields):
        return fields
    for index, word in enumerate(words):
        _check_field(expression, word, index)
    day = words[2]
    problem = f"it never fires: no month that it names has a day {day[0]}"
    raise CronSyntaxError(expression, problem, column=day.start() + 1, width=len(day[0]))


def _macro(expression: str, word: re.Match[str]) -> str:
    fields = MACROS.get(word[0].lower())
    if fields is None:
        near = get_close_matches(word[0].lower(), MACROS, n=1) or list(MACROS)
        problem = f"there is no {word[0]}: write {', '.join(near)} or five fields"
        raise CronSyntaxError(expression, problem, column=word.start() + 1, width=len(word[0]))
    return fields


def _wrong_count(expression: str, words: list[re.Match[str]]) -> CronSyntaxError:
    count = len(words)
    if count > len(_FIELDS):
        extra = words[len(_FIELDS)]
        hint = "; a calendar has no seconds" if count == len(_FIELDS) + 1 else ""
        at, width = extra.start() + 1, len(extra[0])
    else:
        hint = "; put it in quotes, so that the shell leaves * alone"
        at, width = len(expression.rstrip()) + 1, 1
    problem = f"it has {count} field{'s' * (count != 1)}: it must have five ({_FIELD_TITLES}){hint}"
    return CronSyntaxError(expression, problem, column=at, width=width)


def _check_field(expression: str, word: re.Match[str], index: int) -> None:
    """Check one field item by item, so that the one that is wrong can be pointed at."""
    at = word.start()
    for item in word[0].split(","):
        others = ["*"] * len(_FIELDS)
        others[index] = item
        if not item or not _is_readable(" ".join(others)):
            offset, width, problem = _explain(item, _FIELDS[index])
            where = f"field {index + 1} ({_FIELDS[index].title})"
            column = at + offset + 1
            raise CronSyntaxError(expression, f"{where}, column {column}: {problem}", column=column, width=width)
        at += len(item) + 1


def _is_readable(fields: str) -> bool:
    try:
        CronSim(fields, _SOME_DAY)
    except (CronSimError, ValueError, AssertionError):  # the last two are how it meets what it did not think of
        return False
    return True


def _explain(item: str, field: _Field) -> tuple[int, int, str]:
    """What is wrong with an item that can't be read: where it begins in it, how long it is, and a sentence."""
    if not item:
        return 0, 1, f"there is nothing before or after a comma: it must be {field.choice}"
    base, slash, step = item.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        return len(base) + 1, max(1, len(step)), f"the step is {step!r}: it must be a whole number from 1"
    low, dash, high = base.partition("-")
    for offset, text in ((0, low), (len(low) + 1, high)) if dash else ((0, base),):
        number = field.find_number(text)
        if number is not None and not field.low <= number <= field.high:
            return offset, len(text), f"{text} is out of range: it must be {field.choice}"
        if number is None and (dash or text != "*"):
            forms = "a number, a range (1-5), a list (1,5), a step (*/5) or *"
            return offset, max(1, len(text)), f"{text!r} is no {field.title}: it must be {field.choice}, as {forms}"
    if dash:
        return 0, len(base), f"{base} runs backwards: write {low}-{field.high},{field.low}-{high} to go round the end"
    return 0, len(item), f"{item!r} can't be read: it must be {field.choice}"
