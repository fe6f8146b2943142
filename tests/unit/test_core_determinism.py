"""The same commands at the same times with the same seed give the same effects, in any process."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.house import ROOT
from tests.support.replay import story_digest

SEED = 7


def test_same_story_gives_the_same_effects() -> None:
    assert story_digest(SEED) == story_digest(SEED)


def test_another_seed_gives_others() -> None:
    assert story_digest(SEED) != story_digest(SEED + 1)


def test_effects_do_not_depend_on_the_order_of_hashes() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.replay", str(SEED)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    digests = {process.communicate(timeout=60)[0].strip() for process in running}
    assert digests == {story_digest(SEED)}
