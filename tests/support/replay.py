"""A long story told to a core, and a digest of all that it wanted done: equal stories must give equal digests.

Run as ``python -m tests.support.replay SEED`` it prints the digest, so that another process, with another
order of its hashes, can be compared.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Sequence

import msgspec

from rota.core.config import SchedulerConfig
from rota.core.effects import Effect
from rota.core.model import Cause, TaskSeq
from rota.core.protocol import Ended
from tests.support.core import Core, drafts_of

__all__ = ["story_digest"]

STEPS = 300

TAGS = ("ssd", "gpu", "cuda-12.0", "eu", "fast")


def story_digest(seed: int) -> str:
    """Tell the story of a seed; return the digest of its effects, in order."""
    teller = _Teller(seed)
    for _ in range(STEPS):
        teller.step()
    return teller.digest.hexdigest()


class _Teller:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.core = Core(config=SchedulerConfig(seed=seed, grace_s=0.0))
        self.digest = hashlib.sha256()
        for number in range(6):
            self.note(self.core.hello(f"w{number}", tags=self.rng.sample(TAGS, 3), gpus=[8000, 16_000]))

    def note(self, effects: Sequence[Effect]) -> None:
        """Add effects to the digest. Sets have no order, so they are put into one."""
        for effect in effects:
            self.digest.update(type(effect).__name__.encode())
            self.digest.update(msgspec.json.encode(effect, order="deterministic"))

    def step(self) -> None:
        core, rng = self.core, self.rng
        match rng.randrange(6):
            case 0 | 1:
                self._submit()
            case 2:
                self._end_some()
            case 3:
                self.note(core.pass_time(rng.choice([0.2, 1.0, 4.0])))
            case 4:
                for worker in core.sessions:
                    if rng.random() < 0.9:
                        self.note(core.beat(worker))
            case _:
                self.note(core.cancel(*self._some(2)))

    def _submit(self) -> None:
        rng = self.rng
        fields = {
            "tags": rng.sample(TAGS, rng.randrange(2)),
            "resources": rng.choice([{"cpu": 500}, {"cpu": 1500, "memory": 64}, {"gpu": 1}, {"gpu_memory": 3000}]),
            "priority": rng.choice(["low", "normal", "high"]),
            "retries": rng.randrange(3),
        }
        self.note(self.core.submit_drafts(drafts_of(rng.randrange(1, 9), self.core.wall, **fields)))

    def _end_some(self) -> None:
        for seq in self._some(8):
            task = self.core.task(seq)
            worker = task.run.lane.worker if task.run is not None else None
            if worker is None or worker.session is None:
                continue
            cause = self.rng.choice([None, None, Cause.EXIT, Cause.RETURNED])
            end = Ended(seq, task.attempt, cause, run_s=self.rng.choice([0.01, 3.0]))
            self.note(self.core.report(worker.id, ended=[end]))

    def _some(self, count: int) -> list[TaskSeq]:
        known = sorted(self.core.state.tasks)
        return self.rng.sample(known, min(count, len(known)))


if __name__ == "__main__":
    print(story_digest(int(sys.argv[1])))
