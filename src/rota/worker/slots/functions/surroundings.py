"""Variables and directory of a single call: set before it, set back after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rota.worker.slots.functions.values import CallFailed

__all__ = ["surroundings"]


@contextmanager
def surroundings(extras: dict[str, object]) -> Iterator[None]:
    """Have ``env`` and ``cwd`` of an order while the block runs.

    Raises:
        CallFailed: The directory can't be entered, or a variable can't be set.
    """
    env, cwd = extras.get("env") or {}, extras.get("cwd")
    assert isinstance(env, dict)
    home_fd = None
    before = {name: os.environ.get(name) for name in env}
    try:
        if cwd is not None:
            assert isinstance(cwd, str)
            home_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _enter(cwd)
        _set_variables(env)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if home_fd is not None:
            os.fchdir(home_fd)
            os.close(home_fd)


def _enter(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise CallFailed(f"can't enter the working directory {cwd}: {reason}", word="launch-error") from error


def _set_variables(env: dict[str, str]) -> None:
    try:
        os.environ.update(env)
    except (OSError, ValueError) as error:
        raise CallFailed(f"can't set the variables of the task: {error}", word="launch-error") from error
