"""The figures of a comparison: curves with bands, who can do what, live public groups, and variants side by side."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedrlvr.comparison.plan import Study
from fedrlvr.comparison.statistics import ByPair, ended, finals, mean_curve, mean_live, mean_matrix
from fedrlvr.report.pictures import AS_WRITTEN, short

# Told apart by lightness, too, so that they can be told apart in print and by the colour-blind.
COLOURS = {
    "pubswap": "#c44e2b",
    "replace-all": "#e3a34a",
    "fedavg+public": "#2c5f8a",
    "fedavg": "#8fa9bf",
    "public-only": "#4a7c59",
    "local": "#bbbbbb",
    "centralised": "#555555",
}
SHOWN = ("pubswap", "replace-all", "fedavg+public", "fedavg")
MATRICES = ("fedavg", "pubswap")
LONGEST = 8  # characters of a type's name that fit below its column
MARK = "Results"  # the key in the picture's file that says which results it shows


@rc_context(AS_WRITTEN)
def draw_methods(study: Study, variants: Mapping[str, ByPair], path: Path, mark: str) -> None:
    """Write a picture of methods beside each other: curves of four; the sites' adapters at the end under two; and the
    public groups that teach."""
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=[1.5, 1, 1], height_ratios=[1.25, 1])
    shown = {name: variants[name] for name in SHOWN if name in variants}
    curves = figure.add_subplot(grid[:, 0])
    _curves(curves, shown)
    for column, name in enumerate((name for name in MATRICES if name in variants), start=1):
        _matrix(figure.add_subplot(grid[0, column]), name, variants[name])
    _live(figure.add_subplot(grid[1, 1:]), shown)
    figure.suptitle(study.title, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=120, metadata={MARK: mark})


@rc_context(AS_WRITTEN)
def draw_variants(study: Study, variants: Mapping[str, ByPair], path: Path, mark: str) -> None:
    """Write a picture with a line for each variant: every run as a dot, the mean and its 95% interval."""
    figure = Figure(figsize=(7, 1.1 + 0.34 * len(variants)), layout="constrained")
    axes = figure.subplots()
    for place, (name, records) in enumerate(variants.items()):
        values, mean = finals(records), ended(records)
        axes.plot(values, [place] * len(values), "o", color="#9fb4c7", markersize=4)
        colour = COLOURS["pubswap"] if name == study.reference else "#2c5f8a"
        axes.errorbar(mean.value, place, xerr=mean.half or 0, fmt="D", color=colour, capsize=4, markersize=6)
    axes.set_yticks(range(len(variants)), [short(name) for name in variants])
    axes.invert_yaxis()
    axes.set(xlabel="final pass@1: runs, mean, 95% interval over seeds", xlim=(0, 1))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(study.title, fontsize=11, loc="left")
    figure.savefig(path, dpi=120, metadata={MARK: mark})


def _curves(axes: Axes, variants: Mapping[str, ByPair]) -> None:
    for name, records in variants.items():
        colour = COLOURS.get(name, "#333333")
        start = mean_curve(records, "averaged")[:1]
        points = np.array([*start, *mean_curve(records, "own")])
        axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=2, label=name)
        low, high = points[:, 1] - points[:, 2], points[:, 1] + points[:, 2]
        axes.fill_between(points[:, 0], low, high, color=colour, alpha=0.18, linewidth=0)
        averaged = mean_curve(records, "averaged")[1:]
        axes.errorbar(*zip(*averaged, strict=True), fmt="D", color=colour, markersize=7, capsize=4)
    axes.plot([], [], "D", color="#333333", label="after averaging")
    axes.set(xlabel="segment (private steps, then a public step)", ylabel="pass@1, all types", ylim=(0, 1))
    axes.set_title("mean of the sites, and after averaging; 95% over seeds", fontsize=10, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper left")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _matrix(axes: Axes, name: str, records: ByPair) -> None:
    matrix = mean_matrix(records)
    labels = list(next(iter(matrix.values())))
    values = np.array([[part[label] for label in labels] for part in matrix.values()])
    axes.imshow(values, vmin=0, vmax=1, cmap="YlGnBu", aspect="auto")
    told = [f"type {label}" if len(label) == 1 else short(label) for label in labels]
    axes.set_xticks(range(len(labels)), told, rotation=0 if max(map(len, told)) <= LONGEST else 20)
    axes.set_yticks(range(len(matrix)), [short(site) for site in matrix])
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.55 else "#222222")
    axes.axhline(len(matrix) - 1.5, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{name}: sites at the end, averaged", fontsize=10, loc="left")


def _live(axes: Axes, variants: Mapping[str, ByPair]) -> None:
    curves = {name: points for name, records in variants.items() if (points := mean_live(records))}
    last = max((points[-1][0] for points in curves.values()), default=1)
    floor = 0.0  # below which no further name fits
    for name, points in sorted(curves.items(), key=lambda item: item[1][-1][1]):
        axes.plot(*zip(*points, strict=True), color=COLOURS.get(name, "#333333"), linewidth=2)
        mean = fmean(share for _, share in points)
        place = max(points[-1][1], floor)
        axes.text(last * 1.02, place, f"{name} (mean {mean:.0%})", fontsize=8, va="center")
        floor = place + 0.08
    axes.set(xlabel="segment", xlim=(0, last * 1.35), ylim=(0, 1.05))
    axes.set_title("share of public groups that teach (rewards differ)", fontsize=10, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
