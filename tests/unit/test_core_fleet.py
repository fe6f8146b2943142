"""Workers: how they come, are refused, fall silent, are lost or spared, come back, and leave."""

from __future__ import annotations

import pytest

from rota.core.commands import (
    ForgetWorker,
    LeavingArrived,
    ObserverStalled,
    ReplyTo,
    SessionId,
    SlotsLostArrived,
    WorkerHello,
)
from rota.core.config import SchedulerConfig
from rota.core.effects import Disconnect, Effect, Notice, WorkerForgotten, WorkerKnown
from rota.core.fleet import BLACKOUT_WINDOW_S
from rota.core.model import Cause, TaskSeq, WorkerId, WorkerState
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Ended,
    HeartbeatAck,
    Held,
    Hello,
    Refused,
    Welcome,
)
from tests.support.core import CLUSTER, Core, assignments, key, make_offer, messages, notices, only, saved

BEAT_S, SUSPICIOUS_S, OFFLINE_S, GRACE_S, BLACKOUT_S = 3.0, 10.0, 20.0, 60.0, 120.0


def watching(*, grace_s: float = 0.0, forget_after_s: float = 86_400.0) -> Core:
    """A core that listens for heartbeats as one does by default."""
    return Core(config=SchedulerConfig(grace_s=grace_s, forget_after_s=forget_after_s))


def state_of(core: Core, worker: str = "w1") -> WorkerState:
    return core.state.cluster.workers[WorkerId(worker)].shown_state


def disconnected(effects: list[Effect]) -> list[SessionId]:
    return [effect.session for effect in effects if isinstance(effect, Disconnect)]


def live(core: Core, seconds: float, *workers: str) -> list[Effect]:
    """Let time go by in which these workers send their heartbeats and the others are silent."""
    effects = []
    until = core.now + seconds
    while core.now < until:
        for worker in workers:
            effects += core.beat(worker)
        effects += core.pass_time(min(1.0, until - core.now))
    return effects


# Hellos


def test_worker_is_welcomed_once_it_is_on_the_record() -> None:
    core = watching()
    effects = core.hello(tags=["ssd"])
    welcome = only(messages(effects, Welcome))
    assert (welcome.version, welcome.cluster, welcome.epoch, welcome.heartbeat_s) == (PROTOCOL_VERSION, CLUSTER, 1, 3.0)
    record = only(saved(effects).workers)
    assert (record.id, record.instance, record.offer.tags) == ("w1", "i1", frozenset({"ssd"}))
    assert (record.registered_at, record.lost_at, record.drained) == (core.wall, None, False)
    assert notices(effects) == ["worker_online"]


def test_worker_of_another_protocol_is_refused_for_good() -> None:
    core = watching()
    effects = core.hello(version=PROTOCOL_VERSION + 1)
    refused = only(messages(effects, Refused))
    assert (refused.code, refused.retryable) == ("protocol_version", False)
    assert len(disconnected(effects)) == 1
    assert core.state.cluster.workers == {}


def test_taken_id_is_refused_while_its_holder_is_heard() -> None:
    core = watching()
    core.hello()
    seq = only(core.submit())
    effects = core.hello(instance="i2")
    refused = only(messages(effects, Refused))
    assert (refused.code, refused.retryable) == ("worker_id_taken", True)
    assert "--id" in refused.message
    assert core.states([seq]) == ["assigned"]
    core.end(seq)
    assert core.states([seq]) == ["completed"]


@pytest.mark.parametrize("how", ["closed", "suspicious"])
def test_id_is_free_once_its_holder_is_gone_or_silent(how: str) -> None:
    core = watching()
    core.hello()
    seq = only(core.submit())
    old = core.sessions["w1"]
    if how == "closed":
        core.close()
    else:
        core.pass_time(SUSPICIOUS_S + 1.0)
    effects = core.hello(instance="i2")
    assert disconnected(effects) == ([old] if how == "suspicious" else [])
    assert [key(given) for given in assignments(effects)] == [(seq, 2)]
    row = only(core.record.attempts[seq])
    assert (row.cause, row.message) == (Cause.WORKER_LOST, "worker w1 was started anew")


def test_same_agent_on_a_new_channel_goes_on_with_what_it_has() -> None:
    core = watching()
    core.hello()
    running, done = core.submit(2)
    old = core.sessions["w1"]
    effects = core.hello(holds=[core.held(running, started=True)], ended=[(done, 1)])
    assert disconnected(effects) == [old]
    assert only(messages(effects, Welcome)).stop == []
    assert assignments(effects) == []
    core.report(ended=[Ended(done, 1, None)])
    assert core.states([running, done]) == ["assigned", "completed"]


def test_assignment_that_never_arrived_returns_free() -> None:
    core = watching()
    core.hello()
    seq = only(core.submit(losses=0))
    effects = core.hello(holds=[])
    assert [key(given) for given in assignments(effects)] == [(seq, 2)]
    row = only(core.record.attempts[seq])
    assert (row.cause, row.message) == (Cause.RETURNED, "the assignment never reached the worker")
    assert core.progress(seq).losses_used == 0


def test_attempt_that_nobody_knows_must_stop() -> None:
    core = watching()
    core.hello()
    seq = only(core.submit())
    unknown = Held(TaskSeq(77), 3, core.held(seq).lane, 9, started=True)
    effects = core.hello(holds=[core.held(seq), unknown])
    assert only(messages(effects, Welcome)).stop == [(77, 3)]


def test_attempts_of_another_cluster_are_not_taken_for_ours() -> None:
    core = watching()
    core.hello()
    seq = only(core.submit())
    effects = core.hello(holds=[core.held(seq, started=True)], cluster="another")
    assert only(messages(effects, Welcome)).stop == [(seq, 1)]
    assert [key(given) for given in assignments(effects)] == [(seq, 2)]


def test_second_hello_on_one_channel_ends_it() -> None:
    core = watching()
    core.hello()
    session = core.sessions["w1"]
    hello = Hello(PROTOCOL_VERSION, WorkerId("w2"), "i9", make_offer(), CLUSTER, [], [], core.wall)
    effects = core.do(WorkerHello(session, hello))
    assert disconnected(effects) == [session]
    assert messages(effects, Welcome) == []
    assert sorted(core.state.cluster.workers) == ["w1"]
    assert core.state.cluster.sessions == {}


def test_refused_channel_can_say_what_it_wants() -> None:
    core = watching()
    core.hello()
    core.hello(instance="i2")
    refused = SessionId(2)
    for command in (LeavingArrived(refused, done=True), SlotsLostArrived(refused, 3, "x")):
        assert saved(core.do(command)).is_empty()
    assert state_of(core) is WorkerState.ONLINE


# Silence


def test_silent_worker_is_suspected_then_lost_and_its_tasks_go_elsewhere() -> None:
    core = watching()
    core.hello("w1")
    seq = only(core.submit())
    core.hello("w2")
    assert notices(live(core, SUSPICIOUS_S - 0.1, "w2")) == []
    assert notices(live(core, 0.2, "w2")) == ["worker_suspicious"]
    assert core.workers_of(core.submit(3)) == ["w2"] * 3
    effects = live(core, OFFLINE_S - SUSPICIOUS_S, "w2")
    assert notices(effects) == ["worker_offline"]
    assert [key(given) for given in assignments(effects)] == [(seq, 2)]
    row = only(core.record.attempts[seq])
    assert (row.cause, row.message) == (Cause.WORKER_LOST, "worker w1 was lost (silent for 20 s)")
    lost_at = core.record.workers[WorkerId("w1")].lost_at
    assert lost_at == pytest.approx(core.wall, abs=1.0)
    assert core.state.counts.workers_lost == 1


def test_heartbeats_keep_a_worker_online_and_are_answered() -> None:
    core = watching()
    core.hello()
    effects = live(core, 100.0, "w1")
    assert notices(effects) == []
    assert len(messages(effects, HeartbeatAck)) == 100
    assert saved(core.beat()).is_empty()


def test_any_message_is_a_sign_of_life() -> None:
    core = watching()
    core.hello()
    for _ in range(5):
        core.pass_time(SUSPICIOUS_S - 1.0)
        core.report()
    assert state_of(core) is WorkerState.ONLINE


def test_suspected_worker_that_is_heard_again_gets_work_again() -> None:
    core = watching()
    core.hello()
    core.pass_time(SUSPICIOUS_S + 1.0)
    waiting = only(core.submit())
    assert core.states([waiting]) == ["pending"]
    effects = core.beat()
    assert notices(effects) == ["worker_back"]
    assert [given.task for given in assignments(effects)] == [waiting]
    assert notices(core.pass_time(SUSPICIOUS_S + 0.1)) == ["worker_suspicious"]


def test_broken_channel_is_not_a_lost_worker() -> None:
    core = watching()
    core.hello()
    seq = only(core.submit())
    assert notices(core.close()) == ["worker_disconnected"]
    core.pass_time(OFFLINE_S - 1.0)
    assert core.states([seq]) == ["assigned"]
    assert assignments(core.hello(holds=[core.held(seq)])) == []
    assert core.progress(seq).attempt == 1


def test_lost_worker_that_returns_stops_what_went_elsewhere() -> None:
    core = watching()
    core.hello()
    seq = only(core.submit())
    held = core.held(seq, started=True)
    core.pass_time(OFFLINE_S + 1.0)
    assert state_of(core) is WorkerState.OFFLINE
    effects = core.hello(holds=[held])
    assert only(messages(effects, Welcome)).stop == [(seq, 1)]
    assert [key(given) for given in assignments(effects)] == [(seq, 2)]
    assert core.record.workers[WorkerId("w1")].lost_at is None
    core.report(ended=[Ended(seq, 1, None)])
    assert core.states([seq]) == ["assigned"]


def test_lost_worker_is_forgotten_after_a_while() -> None:
    core = watching(forget_after_s=100.0)
    core.hello()
    core.pass_time(99.0)
    assert WorkerId("w1") in core.record.workers
    core.pass_time(2.0)
    assert core.record.workers == {}
    assert core.state.cluster.workers == {}


def test_nobody_is_lost_in_the_grace_after_a_start() -> None:
    core = watching(grace_s=GRACE_S)
    core.hello()
    seq = only(core.submit())
    again = core.restarted()
    again.pass_time(GRACE_S - 0.1)
    assert again.states([seq]) == ["assigned"]
    assert notices(again.pass_time(0.2)) == ["worker_offline"]
    assert again.states([seq]) == ["pending"]


def test_worker_that_comes_back_after_a_restart_keeps_its_tasks() -> None:
    core = watching(grace_s=GRACE_S)
    core.hello()
    running, cancelled = core.submit(2)
    core.start(running)
    holds = [core.held(running, started=True), core.held(cancelled)]
    core.cancel(cancelled)
    again = core.restarted(after_s=5.0)
    effects = again.hello(holds=holds)
    assert only(messages(effects, Welcome)).epoch == 2
    assert only(messages(effects, Welcome)).stop == []
    again.end(running, exit_code=0)
    again.end(cancelled)
    assert again.states([running, cancelled]) == ["completed", "cancelled"]
    assert again.progress(running).epoch == 1


def test_restart_is_no_change_to_be_saved() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.submit(id="running")
    core.submit(id="waiting", delay=50)
    core.submit()
    again = core.restarted()
    assert saved(again.pass_time(1.0)).is_empty()
    assert saved(again.cancel(TaskSeq(3))).chosen_ids == {}


def test_our_own_standstill_is_credited_to_everybody() -> None:
    core = watching()
    core.hello()
    core.now += 5.0
    core.now += 30.0
    core.do(ObserverStalled(30.0))
    assert state_of(core) is WorkerState.ONLINE
    assert notices(core.pass_time(4.9)) == []
    assert notices(core.pass_time(0.2)) == ["worker_suspicious"]


def test_standstill_gives_nobody_more_than_the_present() -> None:
    core = watching()
    core.hello()
    core.do(ObserverStalled(1000.0))
    assert notices(core.pass_time(SUSPICIOUS_S + 0.1)) == ["worker_suspicious"]


# Blackouts


def fleet(count: int, *, grace_s: float = 0.0) -> tuple[Core, list[str]]:
    core = watching(grace_s=grace_s)
    names = [f"w{number}" for number in range(count)]
    for name in names:
        core.hello(name)
    return core, names


def test_when_half_fall_silent_at_once_nobody_is_lost_for_a_while() -> None:
    core, names = fleet(6)
    effects = live(core, SUSPICIOUS_S + 0.5, *names[3:])
    assert notices(effects).count("blackout") == 1
    notice = only(effect for effect in effects if isinstance(effect, Notice) and effect.event == "blackout")
    assert notice.detail == "3 of 6 workers fell silent: nobody is lost yet"
    assert "worker_offline" not in notices(live(core, BLACKOUT_S - 2.0, *names[3:]))
    assert notices(live(core, 3.0, *names[3:])) == ["worker_offline"] * 3
    assert core.state.counts.blackouts == 1


@pytest.mark.parametrize("silent,count", [(2, 2), (2, 4), (3, 7)])
def test_few_silent_workers_are_a_coincidence(silent: int, count: int) -> None:
    core, names = fleet(count)
    said = notices(live(core, OFFLINE_S + 1.0, *names[silent:]))
    assert said.count("worker_offline") == silent
    assert "blackout" not in said


def test_silences_far_apart_make_no_blackout() -> None:
    core, names = fleet(4)
    core.pass_time(0.0)
    said = []
    for quiet in range(1, 4):
        said += notices(live(core, BLACKOUT_WINDOW_S + 5.0, *names[quiet:]))
    assert said.count("worker_offline") == 3
    assert "blackout" not in said


def test_more_silences_make_the_blackout_longer() -> None:
    core, names = fleet(6)
    live(core, SUSPICIOUS_S + 0.5, *names[3:])
    live(core, BLACKOUT_WINDOW_S - 20.0, *names[3:])
    said = notices(live(core, BLACKOUT_S - 5.0))
    assert "worker_offline" not in said
    assert "blackout" not in said


def test_silence_that_begins_in_the_grace_is_a_blackout_too() -> None:
    core, names = fleet(3, grace_s=GRACE_S)
    live(core, GRACE_S - 5.0, *names)
    assert "blackout" not in notices(live(core, SUSPICIOUS_S - 2.0))
    core, names = fleet(3, grace_s=GRACE_S)
    live(core, GRACE_S - SUSPICIOUS_S - 1.0, *names)
    said = notices(live(core, OFFLINE_S + 2.0))
    assert "blackout" in said
    assert "worker_offline" not in said


def test_start_after_which_most_workers_stay_away_is_a_blackout() -> None:
    core, names = fleet(6, grace_s=GRACE_S)
    again = core.restarted()
    for name in names[3:]:
        again.hello(name)
    effects = live(again, GRACE_S + 1.0, *names[3:])
    notice = only(effect for effect in effects if isinstance(effect, Notice) and effect.event == "blackout")
    assert notice.detail == "3 of 6 workers did not come back after the start: nobody is lost yet"
    assert "worker_offline" not in notices(live(again, BLACKOUT_S - 3.0, *names[3:]))
    assert notices(live(again, 4.0, *names[3:])) == ["worker_offline"] * 3
    assert again.state.counts.blackouts == 1


def test_worker_that_nobody_looked_at_for_long_gets_nothing_while_all_are_spared() -> None:
    core, names = fleet(6, grace_s=GRACE_S)
    again = core.restarted()
    again.hello(names[0])
    again.now += 1000.0  # the machine slept, and this is the first look since
    assert again.states(again.submit()) == ["pending"]
    assert again.state.counts.blackouts == 1


def test_workers_that_come_back_late_after_a_start_keep_their_tasks() -> None:
    core, names = fleet(3, grace_s=GRACE_S)
    seq = only(core.submit())
    holder, held = core.worker_of(seq), core.held(seq, started=True)
    again = core.restarted()
    again.pass_time(GRACE_S + BLACKOUT_S / 2)
    for name in names:
        again.hello(name, holds=[held] if name == holder else [])
    again.end(seq)
    assert again.states([seq]) == ["completed"]
    assert again.progress(seq).attempt == 1


@pytest.mark.parametrize("missing,count", [(2, 2), (2, 4), (3, 7)])
def test_few_workers_that_stay_away_after_a_start_are_lost_after_the_grace(missing: int, count: int) -> None:
    core, names = fleet(count, grace_s=GRACE_S)
    again = core.restarted()
    for name in names[missing:]:
        again.hello(name)
    said = notices(live(again, GRACE_S + 1.0, *names[missing:]))
    assert said.count("worker_offline") == missing
    assert "blackout" not in said


def test_workers_lost_before_the_start_are_not_awaited() -> None:
    core, names = fleet(6)
    for count in range(1, 4):
        live(core, OFFLINE_S + BLACKOUT_WINDOW_S, *names[count:])
    assert core.state.counts.workers_lost == 3
    again = core.restarted()
    for name in names[5:]:
        again.hello(name)
    said = notices(live(again, OFFLINE_S + 1.0, *names[5:]))
    assert said == ["worker_offline"] * 2


# Forgetting


@pytest.mark.parametrize("how", ["suspicious", "cut off", "in the grace"])
def test_worker_that_is_forgotten_loses_what_it_had_at_once(how: str) -> None:
    core = watching(grace_s=GRACE_S if how == "in the grace" else 0.0)
    core.hello("w1")
    seq = only(core.submit())
    core.hello("w2")
    if how == "cut off":
        core.close("w1")
    else:
        live(core, SUSPICIOUS_S + 0.1, "w2")
    effects = core.forget("w1")
    assert core.answer(effects) == WorkerForgotten()
    assert notices(effects) == ["worker_offline", "worker_forgotten"]
    assert [key(given) for given in assignments(effects)] == [(seq, 2)]
    assert set(core.record.workers) == set(core.state.cluster.workers) == {WorkerId("w2")}
    assert only(core.record.attempts[seq]).message == "worker w1 was lost (forgotten)"
    assert core.state.counts.workers_lost == 1


def test_lost_worker_can_be_forgotten_and_may_come_back_as_a_new_one() -> None:
    core = watching()
    core.hello("w1")
    core.set_drained("w1", drained=True)
    core.pass_time(OFFLINE_S + 1.0)
    assert core.answer(core.forget("w1")) == WorkerForgotten()
    assert core.record.workers == {}
    core.hello("w1")
    assert not core.record.workers[WorkerId("w1")].drained


def test_worker_that_comes_back_in_the_turn_that_forgets_it_stays_on_record() -> None:
    core = watching()
    core.hello("w1")
    seq = only(core.submit())
    core.close("w1")
    hello = WorkerHello(
        SessionId(99), Hello(PROTOCOL_VERSION, WorkerId("w1"), "i1", make_offer(), CLUSTER, [], [], core.wall)
    )
    core.do(ForgetWorker(WorkerId("w1"), ReplyTo(98)), hello)
    assert core.record.workers.keys() == core.state.cluster.workers.keys() == {WorkerId("w1")}
    assert core.restarted().worker_of(seq) == "w1"


def test_connected_worker_is_not_forgotten() -> None:
    core = watching()
    core.hello("w1")
    seq = only(core.submit())
    effects = core.forget("w1")
    answer = core.answer(effects)
    assert answer == WorkerForgotten("worker 'w1' is connected: drain it, stop it, and then forget it")
    assert core.states([seq]) == ["assigned"]
    assert core.answer(core.forget("nobody")) == WorkerForgotten()


# Leaving, drains, slots


def test_worker_that_is_done_leaves_without_being_called_lost() -> None:
    core = watching()
    core.hello()
    core.leave()
    assert state_of(core) is WorkerState.DRAINING
    assert core.states(core.submit()) == ["pending"]
    effects = core.leave(done=True)
    assert disconnected(effects) == [core.sessions["w1"]]
    assert state_of(core) is WorkerState.OFFLINE
    assert core.state.counts.workers_lost == 0
    assert notices(core.leave(done=True)) == []


def test_worker_that_is_done_costs_nobody_a_loss() -> None:
    """The assignment was on its way when the worker said that it has nothing and goes."""
    core = watching()
    core.hello()
    [seq] = core.submit(losses=0)
    core.leave(done=True)
    assert core.states([seq]) == ["pending"]
    assert core.progress(seq).losses_used == 0


def test_worker_that_left_and_comes_back_is_online() -> None:
    core = watching()
    core.hello()
    core.leave(done=True)
    core.hello(instance="i2")
    assert state_of(core) is WorkerState.ONLINE
    assert core.states(core.submit()) == ["assigned"]


def test_drain_is_said_by_the_state_and_saved() -> None:
    core = watching()
    core.hello()
    effects = core.set_drained("w1", drained=True)
    assert core.answer(effects) == WorkerKnown(known=True)
    assert only(saved(effects).workers).drained
    assert state_of(core) is WorkerState.DRAINING
    assert saved(core.set_drained("w1", drained=True)).is_empty()
    core.set_drained("w1", drained=False)
    assert state_of(core) is WorkerState.ONLINE


def test_quarantined_slots_are_lanes_less() -> None:
    core = watching()
    core.hello(max_tasks=3)
    effects = core.do(SlotsLostArrived(core.sessions["w1"], 2, "a tree would not die"))
    assert notices(effects) == ["slots_quarantined"]
    assert core.states(core.submit(2)) == ["assigned", "pending"]
    core.close()
    core.hello(instance="i2", max_tasks=3)
    assert core.state.cluster.workers[WorkerId("w1")].quarantined == 0


# Configuration


@pytest.mark.parametrize(
    "fields,says",
    [
        ({"heartbeat_s": 0.0}, "heartbeat_s must be positive, got 0.0"),
        ({"grace_s": -1.0}, "grace_s can't be negative, got -1.0"),
        ({"suspicious_after_s": 5.0}, "at least twice heartbeat_s, got 5.0 for heartbeat_s=3.0"),
        ({"offline_after_s": 10.0}, "more than suspicious_after_s, got 10.0 for suspicious_after_s=10.0"),
    ],
)
def test_nonsense_is_refused_with_its_values(fields: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SchedulerConfig(**fields)  # type: ignore[arg-type] # the seed is the one that is no float
