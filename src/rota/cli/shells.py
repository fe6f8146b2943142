"""What `click` leaves to be desired of completion: words that a shell parts, or does not part, at ``=`` and ``:``.

Bash hands over ``--placement=bin`` as three words, and ``http://host``, too; it replaces what is behind the last of
these signs. Zsh and fish hand over one word and replace all of it. So the words are put together again here, and each
shell is answered with what it replaces. Loaded when a shell asks, and never else.
"""

from __future__ import annotations

import os
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

__all__ = ["register"]

BREAKS = frozenset("=:@")
"""At which bash parts words, besides those that a shell parts at anyway (its ``COMP_WORDBREAKS``)."""


class _WholeWords(ShellComplete):
    """Offers ``--option=value`` for a word that begins so, not the value alone."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        name, equals, _ = incomplete.partition("=")
        items = super().get_completions(args, incomplete)
        if not (equals and name.startswith("--")):
            return items
        return [_changed(item, f"{name}={item.value}") for item in items if item.type == "plain"]


class _Bash(_WholeWords, BashComplete):
    """Puts words together that bash has parted, and offers what is behind the last sign at which it did."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, current = split_arg_string(os.environ["COMP_WORDS"]), int(os.environ["COMP_CWORD"])
        *args, incomplete = _joined([*words, ""][1 : current + 1]) or [""]
        return args, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        kept = max(incomplete.rfind(sign) for sign in BREAKS) + 1
        items = super().get_completions(args, incomplete)
        return [_changed(item, item.value[kept:]) for item in items]


class _Zsh(_WholeWords, ZshComplete):
    """Zsh as it is, with whole words."""


class _Fish(_WholeWords, FishComplete):
    """Fish as it is, with whole words."""


def register() -> None:
    """Have `click` answer shells this way."""
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)


def _joined(words: list[str]) -> list[str]:
    """Put together what was one word.

    >>> _joined(["ps", "--url", "http", ":", "//h", ":", "80", "--state", "=", "fai"])
    ['ps', '--url', 'http://h:80', '--state=fai']
    """
    found: list[str] = []
    is_open = False
    for word in words:
        is_sign = bool(word) and set(word) <= BREAKS
        if found and (is_sign or is_open):
            found[-1] += word
        else:
            found.append(word)
        is_open = is_sign
    return found


def _changed(item: CompletionItem[str], value: str) -> CompletionItem[Any]:
    return CompletionItem(value, type=item.type, help=item.help)
