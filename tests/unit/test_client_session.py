"""A session of the SDK, message by message."""

from __future__ import annotations

from rota.client.session import (
    WAITING_BYTES_MAX,
    WAITING_TASKS_MAX,
    Rejection,
    SdkSession,
    Ticket,
)
from rota.core.client_protocol import (
    CancelThese,
    ClientWelcome,
    Follow,
    FromClient,
    NumbersAccepted,
    NumbersRefused,
    Outcome,
    Outcomes,
    Submission,
    Submit,
)
from rota.core.model import NumberRange, TaskSeq, TaskState
from rota.core.protocol import PROTOCOL_VERSION
from tests.support.session_model import Witness

T1, T2 = b"template 1", b"template 2"


def ticket(template: bytes = T1, args: bytes | None = b"args") -> Ticket:
    made = Ticket()
    made.template, made.args = template, args
    return made


def made(*tickets: Ticket, welcome: bool = True) -> tuple[SdkSession, Witness]:
    witness = Witness()
    session = SdkSession("a-session-of-the-sdk", witness)
    if welcome:
        session.received(hello_answer())
    session.put(tickets)
    return session, witness


def hello_answer(through: int = 0, *ranges: NumberRange, cluster: str = "c1") -> ClientWelcome:
    return ClientWelcome(PROTOCOL_VERSION, cluster, through, list(ranges), [])


def said(session: SdkSession) -> list[FromClient]:
    return list(session.outgoing())


def seqs(*numbers: int) -> list[TaskSeq]:
    return [TaskSeq(number) for number in numbers]


def ended(seq: int, value: bytes = b"") -> Outcomes:
    return Outcomes(ended=[Outcome(TaskSeq(seq), TaskState.COMPLETED, None, value)])


def accepted(number: int, seq: int, count: int = 1) -> NumbersAccepted:
    return NumbersAccepted([NumberRange(number, TaskSeq(seq), count)])


def test_neighbours_of_one_template_share_a_submission() -> None:
    session, _ = made(ticket(T1, b"a"), ticket(T1, b"b"), ticket(T2, b"c"), ticket(T1, b"d"))
    assert said(session) == [
        Submit(1, 0, [Submission(T1, [b"a", b"b"]), Submission(T2, [b"c"]), Submission(T1, [b"d"])])
    ]


def test_each_task_without_arguments_is_a_submission_of_its_own() -> None:
    session, _ = made(ticket(T1, None), ticket(T1, None), ticket(T1, b""))
    assert said(session) == [Submit(1, 0, [Submission(T1, []), Submission(T1, []), Submission(T1, [b""])])]


def test_nothing_is_sent_before_the_welcome() -> None:
    session, _ = made(ticket(), welcome=False)
    assert said(session) == []
    session.received(hello_answer())
    assert len(said(session)) == 1


def test_messages_are_of_bounded_size_and_a_bounded_number_is_ahead() -> None:
    session, _ = made(*[ticket(args=bytes(60_000)) for _ in range(200)])
    messages = said(session)
    assert len(messages) == 8
    for message in messages:
        assert isinstance(message, Submit)
        assert sum(len(args) for one in message.submissions for args in one.args) <= (256 << 10) + 60_000
    session.received(accepted(1, 1, 5))
    assert len(said(session)) == 1


def test_unanswered_message_is_sent_again_as_it_was() -> None:
    session, _ = made(ticket(args=b"a"))
    first = said(session)
    session.disconnected()
    session.put([ticket(args=b"b")])
    assert said(session) == []
    assert (session.hello().known_through, session.hello().awaits) == (0, [])
    session.received(hello_answer())
    assert said(session) == [*first, Submit(2, 0, [Submission(T1, [b"b"])])]


def test_what_was_accepted_behind_a_broken_channel_is_not_sent_again() -> None:
    one, two = ticket(), ticket()
    session, witness = made(one, two)
    said(session)
    session.disconnected()
    session.received(hello_answer(2, NumberRange(1, TaskSeq(7), 2)))
    assert said(session) == []
    assert (one.seq, two.seq) == (7, 8)
    session.received(ended(8, b"8"))
    assert witness.verdicts == {two: 1}


def test_what_was_refused_behind_a_broken_channel_is_refused() -> None:
    good, bad, after = ticket(T1), ticket(T2), ticket(T1)
    session, witness = made(good, bad, after)
    said(session)
    session.received(NumbersAccepted([NumberRange(1, TaskSeq(7), 1), NumberRange(3, TaskSeq(8), 1)]))
    assert session.hello().known_through == 1
    session.disconnected()
    # The range of the third is told once more: the client could not say that it knows it.
    session.received(hello_answer(3, NumberRange(3, TaskSeq(8), 1)))
    assert witness.verdicts == {bad: 1}
    assert isinstance(bad.verdict, Rejection)
    assert session.hello().known_through == 3
    assert session.waiting_tasks == 0


def test_refused_numbers_have_the_reason() -> None:
    bad = ticket()
    session, witness = made(bad)
    said(session)
    session.received(NumbersRefused(1, 1, "bad_spec", "no such thing"))
    assert bad.verdict == Rejection("bad_spec", "no such thing")
    assert witness.verdicts == {bad: 1}
    assert not session.has_open


def test_task_cancelled_before_it_was_sent_is_never_sent() -> None:
    one, two = ticket(args=b"a"), ticket(args=b"b")
    session, _ = made(one, two, welcome=False)
    session.cancel([one], forget=True)
    session.received(hello_answer())
    assert said(session) == [Submit(1, 0, [Submission(T1, [b"b"])])]


def test_task_cancelled_while_it_is_on_its_way_is_cancelled_once_it_has_an_id() -> None:
    one = ticket()
    session, _ = made(one)
    said(session)
    session.cancel([one], forget=True)
    assert said(session) == []
    session.received(accepted(1, 7))
    assert said(session) == [CancelThese(seqs(7))]


def test_wish_to_cancel_is_said_again_on_the_next_channel_until_the_task_has_ended() -> None:
    one = ticket()
    session, witness = made(one)
    said(session)
    session.received(accepted(1, 7))
    session.cancel([one], forget=False)
    assert said(session) == [CancelThese(seqs(7))]
    for _ in range(2):
        session.disconnected()
        assert session.hello().awaits == [7]
        session.received(hello_answer(1))
        assert said(session) == [CancelThese(seqs(7))]
    session.received(Outcomes(ended=[Outcome(TaskSeq(7), TaskState.CANCELLED, None, b"")]))
    assert witness.verdicts == {one: 1}
    session.disconnected()
    session.received(hello_answer(1))
    assert said(session) == []


def test_wish_to_cancel_ends_with_its_task_although_nobody_waits_for_that() -> None:
    one = ticket()
    session, witness = made(one)
    said(session)
    session.received(accepted(1, 7))
    session.cancel([one], forget=True)
    assert said(session) == [CancelThese(seqs(7))]
    session.disconnected()
    assert session.hello().awaits == [7]
    session.received(hello_answer(1))
    assert said(session) == [CancelThese(seqs(7))]
    session.received(Outcomes(ended=[Outcome(TaskSeq(7), TaskState.CANCELLED, None, b"")]))
    session.disconnected()
    assert session.hello().awaits == []
    session.received(hello_answer(1))
    assert said(session) == [], "somebody may have had it run again since"
    assert not witness.verdicts


def test_several_can_follow_a_task() -> None:
    own, first, second = ticket(), ticket(), ticket()
    session, witness = made(own)
    said(session)
    session.received(accepted(1, 7))
    first.seq = second.seq = TaskSeq(7)
    session.follow([first, second])
    assert said(session) == [Follow(seqs(7))]
    session.received(Outcomes(running=seqs(7)))
    assert witness.running == {own, first, second}
    session.received(ended(7))
    assert witness.verdicts == {own: 1, first: 1, second: 1}


def test_who_waits_no_longer_is_told_nothing_and_leaves_nothing() -> None:
    first, second = ticket(), ticket()
    session, witness = made()
    first.seq = second.seq = TaskSeq(7)
    session.follow([first])
    assert said(session) == [Follow(seqs(7))]
    session.unfollow(first)
    session.unfollow(first)
    session.follow([second])
    assert said(session) == [], "the coordinator has been asked"
    session.received(ended(7))
    assert witness.verdicts == {second: 1}


def test_follower_that_cancels_does_not_take_along_who_submitted() -> None:
    own, follower = ticket(), ticket()
    session, witness = made(own)
    said(session)
    session.received(accepted(1, 7))
    follower.seq = TaskSeq(7)
    session.follow([follower])
    said(session)
    session.cancel([follower], forget=True)
    assert said(session) == [CancelThese(seqs(7))]
    assert session.has_open, "whoever submitted it waits for its end"
    session.received(ended(7))
    assert own in witness.verdicts


def test_task_that_is_no_longer_on_record_is_told_as_such() -> None:
    one = ticket()
    one.seq = TaskSeq(5)
    session, witness = made()
    session.follow([one])
    session.received(Outcomes(unknown=seqs(5)))
    assert isinstance(one.verdict, Rejection)
    assert one.verdict.code == "forgotten"
    assert witness.verdicts == {one: 1}


def test_another_record_knows_none_of_the_tasks_and_is_sent_what_was_not_accepted() -> None:
    old, new = ticket(args=b"old"), ticket(args=b"new")
    session, _ = made(old)
    said(session)
    session.received(accepted(1, 7))
    session.disconnected()
    session.put([new])
    session.received(hello_answer(cluster="c2"))
    assert isinstance(old.verdict, Rejection)
    assert said(session) == [Submit(2, 1, [Submission(T1, [b"new"])])]


class Watched(Ticket):
    """A ticket that notes what another thread would see while it goes from one place to the next."""

    def __init__(self, session: SdkSession) -> None:
        self._session = session
        self.seen: list[bool] = []

    @property
    def args(self) -> bytes:  # type: ignore[override] # looked at whenever a ticket is taken over or numbered
        self.seen.append(self._session.has_undecided)
        return b"args"


def test_program_that_ends_never_sees_what_is_on_its_way_as_accepted() -> None:
    session, _ = made()
    one = Watched(session)
    session.put([one])
    assert len(said(session)) == 1
    assert len(one.seen) >= 2
    assert all(one.seen)
    assert session.has_undecided


def test_session_is_full_over_its_limits_and_has_room_again_at_half_of_them() -> None:
    session, _ = made(*[ticket() for _ in range(WAITING_TASKS_MAX + 1)], welcome=False)
    session.take_in()
    session.received(hello_answer())
    while session.waiting_tasks > WAITING_TASKS_MAX // 2:
        assert session.is_full
        for message in said(session):
            assert isinstance(message, Submit)
            sent = sum(len(one.args) for one in message.submissions)
            session.received(accepted(message.number, message.number, sent))
    assert [session.is_full] == [False]


def test_session_is_full_of_bytes() -> None:
    session, _ = made(*[ticket(args=bytes(64 << 10)) for _ in range((WAITING_BYTES_MAX >> 16) + 1)], welcome=False)
    session.take_in()
    assert session.is_full


def test_session_has_room_again_when_all_that_filled_it_is_cancelled() -> None:
    tickets = [ticket(args=bytes(64 << 10)) for _ in range((WAITING_BYTES_MAX >> 16) + 1)]
    session, _ = made(*tickets, welcome=False)
    session.take_in()
    session.cancel(tickets, forget=True)
    session.received(hello_answer())
    assert said(session) == []
    assert (session.waiting_tasks, session.waiting_bytes, session.is_full) == (0, 0, False)


def test_giving_up_gives_all_the_same_verdict() -> None:
    one, two, three, four = ticket(), ticket(), ticket(), ticket()
    four.seq = TaskSeq(4)
    session, witness = made(one)
    said(session)
    session.received(accepted(1, 7))
    session.put([two])
    said(session)
    session.put([three])
    session.follow([four])
    session.give_up(Rejection("unauthorized", "no"))
    assert witness.verdicts == dict.fromkeys((one, two, three, four), 1)
    assert not session.has_open


def test_batch_of_which_some_were_accepted_by_a_record_that_is_lost_goes_to_the_new_one_in_its_words() -> None:
    session, _ = made(*(ticket() for _ in range(4)))
    said(session)
    session.received(NumbersAccepted([NumberRange(1, TaskSeq(1), 2)]))
    session.disconnected()
    session.received(hello_answer(cluster="c2"))
    (again,) = said(session)
    assert isinstance(again, Submit)
    assert (again.number, again.known_through) == (1, 0), "else the coordinator takes it for nonsense, again and again"
    session.received(NumbersAccepted([NumberRange(1, TaskSeq(1), 4)]))
    assert not session.has_undecided


def test_ticket_that_nobody_waits_for_stays_so_whatever_is_wished_later() -> None:
    one = ticket()
    session, _ = made(one)
    session.cancel([one], forget=True)
    assert said(session) == []
    session.cancel([one], forget=False)
    assert one.is_forgotten
    assert not session.has_open
