"""Reservations: what is kept for whom, where, and for how long."""

from __future__ import annotations

from rota.core.effects import SettingDone
from rota.core.explain import explain_wait, reasons
from rota.core.model import Reason, TaskSeq
from rota.core.timers import CALENDAR_LOOK_S
from rota.core.why import why_it_waits
from tests.support.core import Core, assignments, only


def kept_on(core: Core, name: str) -> list[str]:
    workers = core.state.cluster.workers.values()
    return sorted(worker.id for worker in workers if any(kept.name == name for kept in worker.kept))


def test_others_get_what_is_left_beside_what_is_kept() -> None:
    core = Core()
    core.hello(cpu=4000)
    core.reserve("demo", resources={"cpu": 3000}, queue="urgent")
    others = core.submit(2)
    assert core.states(others) == ["assigned", "pending"]
    reason, text = explain_wait(core.state, core.task(others[1]))
    assert reason is Reason.RESERVATION
    assert text.startswith("the room on 1 worker is reserved (demo) until 20")
    assert reasons(core.state) == {Reason.RESERVATION: 1}
    assert [b.text for b in why_it_waits(core.state, core.task(others[1])).blockers] == [
        "1 worker is reserved for others (demo)"
    ]
    assert core.states(core.submit(3, queue="urgent")) == ["assigned"] * 3


def test_what_those_it_is_for_have_already_is_not_kept_again() -> None:
    core = Core()
    core.hello(cpu=4000)
    core.reserve("demo", resources={"cpu": 2000}, queue="urgent")
    core.submit(2, queue="urgent")
    assert core.states(core.submit(3)) == ["assigned", "assigned", "pending"]


def test_a_label_claims_it_in_any_queue() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.reserve("demo", resources={"cpu": 1000})
    assert core.states(core.submit()) == ["pending"]
    assert core.states(core.submit(labels={"reservation": "other"})) == ["pending"]
    assert core.states(core.submit(labels={"reservation": "demo"})) == ["assigned"]


def test_it_begins_and_ends_by_itself() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.reserve("demo", starts_in_s=60.0, lasts_s=60.0, resources={"cpu": 1000}, queue="urgent")
    first = only(core.submit())
    assert core.states([first]) == ["assigned"]
    core.pass_time(60.0 + CALENDAR_LOOK_S)
    second = only(core.submit())
    core.end(first)
    assert core.states([second]) == ["pending"]
    core.pass_time(60.0 + CALENDAR_LOOK_S)
    assert core.states([second]) == ["assigned"]
    assert not core.record.settings


def test_it_is_ended_before_its_time() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.reserve("demo", resources={"cpu": 1000})
    waiting = only(core.submit())
    effects = core.end_reservation("demo")
    assert core.answer(effects) == SettingDone(True)
    assert [given.task for given in assignments(effects)] == [waiting]
    assert core.answer(core.end_reservation("demo")) == SettingDone(False)


def test_so_many_workers_that_match_keep_it_and_one_that_goes_is_replaced() -> None:
    core = Core()
    core.hello("plain")
    for name in ("g1", "g2", "g3"):
        core.hello(name, tags=["gpu"])
    core.reserve("demo", resources={"cpu": 4000}, tags=("gpu",), workers=2)
    before = kept_on(core, "demo")
    assert len(before) == 2
    assert "plain" not in before
    core.set_drained(before[0], drained=True)
    assert kept_on(core, "demo") == sorted({"g1", "g2", "g3"} - {before[0]})


def test_cards_are_kept() -> None:
    core = Core()
    core.hello(cpu=8000, gpus=[8000, 8000])
    core.reserve("demo", resources={"gpu": 1}, queue="urgent")
    assert core.states(core.submit(2, resources={"gpu": 1})) == ["assigned", "pending"]
    assert core.states(core.submit(queue="urgent", resources={"gpu": 1})) == ["assigned"]


def test_it_survives_a_restart() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.reserve("demo", lasts_s=600.0, resources={"cpu": 1000})
    again = core.restarted()
    again.hello(cpu=1000)
    waiting = only(again.submit())
    assert again.states([waiting]) == ["pending"]
    again.pass_time(600.0 + CALENDAR_LOOK_S)
    assert again.states([waiting]) == ["assigned"]


def test_what_runs_when_it_begins_is_not_stopped() -> None:
    core = Core()
    core.hello(cpu=2000)
    running = core.submit(2)
    core.reserve("demo", resources={"cpu": 2000}, queue="urgent")
    assert core.states(running) == ["assigned"] * 2
    urgent = only(core.submit(queue="urgent"))
    waiting: TaskSeq = only(core.submit())
    core.end(running[0])
    assert core.states([urgent, waiting]) == ["assigned", "pending"]
