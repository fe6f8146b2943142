"""Which tasks a query means, as SQL: the newest first, a page at a time, by the cheapest way in.

Without conditions a page is the end of the table. With states it is the ends of those states in the index,
merged; with an exact name, the end of that name. Other conditions are checked on the rows met on the way, so a
rare one may walk far: about half a second a million tasks, on a thread of its own.
"""

from __future__ import annotations

from typing import Final

from rota.core.model import TaskState
from rota.store.base import TaskQuery

__all__ = ["Bindings", "pick_page"]

Bindings = dict[str, int | float | str]

_PAGE: Final = """
SELECT json_group_array(json_array(seq, size) ORDER BY seq DESC) FROM (
    {parts}
    ORDER BY seq DESC LIMIT :limit
)
"""

_PART: Final = """
SELECT * FROM (
    SELECT {driver}.seq AS seq, octet_length(spec) + octet_length(data) AS size
    FROM {driver} CROSS JOIN {other} ON {other}.seq = {driver}.seq
    WHERE {conditions}
    ORDER BY {driver}.seq DESC LIMIT :limit
)
"""

_LABEL: Final = "EXISTS (SELECT 1 FROM json_each(task.labels) WHERE key = :label{n} AND value = :value{n})"

_AFTER_ALL_TEXT: Final = "\U0010ffff"
"""Appended to a prefix it sorts after every name with that prefix: names have no such character."""


def pick_page(query: TaskQuery) -> tuple[str, Bindings]:
    """Return the statement that gives ``[[seq, bytes], …]`` of a page and of one task more, and its parameters."""
    conditions, bindings = _conditions(query)
    bindings["limit"] = query.limit + 1
    is_by_name = query.name is not None
    driver = "progress" if not is_by_name and (query.states is not None or query.worker is not None) else "task"
    other = "task" if driver == "progress" else "progress"
    if query.before is not None:
        conditions.append(f"{driver}.seq < :before")
        bindings["before"] = query.before
    parts = [
        _PART.format(driver=driver, other=other, conditions=" AND ".join([*conditions, *state]) or "true")
        for state in _state_conditions(query.states)
    ]
    return _PAGE.format(parts=" UNION ALL ".join(parts)), bindings


def _state_conditions(states: frozenset[TaskState] | None) -> list[list[str]]:
    """One part a state, so that each comes out of the index in order; one without a condition for all."""
    if states is None:
        return [[]]
    if not states:
        return [["false"]]
    return [[f"progress.state = {number}"] for number in sorted(state.value for state in states)]


def _conditions(query: TaskQuery) -> tuple[list[str], Bindings]:
    conditions: list[str] = []
    bindings: Bindings = {}
    for column, operator, value in (
        ("task.queue", "=", query.queue),
        ("progress.worker", "=", query.worker),
        ("task.created_at", ">=", query.since),
        ("task.created_at", "<", query.until),
    ):
        if value is not None:
            name = f"given{len(bindings)}"
            conditions.append(f"{column} {operator} :{name}")
            bindings[name] = value
    for n, (label, text) in enumerate(sorted(query.labels.items())):
        conditions.append(_LABEL.format(n=n))
        bindings |= {f"label{n}": label, f"value{n}": text}
    if query.name is not None:
        conditions.append(_name_condition(query.name, bindings))
    return conditions, bindings


def _name_condition(name: str, bindings: Bindings) -> str:
    if not name.endswith("*"):
        bindings["name"] = name
        return "task.name = :name"
    bindings |= {"name": name[:-1], "name_end": name[:-1] + _AFTER_ALL_TEXT}
    return "task.name >= :name AND task.name < :name_end"
