"""Tasks on their way into a simulation: when each comes, what it is, and what it will do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge

from msgspec import Struct

from rota.core.commands import Draft
from rota.core.model import SyntheticWork, Terms
from rota.core.spec import PRIORITY_WORDS, TaskSpec, encode_spec, terms_of
from rota.simulator.plan import LoadPlan

__all__ = ["Arrival", "DraftMaker", "merged", "priority_number", "task_of"]


class Arrival(Struct, frozen=True, gc=False):
    """A task that comes ``at`` so many seconds: ``template``, doing ``work``.

    Like tasks share their template, which is what makes a million of them cheap.
    """

    at: float
    template: TaskSpec
    work: SyntheticWork


class DraftMaker:
    """Makes what the core is asked to accept. 4 µs a task: terms are made once for each template."""

    def __init__(self) -> None:
        self._terms: dict[int, tuple[TaskSpec, Terms]] = {}

    def draft_of(self, arrival: Arrival) -> Draft:
        """Return the draft of a task."""
        template = arrival.template
        template.workload = arrival.work
        known = self._terms.get(id(template))
        if known is None:
            known = self._terms[id(template)] = (template, terms_of(template))  # kept, so that its id stays its own
        return Draft(None, known[1], encode_spec(template), name=template.name)


def merged(loads: Iterable[Iterator[Arrival]]) -> Iterator[Arrival]:
    """All arrivals of several loads, in order of time."""
    return merge(*loads, key=lambda arrival: arrival.at)


def task_of(load: LoadPlan) -> TaskSpec:
    """What all tasks of a load have in common: all but what they ask for and do."""
    return TaskSpec(
        tags=load.tags,
        queue=load.queue,
        priority=priority_number(load.priority),
        placement=load.placement,
        limits=load.limits,
        timeout=load.timeout,
        retries=load.retries,
        losses=load.losses,
    )


def priority_number(priority: int | str | None) -> int | str | None:
    """The number of a priority that is a word, or a number written out; what is neither stays as it is."""
    if not isinstance(priority, str):
        return priority
    return int(priority) if priority.isdecimal() else PRIORITY_WORDS.get(priority, priority)
