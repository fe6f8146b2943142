"""Tokens from a file: several are taken, and a change is noticed without a restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rota.coordinator.http import Guard, GuardConfig
from rota.coordinator.tokens import TokenWatch
from rota.core.errors import Unauthorized
from rota.wire.tokens import FILE_BYTES_MAX, TOKENS_MAX, TokenFile, read_tokens


def test_each_line_is_a_token_once(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# of this year\nnew \n\n old\nnew\n")
    assert read_tokens(tmp_path / "tokens") == ("new", "old")


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "has no token"),
        ("# none yet\n", "has no token"),
        ("two words\n", "printable ASCII without spaces"),
        ("tökén\n", "printable ASCII without spaces"),
        ("x" * 5_000, "at most 4,096 characters, got 5,000"),
        ("x" * (FILE_BYTES_MAX + 1), "has more than 65,536 bytes"),
        ("\n".join(map(str, range(TOKENS_MAX + 1))), "has 17 tokens: at most 16"),
    ],
)
def test_a_file_that_can_not_be_meant_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_tokens(tmp_path / "tokens")
    assert str(tmp_path / "tokens") in str(caught.value)
    assert "x" * 100 not in str(caught.value), "a token is told to nobody"


class Door:
    """A coordinator's guard and its watch over a file, as far as tokens go."""

    def __init__(self, path: Path) -> None:
        file = TokenFile(path)
        first, *others = file.tokens
        self.guard = Guard(GuardConfig(token=first, more_tokens=tuple(others)))
        self.emptied = 0
        self.watch = TokenWatch(file, use=self.guard.use_tokens, on_withdrawal=self._empty)

    def lets_in(self, tokens: Sequence[str]) -> list[str]:
        return [token for token in tokens if self._lets_in(token)]

    def _lets_in(self, token: str) -> bool:
        try:
            self.guard.check_token(f"Bearer {token}".encode())
        except Unauthorized:
            return False
        return True

    def _empty(self) -> None:
        self.emptied += 1


def test_a_token_is_replaced_without_a_moment_in_which_neither_is_taken(tmp_path: Path) -> None:
    path, both = tmp_path / "tokens", ("old", "new", "none")
    path.write_text("old")
    door = Door(path)
    assert door.lets_in(both) == ["old"]
    path.write_text("new\nold\n")
    door.watch.run_once()
    assert (door.lets_in(both), door.emptied) == (["old", "new"], 0)
    path.write_text("new\n")
    door.watch.run_once()
    assert (door.lets_in(both), door.emptied) == (["new"], 1), "who came in with the old one must show the new one"


def test_a_file_that_can_not_be_used_locks_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("old")
    door = Door(path)
    path.write_text("")
    door.watch.run_once()
    path.unlink()
    door.watch.run_once()
    assert (door.lets_in(["old"]), door.emptied) == (["old"], 0)
    path.write_text("new")
    door.watch.run_once()
    assert door.lets_in(["old", "new"]) == ["new"]
