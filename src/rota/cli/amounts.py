"""Durations, sizes and times as people write them, to the numbers that Rota counts in.

Each function takes one text and returns a number in the unit of its name, or raises
`ValueError` with a sentence that says what would be understood. Sizes are binary: ``2G`` is
2 × 1024³ bytes, whether written ``2G``, ``2GB`` or ``2GiB``.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

__all__ = [
    "parse_bytes",
    "parse_cpu_milli",
    "parse_duration_s",
    "parse_factors",
    "parse_gang",
    "parse_gpus",
    "parse_limit",
    "parse_memory_mib",
    "parse_moment",
    "parse_moment_or_duration_s",
    "parse_pair",
    "parse_resource",
    "parse_resources",
    "parse_since",
]

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)", re.ASCII)

GPUS_MAX: Final = 1024
"""Of one worker: a larger number is a memory that lacks its unit."""

_MIB: Final = 1 << 20


def parse_duration_s(text: str) -> float:
    """Read ``90``, ``1.5``, ``250ms``, ``30s``, ``5m``, ``1h30m`` or ``7d``; a bare number is seconds.

    >>> parse_duration_s("1h30m"), parse_duration_s("250ms"), parse_duration_s("90")
    (5400.0, 0.25, 90.0)
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write 30s, 5m, 1h30m, 7d or a number of seconds")
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def parse_bytes(text: str) -> int:
    """Read ``4096``, ``64K``, ``1.5M`` or ``4GiB``; a bare number is bytes.

    >>> parse_bytes("64K"), parse_bytes("1.5M"), parse_bytes("12")
    (65536, 1572864, 12)
    """
    return _parse_size(text, bare_unit="")


def parse_memory_mib(text: str) -> int:
    """Read ``512``, ``512M``, ``2G`` or ``1.5GiB``; a bare number is MiB, and part of a MiB counts as one.

    >>> parse_memory_mib("2G"), parse_memory_mib("512"), parse_memory_mib("1K")
    (2048, 512, 1)
    """
    return -(-_parse_size(text, bare_unit="M") // _MIB)


def _parse_size(text: str, *, bare_unit: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write 512M, 2G or a number")
    is_bare = _NUMBER.fullmatch(text) is not None
    return round(float(match[1]) * 1024.0 ** _POWERS[bare_unit if is_bare else match[2].upper()])


def parse_cpu_milli(text: str) -> int:
    """Read cores (``2``, ``1.5``) or millicores (``250m``).

    >>> parse_cpu_milli("1.5"), parse_cpu_milli("250m")
    (1500, 250)
    """
    match = _CPU.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of cpu: write cores (1.5) or millicores (1500m)")
    return round(float(match[1]) * (1 if match[2] else 1000))


def parse_pair(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``; the value may be empty and may hold further ``=``.

    >>> parse_pair("MODE=a=b")
    ('MODE', 'a=b')
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    return key, value


def parse_limit(text: str) -> tuple[str, int]:
    """Read ``NAME=COUNT``, or ``NAME`` for one.

    >>> parse_limit("licence-x"), parse_limit("licence-x=2")
    (('licence-x', 1), ('licence-x', 2))
    """
    name, equals, count = text.strip().partition("=")
    if not name or (equals and not (count.isascii() and count.isdigit())):
        raise ValueError(f"{text!r}: write NAME or NAME=COUNT, the count a whole number")
    return name, int(count) if equals else 1


def parse_resource(text: str) -> tuple[str, int]:
    """Read ``NAME=AMOUNT`` in the units of the API: cpu in millicores, memory and gpu_memory in MiB.

    Memory may have a unit.

    >>> parse_resource("licence=2"), parse_resource("memory=2G"), parse_resource("cpu=1500")
    (('licence', 2), ('memory', 2048), ('cpu', 1500))
    """
    name, amount = parse_pair(text.strip())
    if name in {"memory", "gpu_memory"}:
        return name, parse_memory_mib(amount)
    if not amount.isascii() or not amount.isdigit():
        raise ValueError(f"{text!r}: the amount of {name} must be a whole number (cpu in millicores)")
    return name, int(amount)


def parse_resources(text: str) -> dict[str, int]:
    """Read ``cpu=4000,memory=8G,disk=5``: every name once.

    >>> parse_resources("cpu=4000, memory=8G")
    {'cpu': 4000, 'memory': 8192}
    """
    amounts: dict[str, int] = {}
    for part in text.split(","):
        name, amount = parse_resource(part)
        if name in amounts:
            raise ValueError(f"{name} is given twice")
        amounts[name] = amount
    return amounts


def parse_factors(text: str) -> dict[str, float]:
    """Read ``cpu=2.0,memory=1.25``: every name once.

    >>> parse_factors("cpu=2, memory=1.25")
    {'cpu': 2.0, 'memory': 1.25}
    """
    factors: dict[str, float] = {}
    for part in text.split(","):
        name, _, factor = (word.strip() for word in part.partition("="))
        if not name or not _NUMBER.fullmatch(factor):
            raise ValueError(f"{part.strip()!r} must be a resource and a factor, such as cpu=2.0")
        if name in factors:
            raise ValueError(f"{name} is given twice")
        factors[name] = float(factor)
    return factors


def parse_gpus(text: str) -> list[int]:
    """Read a number of devices, or the memory of each; return the memory of each in MiB, 0 where it is not known.

    >>> parse_gpus("2"), parse_gpus("24G,24576"), parse_gpus("0")
    ([0, 0], [24576, 24576], [])
    """
    if not text.isascii() or not text.isdigit():
        return [parse_memory_mib(part.strip()) for part in text.split(",")]
    if int(text) > GPUS_MAX:
        raise ValueError(f"{text} devices: at most {GPUS_MAX}; with a unit or a comma it would be their memory")
    return [0] * int(text)


def parse_moment(text: str) -> str:
    """Read a date and time of ISO 8601 and return it with its zone; without one, it is this machine's.

    >>> parse_moment("2030-01-31T12:00:00+02:00")
    '2030-01-31T12:00:00+02:00'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time: write 2030-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()


def parse_moment_or_duration_s(text: str) -> str | float:
    """Read a duration from now, or a time.

    >>> parse_moment_or_duration_s("2h"), parse_moment_or_duration_s("2030-01-31T12:00:00Z")
    (7200.0, '2030-01-31T12:00:00+00:00')
    """
    try:
        return parse_duration_s(text)
    except ValueError:
        pass
    try:
        return parse_moment(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a duration (2h) nor a time (2030-01-31T12:00:00Z)") from None


def parse_since(text: str, *, now: float) -> str:
    """Read a time, or how long before ``now`` (wall clock, seconds) it was.

    >>> parse_since("10s", now=10.0)
    '1970-01-01T00:00:00+00:00'
    """
    moment = parse_moment_or_duration_s(text)
    if isinstance(moment, str):
        return moment
    return datetime.fromtimestamp(now - moment, UTC).isoformat()


def parse_gang(text: str) -> dict[str, object]:
    """Read which gang a task belongs to.

    >>> parse_gang("train:4")
    {'id': 'train', 'size': 4}
    """
    name, _, size = text.rpartition(":")
    if not name or not (size.isascii() and size.isdigit()):
        raise ValueError(f"{text!r} is no gang: write an id and the number of its members, such as train:4")
    return {"id": name, "size": int(size)}
