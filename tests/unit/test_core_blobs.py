"""Which blobs the core says are in use: those that unfinished tasks name, after a restart too, and no others."""

from __future__ import annotations

import json
from dataclasses import replace

from rota.core.drafts import draft_of
from rota.core.effects import Effect, Save, Send
from rota.core.model import TaskSeq
from rota.core.protocol import BlobHome, Welcome
from rota.core.requests import parse_requests
from tests.support.core import QUIET, Core

FUNCTION, OTHER, ARGUMENT, LARGE = ("ab" * 32, "cd" * 32, "12" * 32, "34" * 32)


def submit(core: Core, function: str, *blobs: str) -> tuple[TaskSeq, list[str]]:
    """Submit a task; return its number, and the blobs that must be on the disk before it is saved."""
    described = json.dumps({"function": function, "blobs": blobs}).encode()
    requests, _ = parse_requests(described, tasks_max=1)
    effects: list[Effect] = core.submit_drafts([draft_of(requests[0], accepted_at=core.wall)])
    saved = [name for effect in effects if isinstance(effect, Save) for name in effect.changes.blobs]
    return core.accepted(effects)[0].facts.seq, saved


def test_what_an_accepted_task_names_is_saved_with_it_and_in_use() -> None:
    core = Core()
    _, saved = submit(core, FUNCTION, ARGUMENT, LARGE)
    assert set(saved) == {FUNCTION, ARGUMENT, LARGE}
    assert core.state.blobs_in_use() == {FUNCTION, ARGUMENT, LARGE}


def test_what_only_ended_tasks_name_is_not_in_use() -> None:
    core = Core()
    first, _ = submit(core, FUNCTION, ARGUMENT)
    second, _ = submit(core, FUNCTION, LARGE)
    submit(core, OTHER)
    core.cancel(first)
    assert core.state.blobs_in_use() == {FUNCTION, LARGE, OTHER}
    core.cancel(second)
    assert core.state.blobs_in_use() == {OTHER}


def test_a_retry_uses_them_again() -> None:
    core = Core()
    seq, _ = submit(core, FUNCTION, ARGUMENT)
    core.cancel(seq)
    core.retry(seq)
    assert core.state.blobs_in_use() == {FUNCTION, ARGUMENT}


def test_a_worker_is_told_where_blobs_are() -> None:
    home = BlobHome("/var/lib/rota/blobs", "probe", "secret")
    effects = Core(config=replace(QUIET, blob_home=home)).hello()
    welcomes = [
        effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Welcome)
    ]
    assert [welcome.blob_home for welcome in welcomes] == [home]


def test_a_restart_knows_what_is_in_use() -> None:
    core = Core()
    submit(core, FUNCTION, ARGUMENT)
    ended, _ = submit(core, OTHER, LARGE)
    core.cancel(ended)
    assert Core(record=core.record, epoch=2).state.blobs_in_use() == {FUNCTION, ARGUMENT}
