"""The line of a slot of functions, next to a plain list that knows of every order by itself."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rota.worker.slots.frames import FunctionOrder, decode_orders, encode_orders
from rota.worker.slots.functions.line import Line


def order(number: int) -> FunctionOrder:
    return (number, 1, "/f", b"", None, None, ("t", "q", "w"), None)


class LineMachine(RuleBasedStateMachine):
    """Both lines side by side. The plain one has pairs of an ordinal and a task, and a list of tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.fed: list[tuple[int, int]] = []
        self.waiting: list[list[int]] = []
        self.last = 0

    def key(self, task: int) -> tuple[int, int]:
        return task, 1

    @rule(count=st.integers(0, 5))
    def add(self, count: int) -> None:
        tasks = list(range(self.last + 1, self.last + count + 1))
        self.last += count
        self.line.add(encode_orders([order(task) for task in tasks]))
        if tasks:
            self.waiting.append(tasks)

    @precondition(lambda self: self.waiting)
    @rule()
    def feed(self) -> None:
        first = self.line.next_ordinal
        chunk = self.line.feed()
        tasks = self.waiting.pop(0)
        assert chunk.first == first
        assert [found[0] for found in decode_orders(chunk.encoded)] == tasks
        self.fed += [(first + index, task) for index, task in enumerate(tasks)]

    @precondition(lambda self: self.fed)
    @rule(share=st.floats(0, 1))
    def end_some(self, share: float) -> None:
        count = 1 + int(share * (len(self.fed) - 1))
        assert self.line.end_up_to(self.fed[count - 1][0]) == count
        del self.fed[:count]

    @rule(one_runs=st.booleans())
    def recall(self, *, one_runs: bool) -> None:
        keep = 1 if one_runs and self.fed else 0
        self.line.recall(self.fed[0][0] if keep else self.line.taken)
        back = [task for _, task in self.fed[keep:]]
        del self.fed[keep:]
        if back:
            self.waiting.insert(0, back)

    @precondition(lambda self: len(self.fed) == 1)
    @rule()
    def refuse(self) -> None:
        ordinal, task = self.fed.pop()
        self.line.put_back(ordinal)
        self.waiting.insert(0, [task])

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        tasks = data.draw(st.sets(st.integers(1, self.last), max_size=4))
        expected = [task for chunk in self.waiting for task in chunk if task in tasks]
        assert self.line.remove({self.key(task) for task in tasks}) == [self.key(task) for task in expected]
        left = [[task for task in chunk if task not in tasks] for chunk in self.waiting]
        self.waiting = [chunk for chunk in left if chunk]

    @rule()
    def remove_first(self) -> None:
        tasks = [task for chunk in self.waiting for task in chunk]
        found = self.line.remove_first()
        assert (found[0] if found else None) == (tasks[0] if tasks else None)
        if tasks:
            self.waiting[0].pop(0)
            self.waiting = [chunk for chunk in self.waiting if chunk]

    @invariant()
    def is_alike(self) -> None:
        assert self.line.has_fed == bool(self.fed)
        assert self.line.fed_count() == len(self.fed)
        assert self.line.waiting_keys() == [self.key(task) for chunk in self.waiting for task in chunk]
        # Chunks that were taken apart may lie in other pieces; together they are the same.
        assert self.line.has_waiting == bool(self.waiting)
        for ordinal, task in self.fed:
            found = self.line.find_fed(ordinal)
            assert found is not None
            assert found[0] == task
            assert self.line.is_fed(ordinal)
            assert self.line.has_fed_key(self.key(task))
        assert self.line.find_fed(self.line.taken) is None
        assert not self.line.is_fed(self.line.next_ordinal)
        for chunk in self.waiting:
            assert not self.line.has_fed_key(self.key(chunk[0]))
        # The two agree on where chunks begin, as far as the next one is concerned.
        self.waiting = self.regrouped()

    def regrouped(self) -> list[list[int]]:
        """The plain line in the pieces of the real one."""
        tasks = [task for chunk in self.waiting for task in chunk]
        count = self.line.waiting_count()
        return [piece for piece in (tasks[:count], tasks[count:]) if piece]


TestLine = LineMachine.TestCase
TestLine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
