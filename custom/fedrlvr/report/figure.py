"""The picture of a run: pass@1 over steps, and what each site can do before and after averaging."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from fedrlvr.algorithms.scores import overall, pass_at_1
from fedrlvr.report.summary import evaluations, merged_test

SITE_COLOUR, MEAN_COLOUR, GLOBAL_COLOUR = "#9fb4c7", "#2c5f8a", "#c44e2b"


def draw_run(events: Sequence[dict], summary: dict, path: Path) -> None:
    """Write a PNG of a run that was evaluated at least once."""
    height = max(4.2, 1.2 + 0.3 * len(_labels(summary))) if _labels_as_rows(_labels(summary)) else 4.2
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, height), width_ratios=[1.35, 1], layout="constrained")
    _curves(left, events, summary)
    _matrix(right, summary)
    figure.suptitle(
        f"{summary['method']}, {len(summary['sites'])} sites, seed {summary['seed']}", x=0.01, ha="left", fontsize=12
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _curves(axes, events, summary) -> None:
    base = summary["base"]["test"]["overall"]["pass@1"]
    local = evaluations(events, "local")
    shared = evaluations(events, "global")
    for site in summary["sites"]:
        points = [
            (e["segment"] + 1, overall(e["scores"][site]["test"])["pass@1"]) for e in local if site in e["scores"]
        ]
        axes.plot(*zip((0, base), *points, strict=True), color=SITE_COLOUR, linewidth=1)
    means = [
        (e["segment"] + 1, np.mean([overall(part["test"])["pass@1"] for part in e["scores"].values()])) for e in local
    ]
    axes.plot(*zip((0, base), *means, strict=True), color=MEAN_COLOUR, linewidth=2, marker="o", markersize=4)
    axes.plot([], [], color=SITE_COLOUR, label="a site's own adapter")
    axes.plot([], [], color=MEAN_COLOUR, marker="o", markersize=4, label="mean of the sites")
    if shared:
        points = [(e["segment"] + 1, merged_test(e)["overall"]["pass@1"]) for e in shared]
        axes.plot(
            *zip(*points, strict=True),
            color=GLOBAL_COLOUR,
            marker="D",
            linestyle="",
            markersize=8,
            label="after averaging",
        )
        for x, y in points:
            where = {"xytext": (0, 10), "textcoords": "offset points", "ha": "center"}
            paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.annotate(f"{y:.2f}", (x, y), **where, color=GLOBAL_COLOUR, bbox=paper)
    axes.set(
        xlabel="segment (private steps, then a public step)",
        ylabel="pass@1, all types",
        ylim=(0, 1),
        xlim=(0, summary["segments"] * 1.04),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="upper left")


def _matrix(axes, summary) -> None:
    """pass@1 of base, sites and average by label. Labels with long names become the rows, else the columns."""
    rows = {"base": pass_at_1(summary["base"]["test"])}
    if summary["before_averaging"]:
        rows |= summary["before_averaging"][-1]["pass@1"]
    if summary["after_averaging"]:
        rows["averaged"] = summary["after_averaging"][-1]["pass@1"]
    labels = _labels(summary)
    names = [f"type {label}" if len(label) == 1 else label or "(none)" for label in labels]
    values = np.array([[row.get(label, np.nan) for label in labels] for row in rows.values()])
    down, ticks = _labels_as_rows(labels), (names, list(rows))
    if down:
        values, ticks = values.T, (list(rows), names)
    axes.imshow(values, vmin=0, vmax=1, cmap="YlGnBu", aspect="auto")
    axes.set_xticks(range(len(ticks[0])), ticks[0])
    axes.set_yticks(range(len(ticks[1])), ticks[1])
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.55 else "#222222")
    for edge in (0.5, len(rows) - 1.5):
        (axes.axvline if down else axes.axhline)(edge, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("pass@1 by type: base, each site at the end, averaged", fontsize=10, loc="left")


def _labels(summary: dict) -> list[str]:
    return [label for label in summary["base"]["test"] if label != "overall"]


def _labels_as_rows(labels: list[str]) -> bool:
    return sum(max(len(label), 6) for label in labels) > 40
