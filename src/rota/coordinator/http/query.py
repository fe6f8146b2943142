"""Reading paths and query strings, strictly: what is not understood is refused, never ignored.

The parameters of an endpoint are a struct; this module turns the text of a request into it. An
unknown parameter is an error that names the near one, since a mistyped filter that is ignored
lists (or cancels) what nobody meant.
"""

from __future__ import annotations

import re
from datetime import datetime
from difflib import get_close_matches
from typing import Final, Generic, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import msgspec
from msgspec import Struct

from rota.core.errors import BadRequest

__all__ = ["PARAMETERS_MAX", "NoQuery", "QueryReader", "check_path", "next_page_link"]

PARAMETERS_MAX: Final = 200
"""In one query string: a bound on what is parsed before anything is known of it."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SPACE_FOR_PLUS: Final = re.compile(r" (?=\d\d:?\d\d\Z)")
_AT_PARAMETER: Final = re.compile(r"(.*) - at `\$\.(\w+)(?:\[\d+\])?`\Z")
_BOUND: Final = re.compile(r"Expected `\w+` ([<>]=) ([\d.]+)")
_BOUND_WORDS: Final = {"<=": "most", ">=": "least"}
"""How msgspec words a number that is out of bounds, and how people do."""

Q = TypeVar("Q", bound=Struct)


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of an endpoint that has none."""


class QueryReader(Generic[Q]):
    """Reads query strings into one struct.

    Fields that are lists take a parameter as often as it is given; all others take it once.
    """

    def __init__(self, shape: type[Q]) -> None:
        self._shape = shape
        hints = get_type_hints(shape)
        self._lists = frozenset(name for name, hint in hints.items() if get_origin(hint) is list)
        self._moments = frozenset(name for name, hint in hints.items() if _has_datetime(hint))
        self._empty = shape()

    def read(self, query: bytes) -> Q:
        """Read one query string.

        Raises:
            BadRequest: Not well-formed, or a parameter is unknown, repeated or out of its range.
        """
        if not query:
            return self._empty
        lists: dict[str, list[str]] = {}
        values: dict[str, str] = {}
        for name, value in _pairs(query):
            self._check_name(name)
            if name in self._lists:
                lists.setdefault(name, []).append(value)
            elif name in values:
                raise _refusal(name, "is given twice")
            else:
                values[name] = _SPACE_FOR_PLUS.sub("+", value) if name in self._moments else value
        try:
            return msgspec.convert({**lists, **values}, self._shape, strict=False)
        except msgspec.ValidationError as error:
            raise _explain(str(error)) from None

    def _check_name(self, name: str) -> None:
        known = self._shape.__struct_fields__
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are these: {', '.join(known) or 'none'}"
            raise _refusal(name, f"there is no such parameter; {hint}")


def check_path(raw_path: bytes) -> None:
    """Refuse a path whose percent-encoding is broken, not UTF-8, or hides control characters."""
    if b"%" in raw_path:
        _decode(raw_path, what="the path")


def next_page_link(path: str, query: bytes, *, cursor: int) -> bytes:
    """The ``Link`` header that leads to the next page: the same query, further on.

    >>> next_page_link("/api/v1/tasks", b"state=failed&limit=2&cursor=9", cursor=7)
    b'</api/v1/tasks?state=failed&limit=2&cursor=7>; rel="next"'
    """
    pairs = [(name, value) for name, value in _pairs(query) if name != "cursor"]
    return f'<{path}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'.encode()


def _pairs(query: bytes) -> list[tuple[str, str]]:
    text = _decode(query, what="the query string", is_checked_only=True)
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise BadRequest(f"the query string has more than {PARAMETERS_MAX} parameters", code="bad_query") from None


def _decode(raw: bytes, *, what: str, is_checked_only: bool = False) -> str:
    """Decode strictly; with ``is_checked_only`` return the text still encoded, once it is known to be sound."""
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
        encoded = raw.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest(f"{what} is not UTF-8, percent-encoded", code="bad_query") from None
    if _BAD_ESCAPE.search(raw):
        raise BadRequest(f"{what} has a % without two hexadecimal digits after it", code="bad_query")
    if not text.isprintable():
        raise BadRequest(f"{what} has control characters", code="bad_query")
    return encoded if is_checked_only else text


def _explain(problem: str) -> BadRequest:
    problem = _BOUND.sub(lambda found: f"must be at {_BOUND_WORDS[found[1]]} {float(found[2]):,g}", problem)
    at = _AT_PARAMETER.match(problem)
    return _refusal(at[2], at[1]) if at else BadRequest(problem, code="bad_query")


def _refusal(name: str, problem: str) -> BadRequest:
    return BadRequest(f"query parameter {name}: {problem}", code="bad_query")


def _has_datetime(hint: object) -> bool:
    return hint is datetime or any(_has_datetime(part) for part in get_args(hint))
