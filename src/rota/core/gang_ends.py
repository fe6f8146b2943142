"""What the end of one member means for its gang.

A success leaves the others alone. Anything else stops them: with budget left all run again (and whatever the others say
while they are stopped counts for nothing, also a success); without, or if one was cancelled, or if a member has
completed already, all end, with a sentence that names the one.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from rota.core.gangs import Gang, Gangs
from rota.core.lifecycle import Next
from rota.core.model import ENDED_STATES, Cause, TaskState
from rota.core.protocol import Ended
from rota.core.task import Task

__all__ = ["decide", "doom", "judge", "settle"]

_NOT_WHOLE = "other members of its gang have completed, and a gang runs again as a whole or not at all"
_FATE_UNKNOWN = "another member of its gang ended"


def judge(gang: Gang, task: Task, ended: Ended) -> Ended:
    """Say what the end of a member's attempt counts as, given where its gang stands. It is active no more."""
    if task.wish is None and gang.is_stopping:
        ended = replace(ended, cause=Cause.GANG, message="stopped because its gang runs again")
    elif task.wish is Cause.GANG or (task.wish is not None and gang.fate is not None):
        ended = replace(ended, message=ended.message or gang.fate or _FATE_UNKNOWN)
    elif task.wish is None and ended.cause is not None and not gang.is_whole:
        ended = replace(ended, message=f"{ended.message}; {_NOT_WHOLE}" if ended.message else _NOT_WHOLE)
    gang.active -= 1
    return ended


def decide(gang: Gang, decision: Next) -> Next:
    """Let a member that would run again end instead if its gang can't run again as a whole."""
    if decision.state is TaskState.PENDING and not gang.is_whole:
        return Next(TaskState.FAILED, decision.cause)
    return decision


def settle(
    gangs: Gangs, task: Task, decision: Next, *, stop: Callable[[Task, Cause], None], end: Callable[..., None]
) -> None:
    """Let the others of a gang follow a member whose attempt has ended.

    Args:
        gangs: Knows the gang.
        task: The member, already in its new state.
        decision: What became of it.
        stop: Asks the worker of a member to stop it.
        end: Ends a member that waits: state, cause and ``message``.
    """
    gang = gangs.of(task)
    if decision.state in ENDED_STATES:
        called = gang.call(task)
        gangs.leave(task)
        if decision.state is not TaskState.COMPLETED and decision.cause is not None:
            doom(gang, called, decision.cause, stop=stop, end=end)
    elif gang.active == len(gang.members) - 1:  # it is the first: the others are still running
        for mate in gang.in_order():
            if mate.run is not None and mate.wish is None:
                stop(mate, Cause.GANG)


def doom(
    gang: Gang, called: str, cause: Cause, *, stop: Callable[[Task, Cause], None], end: Callable[..., None]
) -> None:
    """Let all that are left of a gang end because one did: once."""
    if gang.fate is not None:
        return
    is_cancelled = cause is Cause.CANCELLED
    what = "was cancelled" if is_cancelled else f"failed ({cause.value})"
    gang.fate = f"{called} of its gang {what}"
    wish = Cause.CANCELLED if is_cancelled else Cause.GANG
    for mate in gang.in_order():
        if mate.run is None:
            end(mate, TaskState.CANCELLED if is_cancelled else TaskState.FAILED, wish, message=gang.fate)
        elif mate.wish is None:
            mate.wish = wish
            stop(mate, wish)
