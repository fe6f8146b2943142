"""Scenario files: given, when, then, for hard cases of the core that are easier to read than a test.

Each line begins with a word. ``given`` and ``when`` are commands; what follows from a ``when`` is written under it as
``then`` lines, all of it and in order: who is assigned where, who is told to end or asked back, how states change. They
are compared with what happens, or, with ``pytest --rewrite-scenarios``, written anew, to be read as a difference.

=============================  =======================================================
``worker w1 cpu=2000 tags=a``   a worker says hello
``gone w1``                     its channel breaks and it is given up
``queue q max_running=1``       a queue is set (``queue q`` alone: nothing)
``limit licence 1``             a limit is set
``reserve r cpu=1000 queue=q``  from now on for an hour
``submit a priority=10 cpu=1``  a task that is called ``a`` from then on
``start a``, ``end a CAUSE``    its worker reports so; ``end a 0.5`` says how long it took
``cancel a``                    its user cancels it
``pass 5``                      so many seconds go by
``why a``                       shows why it waits
=============================  =======================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rota.core.effects import Effect
from rota.core.explain import explain_wait
from rota.core.model import Cause, TaskSeq, TaskState
from tests.support.core import QUIET, Core, assignments, recalled, stopped

__all__ = ["play"]

RESOURCES: Final = ("cpu", "memory", "gpu", "gpu_memory")
PATIENT: Final = replace(QUIET, heartbeat_s=1.0, suspicious_after_s=3.0, offline_after_s=6.0)


def play(path: Path) -> Iterator[str]:
    """Yield the file as it would have to be: commands and comments as they stand, and what follows from them."""
    stage = _Stage()
    for line in path.read_text().splitlines():
        word, _, command = line.partition(" ")
        if word == "then":
            continue
        yield line
        if word in ("given", "when"):
            then = stage.do(command.split())
            if word == "when":
                yield from (f"then {what}" for what in then)


class _Stage:
    """A core, and the names that a scenario gives to its tasks."""

    def __init__(self) -> None:
        self._core = Core(config=QUIET)
        self._seqs: dict[str, TaskSeq] = {}
        self._known: dict[TaskSeq, TaskState] = {}

    def do(self, words: Sequence[str]) -> list[str]:
        name, *given = words
        effects = self._commands()[name](given)
        if isinstance(effects, str):
            return [effects]
        return [*self._told(effects), *self._changed()]

    def _commands(self) -> dict[str, Callable[[list[str]], list[Effect] | str]]:
        core = self._core
        return {
            "coordinator": self._configure,
            "worker": lambda given: core.hello(given[0], **_fields(given[1:], offer=True)),
            "gone": self._lose,
            "queue": lambda given: core.set_queue(given[0], **_fields(given[1:])),
            "limit": lambda given: core.set_limit(given[0], int(given[1])),
            "reserve": lambda given: core.reserve(given[0], **_fields(given[1:])),
            "submit": self._submit,
            "start": lambda given: core.start(self._seqs[given[0]]),
            "end": self._end,
            "cancel": lambda given: core.cancel(self._seqs[given[0]]),
            "pass": lambda given: [*core.pass_time(float(given[0])), *core.do()],
            "why": lambda given: " ".join(("waits for", *self._why(given[0]))),
        }

    def _configure(self, given: list[str]) -> list[Effect]:
        self._core = Core(config=replace(PATIENT if "mortal=1" in given else QUIET, **_settings(given)))
        return []

    def _submit(self, given: list[str]) -> list[Effect]:
        effects = self._core.submit_and_see(name="task", **_fields(given[1:]))
        self._seqs[given[0]] = max(self._core.record.facts)
        return effects

    def _end(self, given: list[str]) -> list[Effect]:
        seq, how = self._seqs[given[0]], given[1] if len(given) > 1 else "10"
        if how.replace(".", "").isdigit():
            return self._core.end(seq, run_s=float(how))
        return self._core.end(seq, Cause(how))

    def _lose(self, given: list[str]) -> list[Effect]:
        return [*self._core.close(given[0]), *self._core.pass_time(7.0)]

    def _why(self, name: str) -> tuple[str, str]:
        reason, text = explain_wait(self._core.state, self._core.task(self._seqs[name]))
        return f"{reason.value}:", text

    def _told(self, effects: list[Effect]) -> Iterator[str]:
        for given in assignments(effects):
            yield f"{self._name(given.task)} is given to {self._core.worker_of(given.task)}"
        for seq, _ in stopped(effects):
            yield f"{self._name(seq)} is told to end"
        for seq, _ in recalled(effects):
            yield f"{self._name(seq)} is asked back"

    def _changed(self) -> Iterator[str]:
        before, self._known = self._known, {seq: one.state for seq, one in self._core.record.progress.items()}
        for seq, state in sorted(self._known.items()):
            if before.get(seq) is not state:
                yield f"{self._name(seq)} is {state.word}"

    def _name(self, seq: TaskSeq) -> str:
        return next((name for name, known in self._seqs.items() if known == seq), f"t{seq}")


def _settings(given: list[str]) -> dict[str, Any]:
    return {name: value for name, value in _fields(given).items() if name != "mortal"}


def _fields(given: Sequence[str], *, offer: bool = False) -> dict[str, Any]:
    """Read ``name=value``: amounts of resources go where tasks have them, numbers are numbers, commas make lists."""
    fields: dict[str, Any] = {}
    for name, _, text in (word.partition("=") for word in given):
        value: Any = int(text) if text.isdigit() else float(text) if text.replace(".", "").isdigit() else text
        if name in RESOURCES and not offer:
            fields.setdefault("resources", {})[name] = value
        elif name in ("limits", "labels"):
            key, _, count = text.partition(":")
            fields[name] = {key: int(count) if name == "limits" else count}
        else:
            fields[name] = text.split(",") if name == "tags" else value
    return fields
