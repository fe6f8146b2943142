"""The other members of a gang, for whoever brings one of them back."""

from __future__ import annotations

from rota.core.errors import Conflict
from rota.core.gangs import gang_name
from rota.core.model import TaskRecord, TaskState
from rota.core.spec import GANG_LABEL, decode_spec
from rota.store.base import Store, TaskQuery

__all__ = ["find_mates"]


async def find_mates(store: Store, record: TaskRecord) -> list[TaskRecord]:
    """Read the other members of a task's gang, all of which must be such as can be retried. None without a gang.

    Cost: a look at the labels of all tasks, newest first, until all members are found.

    Raises:
        Conflict: One has completed, or has not ended: the sentence names it. Or one is no longer kept. Or the gang had
            not taken the task in.
    """
    name, terms = gang_name(record.facts), decode_spec(record.facts.spec).gang
    if terms is None:
        return []
    if name is None:
        raise Conflict(
            f"task {record.facts.id} can't be retried: it was never a member of its gang, which had all of its "
            "members: submit it again under another id of a gang"
        )
    page = await store.history(TaskQuery(labels={GANG_LABEL: name}, limit=terms.size))
    mates = [mate for mate in page.tasks if mate.facts.seq != record.facts.seq]
    have_run = any(one.progress.attempt for one in (record, *mates))  # so all of its members were there once
    if have_run and len(mates) < terms.size - 1:
        raise Conflict(
            f"task {record.facts.id} can't be retried: of the {terms.size} members of its gang {1 + len(mates)} are "
            "still kept, and a gang runs again as a whole or not at all: submit it again"
        )
    for mate in mates:
        if mate.progress.state not in (TaskState.FAILED, TaskState.CANCELLED):
            raise Conflict(
                f"task {record.facts.id} can't be retried: {mate.facts.id} of its gang is {mate.progress.state.word}, "
                "and a gang runs again as a whole or not at all"
            )
    return mates
