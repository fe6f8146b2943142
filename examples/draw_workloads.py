"""Draws the pictures of docs/workloads.md: when the tasks of each pattern come, and what those of each mix ask for.

    python examples/draw_workloads.py docs/pictures

Needs matplotlib: `pip install "rota[plots]"`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rota.workloads import ARRIVALS, DURATIONS, MIXES, make_arrivals, make_durations, make_mix

SEED: Final = 1
RATE: Final = 50.0
DURATION_S: Final = 60.0
BINS: Final = 120
TASKS: Final = 300
DRAWN: Final = 20_000
MEAN_S: Final = 1.0
COLOURS: Final = {"cpu": "tab:blue", "io": "tab:green", "memory": "tab:red"}


def draw_pattern(name: str, axes: Axes) -> None:
    times = list(make_arrivals(name, rate=RATE, duration_s=DURATION_S).times(random.Random(SEED)))
    bin_s = DURATION_S / BINS
    # A count of whole tasks has a grain of its own; each weighs so much that the height is a rate.
    axes.hist(times, bins=BINS, range=(0, DURATION_S), weights=[1 / bin_s] * len(times), color="tab:blue")
    axes.axhline(RATE, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, DURATION_S), xlabel="seconds", ylabel="tasks a second", title=f"{name}, {RATE:g} a second")


def draw_mix(name: str, axes: Axes) -> None:
    rng = random.Random(SEED)
    mix = make_mix(name, durations=make_durations("exponential", mean_s=MEAN_S))
    tasks = [mix.draw(rng) for _ in range(TASKS)]
    for kind, colour in COLOURS.items():
        # Tasks of one shape ask for the same: moved a little, so that one sees how many there are.
        some = [task for task in tasks if task.work.mix == kind]
        cores = [task.resources["cpu"] / 1000 * rng.uniform(0.9, 1.1) for task in some]
        memory = [task.resources["memory"] * rng.uniform(0.9, 1.1) for task in some]
        areas = [2 + 20 * task.work.seconds for task in some]
        axes.scatter(cores, memory, s=areas, color=colour, alpha=0.4, linewidths=0, label=kind)
    axes.set(xscale="log", yscale="log", xlim=(0.05, 8), ylim=(32, 8192), xlabel="cores", ylabel="MiB", title=name)
    axes.set_xticks([0.1, 0.25, 0.5, 1, 2, 4], ["0.1", "0.25", "0.5", "1", "2", "4"])
    axes.set_yticks([64, 256, 1024, 4096], ["64", "256", "1,024", "4,096"])
    axes.minorticks_off()


def draw_durations(axes: Axes) -> None:
    for name in DURATIONS:
        rng, durations = random.Random(SEED), make_durations(name, mean_s=MEAN_S)
        longest_first = sorted((durations.draw(rng) for _ in range(DRAWN)), reverse=True)
        # Every hundredth is enough for a line; the first ones are the tail, which is what it is about.
        ranks = sorted({*range(1, 100), *range(100, DRAWN + 1, 100)})
        axes.plot([longest_first[rank - 1] for rank in ranks], [100 * rank / DRAWN for rank in ranks], label=name)
    axes.set(xscale="log", yscale="log", xlim=(0.01, 200), xlabel="longer than so many seconds", ylabel="% of tasks")
    axes.set_title(f"durations, mean {MEAN_S:g} s")
    axes.legend(fontsize="small")


def main(folder: Path) -> None:
    with mpl.rc_context({"font.size": 9}):
        for name in ARRIVALS:
            figure, axes = blank(height=2.2)
            draw_pattern(name, axes)
            save(figure, folder / f"arrivals-{name}.png")
        for name in MIXES:
            figure, axes = blank(height=2.6, width=4.5)
            draw_mix(name, axes)
            save(figure, folder / f"mix-{name}.png")
        figure, axes = blank(height=3.0, width=6.0)
        draw_durations(axes)
        save(figure, folder / "durations.png")


def blank(*, height: float, width: float = 8.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Figure, path: Path) -> None:
    # No version of what drew it: the same pictures are the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
