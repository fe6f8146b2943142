"""What ``rota simulate`` does: makes plans of options, runs them side by side, and draws what came of them."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import multiprocessing
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from rota.cli.progress import counting_bar
from rota.core.errors import BadRequest
from rota.core.model import AttemptRecord, Setting, TaskRecord, WorkerRecord
from rota.plugins import load_policies
from rota.simulator.history import History, more_workers, read_history
from rota.simulator.load import Arrival
from rota.simulator.plan import LoadPlan, Plan, WorkerPlan
from rota.simulator.runs import (
    Finished,
    Traces,
    arrivals_of,
    capacity_of,
    expected_tasks,
    fitting_rate,
    run_plan,
)
from rota.simulator.scenarios import check_plan, check_policies, read_plan
from rota.simulator.traces import read_trace
from rota.store.base import TaskQuery
from rota.store.sqlite import DATABASE_NAME, SqliteStore

__all__ = ["Comparison", "check_picture", "draw", "make_comparison", "run_comparison"]

TASKS_DEFAULT: Final = 1_000
WORKERS_DEFAULT: Final = 10
BUSY_PART: Final = 0.9
"""Of the cores that the default rate keeps busy: enough that tasks wait, not so much that they wait for ever."""

PICTURES: Final = (".png", ".svg")

SCENARIO_BYTES_MAX: Final = 4 << 20
"""Ten thousand kinds of workers are a tenth of that, and reading YAML of that size takes seconds."""

TRACES: Final = (".csv", ".swf")
"""How names of traces end. Those of the parallel workloads archive are packed, which adds ``.gz``."""


class Comparison(Struct, frozen=True):
    """Plans that differ by their policies, and what comes to each of them."""

    plans: list[Plan]
    traces: Traces
    history: History | None = None


# From options to a comparison --------------------------------------------------------------------------


def make_comparison(given: dict[str, Any]) -> Comparison:
    """Make plans of the values of the options.

    Raises:
        BadRequest: They make no sense, or a file is not as it should be.
    """
    history = None
    if given["from_history"] is not None:
        history = _history_of(given["from_history"])
        workers = more_workers(history.workers, given["add_workers"])
        plan = Plan(workers=workers, load=[LoadPlan(trace=str(given["from_history"]))])
    elif given["scenario"] is not None:
        plan = read_plan(_read_scenario(given["scenario"]))
    else:
        with _naming_flags():
            plan = _plan_of_flags(given)
            check_plan(plan)
    if given["add_workers"] and history is None:
        raise BadRequest("--add-workers goes with --from-history: say --workers instead")
    changes = {name: given[name] for name in ("placement", "ordering", "ageing", "seed", "until")}
    plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
    check_plan(plan)
    traces = {0: history.arrivals} if history is not None else _traces_of(plan, given["scenario"])
    plans = _compared(plan, given["compare"])
    policies = load_policies()
    for each in plans:  # what a run would refuse is refused before the first of them
        check_policies(each, policies)
        arrivals_of(each, traces)
    return Comparison(plans, traces, history)


@contextmanager
def _naming_flags() -> Iterator[None]:
    """Let what is wrong be told by the flag that said it, not by a place in a scenario that nobody wrote."""
    try:
        yield
    except BadRequest as error:
        problem = re.sub(r"^workers: there are", "--workers is", str(error))
        problem = re.sub(r"^workers\[0\]\.count", "--workers", problem)
        problem = re.sub(r"^workers\[0\]\.", "--worker-", problem)
        problem = re.sub(r"^load\[0\]\.(\w+)", lambda match: "--" + match[1].replace("_", "-"), problem)
        raise BadRequest(problem.removeprefix("load[0]: ")) from None


def _plan_of_flags(given: dict[str, Any]) -> Plan:
    kinds = {"cpu": given["worker_cpu"], "memory": given["worker_memory"], "gpus": given["worker_gpus"]}
    count = WORKERS_DEFAULT if given["workers"] is None else given["workers"]
    workers = [WorkerPlan(count=count, **{name: value for name, value in kinds.items() if value is not None})]
    names = ("arrivals", "rate", "tasks", "duration", "mix", "mean_duration", "durations", "shapes", "time_scale")
    fields = {name: given[name] for name in names if given[name] is not None}
    if given["trace"] is not None:
        load = LoadPlan(trace=str(given["trace"].resolve()), **fields)
    else:
        load = LoadPlan(**{"arrivals": "poisson", **fields})
        if load.tasks is None and load.duration is None:
            load = replace(load, tasks=TASKS_DEFAULT)
        if load.rate is None and (load.tasks is None or load.duration is None):
            check_plan(Plan(workers=workers, load=[replace(load, rate=1.0)]))
            capacity = capacity_of(Plan(workers=workers))
            if not capacity:
                raise BadRequest("the workers have no cores that could be kept busy: say --rate")
            load = replace(load, rate=fitting_rate(load, capacity_millicores=capacity, part=BUSY_PART))
    return Plan(workers=workers, load=[load])


def _compared(plan: Plan, names: str | None) -> list[Plan]:
    if names is None:
        return [plan]
    plans = []
    for name in names.split(","):
        ordering, _, placement = name.strip().rpartition(":")
        if not placement:
            raise BadRequest(f"--compare: {names!r} leaves a name out: write binpack,spread or fair:binpack,spread")
        changed = replace(plan, placement=placement, ordering=ordering or plan.ordering)
        check_plan(changed)
        plans.append(changed)
    return plans


def _read_scenario(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(SCENARIO_BYTES_MAX + 1)
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror}") from None
    if len(text) > SCENARIO_BYTES_MAX:
        raise BadRequest(f"{path} is no scenario: it has more than {SCENARIO_BYTES_MAX:,} bytes")
    return text


def _traces_of(plan: Plan, scenario: Path | None) -> Traces:
    """Read the traces that loads name: paths are as seen from where the scenario lies."""
    cores_max = max(1, *(worker.cpu // 1000 for worker in plan.workers))
    traces: dict[int, Sequence[Arrival]] = {}
    for index, load in enumerate(plan.load):
        if load.trace is not None:
            path = Path(load.trace) if scenario is None else scenario.parent / load.trace
            name = path.name.removesuffix(".gz")
            if not name.endswith(TRACES):
                raise BadRequest(f"{path}: a trace is a .csv or .swf file, or one of them with .gz behind")
            lines = _read_text(path).splitlines()
            try:
                traces[index] = read_trace(lines, load, is_swf=name.endswith(".swf"), cores_max=cores_max)
            except BadRequest as error:
                raise BadRequest(f"{path.name}: {error}") from None
    return traces


def _read_text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read().decode("utf-8-sig")  # programs of Windows begin a file with a mark
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is no text in UTF-8: {error}") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadRequest(f"{path} is not packed as its name says: {error}") from None
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror}") from None


# History ------------------------------------------------------------------------------------


def _history_of(state_dir: Path) -> History:
    if not (state_dir / DATABASE_NAME).is_file():
        raise BadRequest(f"{state_dir} has no {DATABASE_NAME}: name the --state-dir of a coordinator")
    return asyncio.run(_read_history(state_dir))


async def _read_history(state_dir: Path) -> History:
    """Read a state directory, whether a coordinator has it at this moment or not: nothing is written."""
    store = SqliteStore(state_dir)
    try:
        workers: list[WorkerRecord] = await store.load_workers()
        settings: list[Setting] = await store.load_settings()
        tasks: list[TaskRecord] = []
        attempts: list[AttemptRecord] = []
        query = TaskQuery(limit=1000)
        while True:
            page = await store.history(query)
            tasks += page.tasks
            for task in page.tasks:
                if task.progress.attempt > 1:
                    attempts += await store.attempts(task.facts.seq)
            if page.next_before is None:
                break
            query = replace(query, before=page.next_before)
    finally:
        await store.close()
    return read_history(tasks, workers=workers, settings=settings, attempts=attempts)


# Running ------------------------------------------------------------------------------------


def run_comparison(comparison: Comparison, *, on_line: Callable[[str], None] | None) -> list[Finished]:
    """Run all plans: side by side where there are several and nobody wants to see each step."""
    processes = min(len(comparison.plans), os.cpu_count() or 1)
    if processes > 1 and on_line is None:
        return _run_side_by_side(comparison, processes)
    finished = []
    for plan in comparison.plans:
        with counting_bar(expected_tasks(plan, comparison.traces)) as count:
            finished.append(_run(comparison, plan, on_ended=count, on_line=on_line))
    return finished


def _run_side_by_side(comparison: Comparison, processes: int) -> list[Finished]:
    # Forked, because arrivals that were read from a file need not be sent then.
    context = multiprocessing.get_context("fork")
    finished: list[Finished] = []
    with (
        ProcessPoolExecutor(
            processes, mp_context=context, initializer=_take_comparison, initargs=(comparison,)
        ) as pool,
        counting_bar(len(comparison.plans)) as count,
    ):
        for each in pool.map(_run_one, range(len(comparison.plans))):
            finished.append(each)
            count(len(finished))
    return finished


_comparison: Comparison


def _take_comparison(comparison: Comparison) -> None:
    global _comparison
    _comparison = comparison


def _run_one(index: int) -> Finished:
    return _run(_comparison, _comparison.plans[index])


def _run(
    comparison: Comparison,
    plan: Plan,
    *,
    on_ended: Callable[[int], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    return run_plan(
        plan,
        arrivals_of(plan, comparison.traces),
        settings=comparison.history.settings if comparison.history is not None else (),
        policies=load_policies(),
        on_ended=on_ended,
        on_line=on_line,
    )


def check_picture(path: Path) -> None:
    """See that a picture can be drawn into a file, before what it shows is run.

    Raises:
        BadRequest: There is no matplotlib, or no such folder, or the name ends in something else.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BadRequest("drawing needs matplotlib: install it with pip install 'rota[plots]'")
    if path.suffix.lower() not in PICTURES:
        raise BadRequest(f"{path}: pictures are written as {' or '.join(PICTURES)}, by the end of the name")
    if not path.parent.is_dir():
        raise BadRequest(f"{path} can't be written: there is no folder {path.parent}")


def draw(finished: Sequence[Finished], path: Path) -> None:
    """Draw all runs into one picture.

    Raises:
        BadRequest: The file can't be written.
    """
    from rota.simulator.plots import PlottedRun, draw_runs  # noqa: PLC0415 - the only part that needs matplotlib

    is_one_order = len({each.report.ordering for each in finished}) == 1
    runs = []
    for each in finished:
        title = each.report.placement if is_one_order else f"{each.report.ordering}, {each.report.placement}"
        runs.append(PlottedRun(title, each.columns, each.worker_millicores))
    try:
        draw_runs(runs, path)
    except OSError as error:
        raise BadRequest(f"{path} can't be written: {error.strerror}") from None
