"""Sessions of the SDK: each number becomes a task once, however often it is sent."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rota.core.clients import CLIENT_KEEP_S
from rota.core.commands import ClientArrived, Draft, DraftGroup, ReplyTo, SubmitNumbered
from rota.core.effects import Effect, NumbersKnown, Reply, Settled
from rota.core.model import GangTerms, NumberRange, TaskSeq
from rota.core.spec import TaskSpec, decode_spec, encode_spec, terms_of
from tests.support.core import Core, only, saved

SESSION = "a-session-of-the-sdk"
FUNCTION = "ab" * 32
BLOB = "cd" * 32


def template(**fields: object) -> Draft:
    spec = TaskSpec(function=FUNCTION, python="3.11", **fields)  # type: ignore[arg-type] # the names are checked at run time
    return Draft(None, terms_of(spec), encode_spec(spec), blobs=tuple(spec.blobs))


def group(args: Sequence[bytes], draft: Draft | None = None) -> DraftGroup:
    return DraftGroup(draft or template(), list(args), max(len(args), 1))


def send(core: Core, number: int, *groups: DraftGroup, known_through: int = 0) -> list[Effect]:
    return core.do(SubmitNumbered(SESSION, number, known_through, list(groups), ReplyTo(1)))


def known(effects: Sequence[Effect]) -> NumbersKnown:
    answer = only(effect.answer for effect in effects if isinstance(effect, Reply))
    assert isinstance(answer, NumbersKnown)
    return answer


def arrive(core: Core, *, known_through: int = 0, session: str = SESSION) -> NumbersKnown:
    return known(core.do(ClientArrived(session, known_through, ReplyTo(2))))


def test_numbers_become_tasks_in_order() -> None:
    core = Core()
    answer = known(send(core, 1, group([b"a", b"b"]), group([b"c"])))
    assert (answer.accepted_through, answer.ranges) == (
        3,
        [NumberRange(1, TaskSeq(1), 2), NumberRange(3, TaskSeq(3), 1)],
    )
    args = [decode_spec(core.record.facts[TaskSeq(seq)].spec).args for seq in (1, 2, 3)]
    assert args == [b"a", b"b", b"c"]


def test_spec_made_of_a_template_is_that_of_its_fields() -> None:
    core = Core()
    send(core, 1, group([b"x" * 300]))
    spec = TaskSpec(function=FUNCTION, python="3.11", args=b"x" * 300)
    assert core.record.facts[TaskSeq(1)].spec == encode_spec(spec)


def test_template_without_arguments_is_one_task() -> None:
    core = Core()
    assert known(send(core, 1, group([]))).ranges == [NumberRange(1, TaskSeq(1), 1)]


def test_what_is_sent_again_is_told_and_not_accepted_twice() -> None:
    core = Core()
    send(core, 1, group([b"a", b"b"]))
    answer = known(send(core, 1, group([b"a", b"b", b"c"])))
    assert answer.ranges == [NumberRange(1, TaskSeq(1), 3)]
    assert len(core.record.facts) == 3
    assert decode_spec(core.record.facts[TaskSeq(3)].spec).args == b"c"


def test_session_is_committed_with_its_tasks_and_known_after_a_restart() -> None:
    core = Core()
    changes = saved(send(core, 1, group([b"a", b"b"])))
    assert [client.accepted_through for client in changes.clients] == [2]
    assert len(changes.accepted) == 2
    again = core.restarted()
    assert arrive(again) == NumbersKnown(2, [NumberRange(1, TaskSeq(1), 2)])
    assert known(send(again, 2, group([b"b", b"c"]))).accepted_through == 3
    assert len(core.record.facts) == 3


def test_ids_that_the_client_knows_are_not_kept() -> None:
    core = Core()
    send(core, 1, group([b"a", b"b"]))
    send(core, 3, group([b"c"]), known_through=2)
    assert core.record.clients[SESSION].ranges == (NumberRange(3, TaskSeq(3), 1),)
    assert arrive(core, known_through=3) == NumbersKnown(3, [])


def test_refused_numbers_are_decided_without_a_task() -> None:
    core = Core()
    answer = known(send(core, 1, group([b"a"]), DraftGroup(None, [b"b", b"c"], 2), group([b"d"])))
    assert answer.accepted_through == 4
    assert answer.ranges == [NumberRange(1, TaskSeq(1), 1), NumberRange(4, TaskSeq(2), 1)]
    assert known(send(core, 2, DraftGroup(None, [b"b", b"c"], 2))).accepted_through == 4


def test_another_session_has_numbers_of_its_own() -> None:
    core = Core()
    send(core, 1, group([b"a"]))
    assert arrive(core, session="another-session") == NumbersKnown(0, [])


def test_session_that_nobody_used_for_long_is_forgotten() -> None:
    core = Core()
    send(core, 1, group([b"a"]))
    core.pass_time(CLIENT_KEEP_S + 1.0)
    assert arrive(core, session="another-session") == NumbersKnown(0, [])
    assert core.record.clients == {}


def test_blobs_are_named_in_the_turn_and_in_use_until_the_task_has_ended() -> None:
    core = Core()
    core.hello(kinds=frozenset({"function"}), python="3.11")
    changes = saved(send(core, 1, group([b"a"], template(blobs=[BLOB]))))
    assert set(changes.blobs) == {FUNCTION, BLOB}
    assert core.state.blobs_in_use() >= {FUNCTION, BLOB}
    assert core.restarted().state.blobs_in_use() >= {FUNCTION, BLOB}
    ended = saved(core.end(TaskSeq(1), value=b"v", blobs=("ef" * 32,)))
    assert set(ended.blobs) == {"ef" * 32}
    assert BLOB not in core.state.blobs_in_use()
    assert (core.progress(TaskSeq(1)).value, core.progress(TaskSeq(1)).blobs) == (b"v", ("ef" * 32,))


def test_function_runs_only_under_the_python_that_pickled_it() -> None:
    core = Core()
    core.hello("w1", kinds=frozenset({"function"}), python="3.12")
    core.hello("w2", kinds=frozenset({"process"}), python="3.11")
    send(core, 1, group([b"a"]))
    assert core.states([TaskSeq(1)]) == ["pending"]
    core.hello("w3", kinds=frozenset({"function"}), python="3.11")
    assert core.worker_of(TaskSeq(1)) == "w3"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.booleans()), max_size=12))
def test_every_number_becomes_one_task_whatever_is_repeated(steps: list[tuple[int, int, bool]]) -> None:
    core, sent, ids = Core(), 0, dict[int, TaskSeq]()
    for back, count, is_restarted in steps:
        if is_restarted:
            core = core.restarted()
            arrive(core)
        first = max(1, sent + 1 - back)
        answer = known(send(core, first, group([b"%d" % number for number in range(first, first + count)])))
        sent = max(sent, first + count - 1)
        assert answer.accepted_through == sent
        for told in answer.ranges:
            for index in range(told.count):
                seq = TaskSeq(told.seq + index)
                assert ids.setdefault(told.number + index, seq) == seq
    assert sorted(ids) == list(range(1, sent + 1))
    assert sorted(core.record.facts) == sorted(ids.values())
    for number, seq in ids.items():
        assert decode_spec(core.record.facts[seq].spec).args == b"%d" % number


def test_member_that_no_gang_took_in_is_not_brought_back() -> None:
    core = Core()
    member = template(gang=GangTerms("g", 1))
    send(core, 1, group([b"a"], member))
    send(core, 2, group([b"b"], member))
    refused = TaskSeq(2)
    assert core.states([refused]) == ["failed"]
    assert core.answer(core.retry(refused)) == Settled([])
    assert core.states([refused]) == ["failed"]
