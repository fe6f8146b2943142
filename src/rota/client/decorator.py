"""``@rota.task``: a function that knows how its tasks are to be run.

The decorated function is called as before, and keeps its types. ``.options(...)`` gives one with other
options, ``.submit(...)`` sends it to the client in use, and ``client.submit(function, ...)`` honours its options. On a
worker it is the plain function again, so what calls it there calls it directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from rota.client.default import current_client
from rota.client.modules import travels_by_value
from rota.client.options import DEFAULT_OPTIONS, Options
from rota.functions.pickling import plain

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["TaskFunction", "task"]

P = ParamSpec("P")
R = TypeVar("R")


class TaskFunction(Generic[P, R]):
    """A function with options. Made by `task`.

    Args:
        function: What is called.
        options: How its tasks are run.
    """

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.task_options = options
        """How its tasks are run, unless said otherwise."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now."""
        return self.__wrapped__(*args, **kwargs)

    def options(self, **options: Any) -> TaskFunction[P, R]:  # checked by name and value
        """The same function with other options; those that are not named stay. See `Options`."""
        return TaskFunction(self.__wrapped__, self.task_options.changed(**options))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit a call to the client in use: that of the innermost ``with Client()``.

        Raises:
            NoClient: There is none.
        """
        client = current_client()
        future: Future[R] = client.submit(self, *args, **kwargs)
        return future

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # as functions: bound to an instance
        if instance is None:
            return self
        return TaskFunction(self.__wrapped__.__get__(instance, owner), self.task_options)

    def __reduce__(self) -> str | tuple[Any, ...]:
        if travels_by_value(self):
            return plain, (self.__wrapped__,)
        return str(self.__wrapped__.__qualname__)

    def __repr__(self) -> str:
        return f"<task function {getattr(self, '__qualname__', repr(self.__wrapped__))}>"


@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:  # the overloads say what
    """Say how the tasks of a function are to be run.

    Args:
        function: The function, where the decorator stands without parentheses.
        options: See `Options`: ``retries=3, timeout=60, resources={"gpu": 1}`` and so on.

    Raises:
        TypeError: An option is unknown (the near one is named) or of a wrong type.
        ValueError: An option is out of its range.
    """
    said = Options.of(**options) if options else DEFAULT_OPTIONS
    if function is None:
        return functools.partial(_decorate, options=said)
    return _decorate(function, options=said)


def _decorate(function: Callable[..., Any], *, options: Options) -> TaskFunction[..., Any]:
    if isinstance(function, TaskFunction):
        raise TypeError(f"{function!r} is decorated already: put all options in one @rota.task(...)")
    if not callable(function):
        raise TypeError(f"@rota.task decorates functions, not {function!r}; options are named: @rota.task(retries=3)")
    return TaskFunction(function, options)
