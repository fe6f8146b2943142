"""Hard cases of the core as files: see `tests.support.scenarios` for how they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scenarios import play

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 6


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_what_is_written_is_what_happens(path: Path, request: pytest.FixtureRequest) -> None:
    played = "\n".join(play(path)) + "\n"
    if request.config.getoption("--rewrite-scenarios"):
        path.write_text(played)
    assert path.read_text().splitlines() == played.splitlines()
