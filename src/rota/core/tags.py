"""The language in which a task says what its worker must have: ``gpu``, ``!spot``, ``ssd~``, ``cuda>=12``.

=================  ==================================================================
``gpu``            the worker must have the tag
``!spot``          the worker must not have it
``ssd~``           a worker that has it goes before one that has not
``cuda>=12``       the worker has a tag such as ``cuda-12.4``, and its version compares so
                   (also ``>``, ``<=``, ``<``, ``==``, ``!=``)
``cuda>=12~``      a preference for that
=================  ==================================================================

An expression is written down in one way (without spaces), so that shapes compare by their texts. A `TagFilter`
decides on the tags of a worker; who keeps one decides once for each set of tags that there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from operator import eq, ge, gt, le, lt, ne
from typing import Final

from msgspec import Struct

__all__ = ["TagExpression", "TagFilter", "TagSyntaxError", "parse_tag"]

TAG_CHARS_MAX: Final = 100

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(?:=[A-Za-z0-9._/-]+)?")
"""A plain tag, perhaps with a value: ``zone=eu-1``."""

_OPERATOR: Final = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*")
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_VERSIONED: Final = re.compile(r"(?P<name>.+)-(?P<version>[0-9]+(?:\.[0-9]+)*)\Z")

Version = tuple[int, ...]

_COMPARISONS: Final[Mapping[str, Callable[[Version, Version], bool]]] = {
    ">=": ge,
    "<=": le,
    "==": eq,
    "!=": ne,
    ">": gt,
    "<": lt,
}


class TagSyntaxError(ValueError):
    """An expression that makes no sense, with the place where it stops making sense, counted from 1."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        super().__init__(f"{text!r}: at character {position}, {problem}")
        self.position = position


class TagExpression(Struct, frozen=True):
    """One wish for a worker's tags. ``comparison`` is empty for a plain tag."""

    name: str
    is_avoided: bool = False
    is_preferred: bool = False
    comparison: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{'!' * self.is_avoided}{self.name}{self.comparison}{self.version}{'~' * self.is_preferred}"

    def holds_for(self, tags: frozenset[str]) -> bool:
        """Whether the tags of a worker are as wished."""
        if self.is_avoided:
            return self.name not in tags
        if not self.comparison:
            return self.name in tags
        wanted = _version_of(self.version)
        return any(_compare(found, self.comparison, wanted) for found in _versions(self.name, tags))


def parse_tag(text: str) -> TagExpression:
    """Read one expression.

    >>> str(parse_tag("cuda >= 12")), str(parse_tag("!spot")), str(parse_tag("zone=a~"))
    ('cuda>=12', '!spot', 'zone=a~')

    Raises:
        TagSyntaxError: It is none; says where and why.
    """
    if len(text) > TAG_CHARS_MAX:
        raise TagSyntaxError(text[:20] + "…", TAG_CHARS_MAX + 1, f"it is longer than {TAG_CHARS_MAX} characters")
    is_avoided = text.startswith("!")
    at = 1 if is_avoided else 0
    name = _NAME.match(text, at)
    if name is None:
        raise TagSyntaxError(text, at + 1, "a tag must begin: a letter or a digit, then also . _ / -")
    at = name.end()
    comparison = version = ""
    if operator := _OPERATOR.match(text, at):
        comparison, at = operator[1], operator.end()
        number = _VERSION.match(text, at)
        if number is None:
            raise TagSyntaxError(text, at + 1, f"after {comparison} comes a version, such as 12 or 12.4")
        version, at = number[0], number.end()
    is_preferred = text[at : at + 1] == "~"
    at += is_preferred
    if at < len(text):
        raise TagSyntaxError(text, at + 1, f"{text[at:]!r} is not understood: use TAG, !TAG, TAG~ or TAG>=VERSION")
    if is_avoided and (comparison or is_preferred):
        raise TagSyntaxError(text, 1, "! goes with a plain tag only")
    return TagExpression(name[0], is_avoided, is_preferred, comparison, version)


class TagFilter:
    """What a task wants of tags, ready to be asked.

    Args:
        expressions: In the texts that `parse_tag` gives; others, which the coordinator itself makes, are plain tags.
    """

    __slots__ = ("_others", "_preferred", "_required")

    def __init__(self, expressions: Iterable[str]) -> None:
        required: list[str] = []
        self._others: list[TagExpression] = []
        self._preferred: list[TagExpression] = []
        for text in sorted(expressions):
            wish = _read(text)
            if wish.is_preferred:
                self._preferred.append(wish)
            elif wish.is_avoided or wish.comparison:
                self._others.append(wish)
            else:
                required.append(text)
        self._required = frozenset(required)

    @property
    def has_preferences(self) -> bool:
        """Whether it matters which of the workers that are accepted it is."""
        return bool(self._preferred)

    def accepts(self, tags: frozenset[str]) -> bool:
        """Whether a worker with these tags may have the task."""
        return self._required <= tags and all(wish.holds_for(tags) for wish in self._others)

    def preference(self, tags: frozenset[str]) -> int:
        """How many preferences these tags meet."""
        return sum(wish.holds_for(tags) for wish in self._preferred)

    def unmet(self, tags: frozenset[str]) -> list[str]:
        """The expressions that keep a worker with these tags from the task, in order."""
        lacking = [*(self._required - tags), *(str(wish) for wish in self._others if not wish.holds_for(tags))]
        return sorted(lacking)


def _read(text: str) -> TagExpression:
    """A tag of our own, such as ``executor:go``, has a character that no user's has: it is plain."""
    try:
        return parse_tag(text)
    except TagSyntaxError:
        return TagExpression(text)


def _versions(name: str, tags: frozenset[str]) -> Iterable[Version]:
    for tag in tags:
        found = _VERSIONED.match(tag)
        if found is not None and found["name"] == name:
            yield _version_of(found["version"])


def _version_of(text: str) -> Version:
    return tuple(map(int, text.split(".")))


def _compare(found: Version, comparison: str, wanted: Version) -> bool:
    """Compare as versions: what one does not say is 0.

    >>> _compare((12, 4), ">=", (12,)), _compare((12,), "==", (12, 0)), _compare((11, 8), ">", (12,))
    (True, True, False)
    """
    length = max(len(found), len(wanted))
    padded = found + (0,) * (length - len(found)), wanted + (0,) * (length - len(wanted))
    return _COMPARISONS[comparison](*padded)
