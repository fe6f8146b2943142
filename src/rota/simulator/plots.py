"""Pictures of runs: how much of the cluster worked, how many tasks waited, and which worker had what to do when.

Needs matplotlib, the extra ``plots``. Nothing else of the simulator does, and nothing else imports this.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from msgspec import Struct
from numpy.typing import NDArray

from rota.simulator.columns import Columns

__all__ = ["PlottedRun", "RunArrays", "draw_runs"]

Column = NDArray[np.float64]

BINS: Final = 240
ROWS_MAX: Final = 120
"""Of the map of workers: where there are more, several share a row."""

FEW: Final = 3
MAP_INCHES: Final = (2.2, 1.2)
"""The height of a map, of few runs and of many."""


LEGEND_CHARS: Final = 80
"""What fits above a picture in one row."""


class PlottedRun(Struct, frozen=True):
    """A run that is over, what it is called in the picture, and what each of its workers has."""

    title: str
    columns: Columns
    worker_millicores: Sequence[int]


def draw_runs(runs: Sequence[PlottedRun], path: Path) -> None:
    """Draw one run or several into one picture.

    Args:
        runs: At least one.
        path: A file whose name ends in ``.png`` or ``.svg``.

    Raises:
        OSError: The file can't be written.
    """
    arrays = [RunArrays(run) for run in runs]
    end = max((run.end for run in arrays), default=0.0) or 1.0
    edges = np.linspace(0.0, end, BINS + 1)
    # No date and no random ids in the file: the same run gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "rota", "font.size": 9}):
        heights = [2.2, 2.2, *[MAP_INCHES[len(runs) > FEW]] * len(runs)]
        figure = Figure(figsize=(9.0, sum(heights)), layout="constrained")
        axes = figure.subplots(2 + len(runs), 1, sharex=True, height_ratios=heights)
        _draw_use(axes[0], arrays, edges)
        _draw_waiting(axes[1], arrays, edges)
        image = [_draw_map(axis, run, edges) for axis, run in zip(axes[2:], arrays, strict=True)][-1]
        figure.colorbar(image, ax=list(axes[2:]), label="cpu in use, %", pad=0.01, aspect=12 * len(runs))
        axes[-1].set_xlabel("seconds")
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(path, dpi=110, metadata=metadata)


def _draw_use(axis: Any, runs: Sequence[RunArrays], edges: Column) -> None:  # matplotlib is not typed
    for run in runs:
        axis.stairs(100.0 * run.use(edges), edges, label=run.title, linewidth=1.3, baseline=None)
    axis.set_ylim(0.0, 104.0)
    axis.set_ylabel("cpu in use, %")
    axis.grid(alpha=0.3)
    if len(runs) > 1:
        is_short = sum(len(run.title) for run in runs) <= LEGEND_CHARS
        columns = len(runs) if is_short else 4
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=8, frameon=False)


def _draw_waiting(axis: Any, runs: Sequence[RunArrays], edges: Column) -> None:  # matplotlib is not typed
    for run in runs:
        axis.plot(edges, run.waiting(edges), label=run.title, linewidth=1.3)
    axis.set_ylim(bottom=0.0)
    axis.set_ylabel("tasks that wait")
    axis.grid(alpha=0.3)


def _draw_map(axis: Any, run: RunArrays, edges: Column) -> Any:  # matplotlib is not typed
    use = run.use_by_worker(edges)
    image = axis.imshow(
        100.0 * use,
        aspect="auto",
        origin="lower",
        extent=(edges[0], edges[-1], 0.5, run.workers + 0.5),
        vmin=0.0,
        vmax=100.0,
        cmap="viridis",
        interpolation="nearest",
    )
    axis.set_ylabel("worker")
    axis.set_title(run.title, loc="left", fontsize=9)
    return image


class RunArrays:
    """The columns of a run as arrays."""

    def __init__(self, run: PlottedRun) -> None:
        columns = run.columns
        self.title = run.title
        self.workers = len(columns.workers)
        self._worker_capacity = np.asarray(run.worker_millicores, dtype=float)
        self._capacity = float(self._worker_capacity.sum()) or 1.0
        self._began, self._over = np.asarray(columns.began), np.asarray(columns.over)
        self._cpu = np.asarray(columns.cpu, dtype=float)
        self._worker = np.asarray(columns.at_worker)
        created, started = np.asarray(columns.created), np.asarray(columns.started)
        self._created = np.sort(created)
        self._started = np.sort(started[~np.isnan(started)])
        self.end = float(self._over.max()) if len(self._over) else 0.0

    def use(self, edges: Column) -> Column:
        """The part of all cores that worked between each two edges."""
        times = np.concatenate([self._began, self._over])
        change = np.concatenate([self._cpu, -self._cpu])
        order = np.argsort(times, kind="stable")
        times, rate = times[order], np.cumsum(change[order])
        done = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(times))]) if len(times) else np.zeros(0)
        at_edges = np.interp(edges, times, done) if len(times) else np.zeros(len(edges))
        used: Column = np.diff(at_edges) / (np.diff(edges) * self._capacity)
        return used

    def waiting(self, edges: Column) -> Column:
        """How many tasks had come and had not begun, at each edge."""
        came = np.searchsorted(self._created, edges, side="right")
        began = np.searchsorted(self._started, edges, side="right")
        return (came - began).astype(float)

    def use_by_worker(self, edges: Column) -> Column:
        """The part of its cores that each worker used between each two edges; a row is several where there are many."""
        per_row = -(-self.workers // ROWS_MAX)
        rows = -(-self.workers // per_row)
        width = edges[1] - edges[0]
        row = self._worker // per_row
        used = np.zeros((rows, BINS + 1))
        first = np.clip((self._began / width).astype(int), 0, BINS - 1)
        last = np.clip((self._over / width).astype(int), 0, BINS - 1)
        # In whole bins by a sum of differences, in the bins of its two ends by what it has of them.
        np.add.at(used, (row, first), self._cpu)
        np.add.at(used, (row, last + 1), -self._cpu)
        used = np.cumsum(used, axis=1)[:, :BINS] * width
        np.subtract.at(used, (row, first), self._cpu * (self._began - first * width))
        np.subtract.at(used, (row, last), self._cpu * ((last + 1) * width - self._over))
        capacity = np.bincount(np.arange(self.workers) // per_row, weights=self._worker_capacity) * width
        part: Column = np.clip(used / np.maximum(capacity, 1.0)[:, np.newaxis], 0.0, 1.0)
        return part
