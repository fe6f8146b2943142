"""What people read: durations, sizes, moments and names as short text that is safe to show.

Pure functions. Whatever comes from a task or a worker passes `escaped` before it reaches a
terminal, because a name may hold sequences that move the cursor or rewrite what was printed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from shlex import quote
from typing import Final

__all__ = [
    "ago",
    "all_lines",
    "amount",
    "command_line",
    "duration",
    "escaped",
    "from_now",
    "memory",
    "one_line",
    "quantity",
    "seconds_since",
    "shortened",
    "size",
]

_UNITS: Final = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_SIZE_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")


_BREAK: Final = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
_BREAKS: Final = "\r\n"
_INDENT = re.compile(r"^\t+", re.MULTILINE)
_TAB: Final = "    "


def escaped(text: str) -> str:
    r"""Return ``text`` with everything that is not plainly printable written as an escape.

    >>> escaped("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def one_line(text: str) -> str:
    r"""Return ``text`` as one line that is safe to show: what parts its lines becomes one space.

    >>> one_line("undefined: x\r\n\tmain.go:3\n"), one_line("a\x1b[31mb\tc")
    ('undefined: x main.go:3', 'a\\x1b[31mb\\tc')
    """
    return text if text.isprintable() else escaped(_BREAK.sub(" ", text.strip(_BREAKS)))


def all_lines(text: str, *, indent: int = 0) -> str:
    r"""Return ``text`` with its own lines, each safe to show, those after the first one indented.

    >>> print(all_lines("first\n\tsecond\x07\n", indent=2))
    first
          second\x07
    """
    lines = _INDENT.sub(lambda tabs: _TAB * len(tabs[0]), text.strip(_BREAKS).replace("\r\n", "\n")).split("\n")
    return ("\n" + indent * " ").join(map(escaped, lines))


def duration(seconds: float) -> str:
    """Return a duration in at most two units.

    >>> duration(0.0123), duration(3.21), duration(75), duration(7260), duration(90_000)
    ('12ms', '3.2s', '1m15s', '2h01m', '1d01h')
    """
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit_s, unit, part_s, part in _UNITS:
        if whole >= unit_s:
            return f"{whole // unit_s}{unit}{whole % unit_s // part_s:02d}{part}"
    return f"{whole}s"


def seconds_since(moment: str, now: float) -> float:
    """Return the seconds from a moment (RFC 3339) until ``now`` (wall clock), at least 0."""
    return max(0.0, now - datetime.fromisoformat(moment).timestamp())


def ago(moment: str | None, now: float) -> str:
    """Return how long ago a moment was; empty if it has not come.

    >>> ago("1970-01-01T00:00:00Z", 75.0), ago(None, 75.0)
    ('1m15s ago', '')
    """
    return f"{duration(seconds_since(moment, now))} ago" if moment else ""


def from_now(moment: str, now: float) -> str:
    """Return how far away a moment is, on either side of ``now``.

    >>> from_now("1970-01-01T00:02:00Z", 45.0), from_now("1970-01-01T00:00:00Z", 75.0)
    ('in 1m15s', '1m15s ago')
    """
    left_s = datetime.fromisoformat(moment).timestamp() - now
    return f"in {duration(left_s)}" if left_s > 0 else ago(moment, now)


def size(count: int) -> str:
    """Return a number of bytes with a binary unit.

    >>> size(12), size(1536), size(5 * 1024**3)
    ('12 B', '1.5 KiB', '5.0 GiB')
    """
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in _SIZE_UNITS:
        amount /= 1024
        if amount < 1023.95 or unit == _SIZE_UNITS[-1]:
            break
    return f"{amount:.1f} {unit}"


def memory(mib: float) -> str:
    """Return an amount of memory given in MiB.

    >>> memory(512), memory(2048)
    ('512.0 MiB', '2.0 GiB')
    """
    return size(round(mib * 1024 * 1024))


def amount(name: str, count: int) -> str:
    """Return an amount of a resource in the unit that people think in.

    >>> amount("cpu", 1500), amount("memory", 2048), amount("disk", 5)
    ('1.5 cores', '2.0 GiB memory', '5 disk')
    """
    unit = f"core{'s' * (count != 1000)}" if name == "cpu" else name
    return f"{quantity(name, count)} {unit}"


def quantity(name: str, count: int) -> str:
    """Return the number alone.

    >>> quantity("cpu", 1500), quantity("memory", 2048), quantity("disk", 5)
    ('1.5', '2.0 GiB', '5')
    """
    if name == "cpu":
        return f"{count / 1000:g}"
    return memory(count) if name in {"memory", "gpu_memory"} else str(count)


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as one would type it.

    >>> command_line(["echo", "two words"])
    "echo 'two words'"
    """
    return " ".join(quote(argument) for argument in arguments)


def shortened(text: str, width: int) -> str:
    """Return the beginning of ``text``, at most ``width`` characters, with an ellipsis if it was longer.

    >>> shortened("sha256sum file", 8)
    'sha256s…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"
