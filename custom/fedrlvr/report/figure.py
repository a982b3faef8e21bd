"""The picture of a run: pass@1 over steps, and what each site can do before and after averaging."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedrlvr.algorithms.scores import overall, pass_at_1
from fedrlvr.printable import counted
from fedrlvr.report.pictures import AS_WRITTEN, short
from fedrlvr.report.summary import at_the_end, evaluations, merged_test
from fedrlvr.report.table import doubt_in_words

MOST_LABELS = 60  # of the most problems
SITE_COLOUR, MEAN_COLOUR, GLOBAL_COLOUR = "#9fb4c7", "#2c5f8a", "#c44e2b"


@rc_context(AS_WRITTEN)
def draw_run(events: Sequence[dict], summary: dict, path: Path) -> None:
    """Write a PNG of a run that was evaluated at least once."""
    problems = {label: part["problems"] for label, part in summary["base"]["test"].items() if label != "overall"}
    largest = sorted(problems, key=problems.get, reverse=True)[:MOST_LABELS]
    labels = [label for label in problems if label in largest]
    as_rows = sum(max(len(label), 6) for label in labels) > 40
    figure = Figure(figsize=(11, max(4.2, 1.2 + 0.3 * len(labels)) if as_rows else 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    _curves(left, events, summary)
    _matrix(right, summary, labels, as_rows)
    title = f"{summary['method']}, {counted(len(summary['sites']), 'site')}, seed {summary['seed']}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=130)


def _curves(axes, events, summary) -> None:
    start = (0, summary["base"]["test"]["overall"]["pass@1"])
    curves = [
        (e["segment"] + 1, {site: overall(part["test"])["pass@1"] for site, part in e["scores"].items()})
        for e in evaluations(events, "local")
    ]
    for site in summary["sites"]:
        points = [(x, own[site]) for x, own in curves if site in own]
        axes.plot(*zip(start, *points, strict=True), color=SITE_COLOUR, linewidth=1)
    means = [(x, np.mean(list(own.values()))) for x, own in curves]
    axes.plot(*zip(start, *means, strict=True), color=MEAN_COLOUR, linewidth=2, marker="o", markersize=4)
    axes.plot([], [], color=SITE_COLOUR, label="a site's own adapter")
    axes.plot([], [], color=MEAN_COLOUR, marker="o", markersize=4, label="mean of the sites")
    if points := [(e["segment"] + 1, merged_test(e)["overall"]["pass@1"]) for e in evaluations(events, "global")]:
        axes.plot(*zip(*points, strict=True), "D", color=GLOBAL_COLOUR, markersize=8, label="after averaging")
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
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="upper left")


def _matrix(axes, summary, labels: list[str], as_rows: bool) -> None:
    """pass@1 of base, sites and average by label; `as_rows`: the labels are the rows, else the columns."""
    scores = [("base", pass_at_1(summary["base"]["test"])), *at_the_end(summary)]
    names = [f"type {label}" if len(label) == 1 else short(label) or "(none)" for label in labels]
    values = np.array([[part.get(label, np.nan) for label in labels] for _, part in scores])
    columns, rows = names, [short(name) for name, _ in scores]
    if as_rows:
        values, columns, rows = values.T, rows, columns
    axes.imshow(values, vmin=0, vmax=1, cmap="YlGnBu", aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.55 else "#222222")
    for edge in (0.5, len(scores) - 1.5):
        (axes.axvline if as_rows else axes.axhline)(edge, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title, doubt = "pass@1 by type: base, each site at the end, averaged", doubt_in_words(summary["measured"])
    axes.set_title(f"{title}\n{doubt}" if doubt else title, fontsize=10, loc="left")
