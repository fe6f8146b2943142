"""A session of the SDK over a connection that breaks at any moment: each task has its own end, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from rota.client import session as session_module
from rota.client.session import Rejection, SdkSession, Ticket
from rota.core.client_protocol import Outcome
from rota.core.model import TaskState
from tests.support.session_model import BAD_TEMPLATE, ModelCoordinator, Witness, template

TEMPLATES = (template("double"), template("halve"), BAD_TEMPLATE)

OFTEN = ("submit", "submit", "up", "up", "up", "down", "down", "down", "connect", "connect", "run", "cancel")
SELDOM = ("cut", "restart")

STEPS = st.lists(
    st.tuples(st.sampled_from(OFTEN + SELDOM), st.integers(1, 12), st.integers(0, 2)), min_size=25, max_size=70
)


@contextmanager
def small_messages() -> Iterator[None]:
    """Bring every limit of the session into reach."""
    with mock.patch.multiple(session_module, BATCH_TASKS_MAX=5, BATCHES_AHEAD_MAX=2, NAMED_MAX=3):
        yield


class Program:
    """What submits and cancels."""

    def __init__(self, session: SdkSession) -> None:
        self.session = session
        self.tickets: list[Ticket] = []
        self._names = count()

    def submit(self, number: int, encoded: bytes) -> None:
        made = []
        for _ in range(number):
            ticket = Ticket()
            ticket.template, ticket.args = encoded, b"args %d" % next(self._names)
            made.append(ticket)
        self.tickets += made
        self.session.put(made)

    def cancel(self, index: int, *, forget: bool) -> None:
        if index < len(self.tickets) and self.tickets[index].verdict is None:
            self.session.cancel([self.tickets[index]], forget=forget)


def lived_through(steps: Sequence[tuple[str, int, int]]) -> tuple[ModelCoordinator, Program, Witness]:
    witness = Witness()
    session = SdkSession("a-session-of-the-sdk", witness)
    program, coordinator = Program(session), ModelCoordinator(session)
    coordinator.connect()
    for what, one, two in steps:
        match what:
            case "submit":
                program.submit(one, TEMPLATES[two])
            case "up":
                coordinator.deliver_up(one)
            case "down":
                coordinator.deliver_down(one)
            case "run":
                coordinator.run(one)
            case "cancel":
                program.cancel(one * (two + 1), forget=bool(two))
            case "cut":
                coordinator.cut()
            case "restart":
                coordinator.restart()
            case _:
                coordinator.connect()
        coordinator.pump()
        assert (session.waiting_tasks > 0) == session.has_undecided
    coordinator.exchange()
    for ticket in program.tickets:
        assert not ticket.is_unwanted or ticket.seq is None or coordinator.is_to_end(ticket.seq)
    coordinator.settle()
    return coordinator, program, witness


@given(STEPS)
def test_each_task_ends_once_with_its_own_result_whatever_is_cut(steps: list[tuple[str, int, int]]) -> None:
    with small_messages():
        coordinator, program, witness = lived_through(steps)
    times_run = coordinator.times_run()
    for number, ticket in enumerate(program.tickets):
        args = b"args %d" % number
        if ticket.is_forgotten:
            assert witness.verdicts[ticket] <= 1
            assert times_run[args] <= 1
            continue
        assert witness.verdicts[ticket] == 1, ticket.verdict
        if ticket.template == BAD_TEMPLATE:
            assert isinstance(ticket.verdict, Rejection)
            continue
        assert times_run[args] == 1
        assert isinstance(ticket.verdict, Outcome)
        if ticket.verdict.state is TaskState.COMPLETED:
            assert ticket.verdict.value == args
        else:
            assert (ticket.verdict.state, ticket.is_unwanted) == (TaskState.CANCELLED, True)
    assert not program.session.has_open
    assert (program.session.waiting_tasks, program.session.waiting_bytes) == (0, 0)


@given(STEPS)
def test_tasks_are_accepted_in_the_order_of_submission(steps: list[tuple[str, int, int]]) -> None:
    with small_messages():
        _, program, _ = lived_through(steps)
    seqs = [ticket.seq for ticket in program.tickets if ticket.seq is not None]
    assert seqs == sorted(seqs)
