"""The parts of clients' sessions by themselves: who follows what, what is cut, what is known of templates and marks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rota.coordinator import marks as marks_module
from rota.coordinator import templates as templates_module
from rota.coordinator.marks import MarkBoard, MarkEvent
from rota.coordinator.outcomes import MESSAGE_CHARS_MAX, PIECE_BYTES_MAX, Followers, outcome_of, outcome_pieces
from rota.coordinator.templates import Templates
from rota.core.changes import Changes
from rota.core.client_protocol import Outcome, Outcomes, Submission
from rota.core.commands import SessionId
from rota.core.errors import BadRequest, BadSpec
from rota.core.model import Cause, InputFile, Progress, TaskSeq, TaskState, WorkerId
from rota.core.protocol import Mark
from rota.core.requests import parse_requests
from rota.core.spec import TaskRequest, encode_spec
from rota.wire.messages import COORDINATOR_CODEC
from tests.support.core import Core, only
from tests.support.raw_client import TRUE, template_of

DONE = Progress(state=TaskState.COMPLETED, attempt=1, ended_at=1.0, value=b"value", worker=WorkerId("w1"))
RUNNING = Progress(state=TaskState.RUNNING, attempt=1)
ASSIGNED = Progress(state=TaskState.ASSIGNED, attempt=1)


def changes(progress: Progress, *seqs: int) -> Changes:
    return Changes(progress=[(TaskSeq(seq), progress) for seq in seqs])


class Listener:
    """A follower that remembers."""

    def __init__(self) -> None:
        self.is_gone = False
        self.ended: list[TaskSeq] = []
        self.running: list[TaskSeq] = []
        self.calls = 0

    def tell(self, ended: list[Outcome], running: list[TaskSeq]) -> None:
        self.calls += 1
        self.ended += [outcome.task for outcome in ended]
        self.running += running


# Followers ------------------------------------------------------------------------------------


def test_a_follower_is_told_once_a_turn_of_all_its_tasks() -> None:
    followers, one, other = Followers(), Listener(), Listener()
    followers.add_new(one, TaskSeq(1), 3)
    followers.add_new(other, TaskSeq(4), 1)
    followers.publish(Changes(progress=[*changes(DONE, 1, 4, 2, 9).progress, *changes(RUNNING, 3).progress]))
    assert (one.ended, one.running, one.calls) == ([1, 2], [3], 1)
    assert (other.ended, other.running, other.calls) == ([4], [], 1)
    followers.publish(changes(DONE, 1, 2, 4))
    assert (one.calls, other.calls) == (1, 1), "an end is told once"
    followers.publish(changes(ASSIGNED, 3))
    assert (one.calls, len(followers)) == (1, 1)


def test_all_who_follow_one_task_are_told() -> None:
    followers, one, two, three = Followers(), Listener(), Listener(), Listener()
    for follower in (one, two, three, two, one):
        followers.add(follower, TaskSeq(1))
    followers.publish(changes(RUNNING, 1))
    followers.publish(changes(DONE, 1))
    assert [(each.running, each.ended) for each in (one, two, three)] == [([1], [1])] * 3
    assert not len(followers)
    assert not followers._others


def test_who_has_gone_makes_place_for_who_comes() -> None:
    followers, gone, comes = Followers(), Listener(), Listener()
    followers.add(gone, TaskSeq(1))
    gone.is_gone = True
    followers.add(comes, TaskSeq(1))
    followers.publish(changes(DONE, 1))
    assert (gone.ended, comes.ended) == ([], [1])


def test_one_that_follows_no_longer_leaves_the_others() -> None:
    followers, one, two = Followers(), Listener(), Listener()
    for follower in (one, two):
        followers.add(follower, TaskSeq(1))
    assert followers.remove(one, TaskSeq(1))
    assert not followers.remove(one, TaskSeq(1))
    assert not followers.remove(one, TaskSeq(2))
    followers.publish(changes(DONE, 1))
    assert (one.ended, two.ended) == ([], [1])


def test_outcomes_are_cut_into_messages_that_a_channel_takes() -> None:
    large = [Outcome(TaskSeq(seq), TaskState.COMPLETED, None, b"x" * 60_000) for seq in range(50)]
    wordy = [Outcome(TaskSeq(seq), TaskState.FAILED, Cause.ERROR, b"", "é" * 4000) for seq in range(50, 400)]
    small = [Outcome(TaskSeq(seq), TaskState.COMPLETED, None, b"") for seq in range(400, 5000)]
    whole = [Outcome(TaskSeq(5000), TaskState.COMPLETED, None, b"x" * (PIECE_BYTES_MAX + 1))]
    pieces = list(outcome_pieces([*large, *wordy, *small, *whole], [TaskSeq(1)], [TaskSeq(2)]))
    assert [outcome.task for piece in pieces for outcome in piece.ended] == list(range(5001))
    assert [piece.running for piece in pieces if piece.running] == [[1]]
    assert [piece.unknown for piece in pieces if piece.unknown] == [[2]]
    sizes = [len(COORDINATOR_CODEC.encode(piece)) for piece in pieces]
    assert max(sizes[:-1]) <= PIECE_BYTES_MAX
    assert list(outcome_pieces([], [TaskSeq(1)])) == [Outcomes([], [TaskSeq(1)], [])]


def test_a_sentence_without_end_is_cut() -> None:
    failed = Progress(state=TaskState.FAILED, ended_at=1.0, message="x" * 1_000_000)
    assert outcome_of(TaskSeq(1), failed).message == "x" * MESSAGE_CHARS_MAX


# Templates ------------------------------------------------------------------------------------


class Shelf:
    """Blobs that are here, and how often somebody looked."""

    def __init__(self, *digests: str) -> None:
        self.digests = set(digests)
        self.looks = 0

    def missing(self, digests: Sequence[str]) -> list[str]:
        self.looks += 1
        return [digest for digest in digests if digest not in self.digests]


def test_files_that_are_too_large_together_are_refused_with_what_to_do() -> None:
    sizes = {HERE: 200 << 20, LACKING: 60 << 20}
    templates = Templates(Shelf(HERE, LACKING).missing, size=sizes.get, check_limits=no_limits)
    fits = TaskRequest(command=["true"], files={"a": HERE})
    templates.check([fits])
    too_large: list[dict[str, str | InputFile]] = [{"a": HERE, "b": LACKING}, {"a": HERE, "b": InputFile(HERE)}]
    for files in too_large:
        with pytest.raises(BadSpec, match=r"task 1: files: are .* bytes together: at most 268,435,456") as caught:
            templates.check([fits, TaskRequest(command=["true"], files=files)], is_array=True)
        assert "an object store such as S3" in caught.value.problem
        template = encode_spec(TaskRequest(command=["true"], files=files))
        _, [refused] = templates.groups([Submission(template, [])], number=1, wall=0.0)
        assert refused.problem.code == "bad_spec"


def test_a_file_that_is_not_here_is_refused() -> None:
    templates = Templates(Shelf(HERE).missing, size=len, check_limits=no_limits)
    with pytest.raises(BadRequest, match=f"there is no blob {LACKING}"):
        templates.check([TaskRequest(command=["true"], files={"a": HERE, "b": LACKING})])


def no_limits(request: TaskRequest) -> None:
    raise AssertionError(f"asked for the limits of {request}")


HERE, LACKING = "ab" * 32, "cd" * 32


def test_a_template_is_checked_once_and_its_blobs_every_time() -> None:
    shelf = Shelf(HERE)
    templates = Templates(shelf.missing, size=len, check_limits=no_limits)
    function = template_of(function=HERE)
    (first, second), refusals = templates.groups(
        [Submission(function, [b"x", b"y"]), Submission(function, [])], number=1, wall=0.0
    )
    assert not refusals
    assert first.draft is second.draft
    assert (first.args, first.count, second.args, second.count) == ([b"x", b"y"], 2, [], 1)
    assert (len(templates), shelf.looks) == (1, 1)
    shelf.digests.clear()
    (group,), (refusal,) = templates.groups([Submission(function, [b"x", b"y"])], number=7, wall=0.0)
    assert (group.draft, group.count) == (None, 2)
    assert (refusal.number, refusal.count, refusal.problem.code) == (7, 2, "blob_missing")


def test_a_template_is_known_and_its_limits_are_checked_every_time() -> None:
    sizes: dict[str, int] = {}

    def check_limits(request: TaskRequest) -> None:
        if not request.limits.keys() <= sizes.keys():
            raise BadSpec("limits", "there is no such limit")

    templates = Templates(Shelf().missing, size=len, check_limits=check_limits)
    template = template_of(command=["true"], limits={"licence-x": 1})
    (group,), (refusal,) = templates.groups([Submission(template, [])], number=4, wall=0.0)
    assert (group.draft, group.count) == (None, 1)
    assert (refusal.number, refusal.problem.code) == (4, "bad_spec")
    sizes["licence-x"] = 1
    (group,), refusals = templates.groups([Submission(template, [])], number=5, wall=0.0)
    assert group.draft is not None
    assert not refusals
    assert len(templates) == 1


def test_what_needs_no_blob_asks_for_none() -> None:
    shelf = Shelf()
    Templates(shelf.missing, size=len, check_limits=no_limits).groups([Submission(TRUE, [])], number=1, wall=0.0)
    assert shelf.looks == 0


def test_durations_count_from_each_submission() -> None:
    templates = Templates(Shelf().missing, size=len, check_limits=no_limits)
    template = template_of(command=["true"], delay=5.0, deadline=60.0)
    for wall in (1000.0, 2000.0):
        (group,), _ = templates.groups([Submission(template, [])], number=1, wall=wall)
        assert group.draft is not None
        assert (group.draft.start_at, group.draft.start_in_s) == (wall + 5.0, 5.0)
        assert (group.draft.deadline_at, group.draft.deadline_in_s) == (wall + 60.0, 60.0)
    assert len(templates) == 1


def test_only_so_many_templates_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates_module, "KNOWN_MAX", 3)
    templates = Templates(Shelf().missing, size=len, check_limits=no_limits)
    for name in "abcad":
        templates.groups([Submission(template_of(shell=name), [])], number=1, wall=0.0)
    assert len(templates) == 3
    assert template_of(shell="a") in templates._known
    assert template_of(shell="b") not in templates._known
    monkeypatch.setattr(templates_module, "KNOWN_BYTES_MAX", 50)
    templates.groups([Submission(template_of(shell="x" * 100), [])], number=1, wall=0.0)
    assert (len(templates), templates._known_bytes) == (0, 0)


def test_a_function_that_came_by_rest_needs_its_blobs_too() -> None:
    templates = Templates(Shelf(HERE).missing, size=len, check_limits=no_limits)
    body = f'[{{"function": "{HERE}"}}, {{"shell": ":"}}, {{"function": "{HERE}", "blobs": ["{LACKING}"]}}]'
    requests, _ = parse_requests(body.encode(), tasks_max=10)
    templates.check(requests[:2])
    with pytest.raises(BadRequest, match=f"^task 2: there is no blob {LACKING}") as refusal:
        templates.check(requests, is_array=True)
    assert (refusal.value.code, refusal.value.index) == ("blob_missing", 2)
    with pytest.raises(BadRequest, match=f"^there is no blob {LACKING}"):
        templates.check(requests[2:])


# Marks ----------------------------------------------------------------------------------------


class Board:
    """A mark board over a core with one running task, and what it told."""

    def __init__(self) -> None:
        self.core = Core()
        self.core.hello("w1")
        self.seq = only(self.core.submit())
        self.session = self.core.sessions["w1"]
        self.told: list[MarkEvent] = []
        self.marks = MarkBoard(self.core.state.tasks.get, self.told.append)

    def say(self, text: str, *, fraction: float | None = 0.5, attempt: int = 1, now: float = 10.0) -> Mark | None:
        self.marks.take(self.session, [Mark(self.seq, attempt, fraction, text)], now=now)
        return self.marks.find((self.seq, 1))


def test_the_last_mark_of_a_running_attempt_is_kept_until_it_ends() -> None:
    board = Board()
    assert board.say("one") == Mark(board.seq, 1, 0.5, "one")
    assert board.say("two", fraction=None) == Mark(board.seq, 1, None, "two")
    board.marks.publish(changes(RUNNING, board.seq))
    assert board.marks.find((board.seq, 1)) is not None
    assert board.marks.find((board.seq, 2)) is None
    board.marks.publish(changes(DONE, board.seq))
    assert not len(board.marks)


def test_nobody_speaks_for_attempts_of_others() -> None:
    board = Board()
    assert board.say("an old attempt", attempt=7) is None
    board.marks.take(SessionId(99), [Mark(board.seq, 1, 0.1, "another worker")], now=0.0)
    board.marks.take(board.session, [Mark(TaskSeq(99), 1, 0.1, "no such task")], now=0.0)
    assert not len(board.marks)
    assert not board.told


def test_marks_are_told_once_a_second_and_fit_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    board.say("a\nb\x1b" + "c" * 1000, fraction=7.0)
    (event,) = board.told
    assert (event.task, event.attempt, event.fraction) == (f"t{board.seq}", 1, 1.0)
    assert event.text == "a b " + "c" * 196
    board.say("too soon", now=10.5)
    assert len(board.told) == 1
    board.say("later", now=11.0)
    assert [event.text for event in board.told[1:]] == ["later"]
    monkeypatch.setattr(marks_module, "TOLD_MAX", 0)
    board.say("too many", now=20.0)
    assert len(board.told) == 2
    monkeypatch.setattr(marks_module, "MARKS_MAX", 0)
    board.marks.clear()
    assert board.say("no room") is None
