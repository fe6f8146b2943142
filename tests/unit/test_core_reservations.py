"""Reservations: what is kept for whom, where, and for how long."""

from __future__ import annotations

from rota.core.commands import ReplyTo, SetLimit, SetQueue, SetReservation
from rota.core.effects import Reply, SettingDone
from rota.core.explain import explain_wait, reasons
from rota.core.model import Reason, TaskSeq
from rota.core.queues import QueueSettings
from rota.core.reservations import Reservation
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


def test_share_of_a_card_is_kept_out_of_the_cards_that_are_reserved() -> None:
    core = Core()
    core.hello(gpus=[8000, 8000])
    core.reserve("demo", resources={"gpu": 1}, queue="urgent")
    shares = core.submit(3, resources={"cpu": 100, "gpu_memory": 3000})
    assert core.states(shares) == ["assigned", "assigned", "pending"]  # on one card, as many as it holds
    assert core.states(core.submit(resources={"gpu": 1}, queue="urgent")) == ["assigned"]


def test_two_reservations_are_not_kept_by_the_same_room() -> None:
    core = Core()
    core.hello("w1", cpu=1000)
    core.hello("w2", cpu=1000)
    core.reserve("a", resources={"cpu": 1000}, queue="qa", workers=1)
    core.reserve("b", resources={"cpu": 1000}, queue="qb", workers=1)
    assert (kept_on(core, "a"), kept_on(core, "b")) == (["w1"], ["w2"])
    assert core.states([only(core.submit(queue="qa")), only(core.submit(queue="qb"))]) == ["assigned"] * 2


def test_where_there_is_room_for_one_the_first_to_begin_has_it_until_it_is_over() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.reserve("z", resources={"cpu": 1000}, queue="qz")
    core.now += 1.0
    core.reserve("a", resources={"cpu": 1000}, queue="qa")
    assert (kept_on(core, "z"), kept_on(core, "a")) == (["w1"], [])
    assert core.states(core.submit(queue="qz")) == ["assigned"]
    core.end_reservation("z")
    assert kept_on(core, "a") == ["w1"]


def test_no_worker_is_held_for_a_task_from_which_it_is_reserved() -> None:
    core = Core()
    core.hello("w1")
    core.hello("w2")
    core.reserve("demo", resources={"cpu": 4000}, queue="urgent", workers=1)
    assert kept_on(core, "demo") == ["w1"]
    core.submit(4)
    core.submit(resources={"cpu": 4000})
    core.pass_time(10.0)
    core.do()
    assert [worker.id for worker in core.state.holds.workers] == ["w2"]
    assert core.workers_of(core.submit(queue="urgent")) == ["w1"]


def test_quick_tasks_do_not_fill_up_lines_on_a_worker_that_is_reserved() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.end(only(core.submit()), run_s=0.01)
    core.submit(500)
    core.reserve("demo", resources={"cpu": 1000}, queue="urgent")
    urgent = only(core.submit(queue="urgent"))
    ended = 0
    while core.task(urgent).run is None:
        core.now += 0.01
        lane = only(only(core.state.cluster.workers.values()).lanes.values())
        core.end(lane.line[0].seq, run_s=0.01)
        ended += 1
    assert ended < 50  # what stood in the line, and one filling that was under way


def test_name_that_is_taken_is_refused_also_in_the_same_turn() -> None:
    core = Core()
    core.hello()
    wanted = [Reservation(core.wall, core.wall + 60.0, {"cpu": amount}) for amount in (1000, 2000)]
    effects = core.do(*(SetReservation("demo", one, ReplyTo(n)) for n, one in enumerate(wanted, 1000)))
    answers = [effect.answer for effect in effects if isinstance(effect, Reply)]
    assert answers == [SettingDone(existed=False), SettingDone(True, "end it first, or choose another name")]
    assert core.state.reservations.all() == [("demo", wanted[0])]


def test_what_is_set_and_removed_in_one_turn_does_not_come_back() -> None:
    core = Core()
    soon_over = Reservation(core.wall, core.wall + 60.0, {"cpu": 1000})
    core.do(
        SetReservation("r", soon_over, ReplyTo(1001)),
        SetReservation("r", None, ReplyTo(1002)),
        SetLimit("l", 3, ReplyTo(1003)),
        SetLimit("l", None, ReplyTo(1004)),
        SetQueue("q", QueueSettings(paused=True), ReplyTo(1005)),
        SetQueue("q", None, ReplyTo(1006)),
        SetQueue("kept", None, ReplyTo(1007)),
        SetQueue("kept", QueueSettings(weight=2.0), ReplyTo(1008)),
    )
    again = core.restarted().state
    assert (again.reservations.all(), again.limits.all(), list(again.queues.set_names)) == ([], [], ["kept"])
