"""Who has what: problems by site and label, as a picture and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import PowerNorm
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedrlvr.types import Problem

BAR_COLOUR, HELDOUT_COLOUR, SHARED_COLOUR = "#2c5f8a", "#9fb4c7", "#c44e2b"
MOST_LABELS, OTHER, NO_LABEL = 20, "other", "no label"
Counts = dict[str, Counter]  # set -> label -> problems


def label_counts(sets: Mapping[str, Sequence[Problem]]) -> Counts:
    """Problems by set and label, for the most frequent labels first; the rest is called "other"."""
    exact = {name: Counter(problem.label or NO_LABEL for problem in problems) for name, problems in sets.items()}
    total = sum(exact.values(), Counter())
    ordered = sorted(total, key=lambda label: (-total[label], label))
    shown = set(ordered if len(ordered) <= MOST_LABELS + 1 else ordered[:MOST_LABELS])
    counts: Counts = {}
    for name, labels in exact.items():
        counts[name] = Counter({label: 0 for label in ordered if label in shown})
        for label, number in labels.items():
            counts[name][label if label in shown else OTHER] += number
    return counts


def print_partition(private: Counts, heldout: Mapping[str, int], shared: Mapping[str, int], console: Console) -> None:
    """Every site's size and its largest labels, then the shared sets."""
    table = Table(title="problems by site", title_justify="left")
    table.add_column("site")
    for name in ("private", *(["held out"] if heldout else [])):
        table.add_column(name, justify="right")
    table.add_column("largest labels")
    for site, labels in private.items():
        largest = [f"{label} {number:,}" for label, number in labels.most_common(3) if number]
        more = sum(1 for number in labels.values() if number) - len(largest)
        sizes = [f"{labels.total():,}", *([f"{heldout[site]:,}"] if heldout else [])]
        table.add_row(site, *sizes, escape(", ".join(largest)) + (f" and {more} more" if more else ""))
    table.add_section()
    for name, size in shared.items():
        table.add_row(name, f"{size:,}", *([""] if heldout else []), "shared by all sites")
    console.print(table)


def draw_partition(
    private: Counts, heldout: Mapping[str, int], shared: Mapping[str, int], title: str, path: Path
) -> None:
    """Write a PNG: site x label counts of the private problems where there are labels, and the size of every set."""
    labels = sorted(set().union(*private.values()), key=lambda label: -sum(c[label] for c in private.values()))
    labels = [label for label in labels if label != OTHER] + [OTHER] * (OTHER in labels)
    height = 2.1 + 0.34 * (len(private) + len(shared))
    if len(labels) == 1:
        figure, bars = plt.subplots(figsize=(7, height), layout="constrained")
        _names(bars, [*private, *shared])
    else:
        widths = (1.6 + 0.52 * len(labels), 3.0)
        figure, (cells, bars) = plt.subplots(
            1, 2, figsize=(sum(widths), height + 0.6), width_ratios=widths, sharey=True, layout="constrained"
        )
        _cells(cells, private, labels)
        _names(cells, [*private, *shared])
        bars.tick_params(axis="y", labelleft=False)
    _bars(bars, {site: labels.total() for site, labels in private.items()}, heldout, shared)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _rows(sites: int, shared: int) -> list[float]:
    """Heights of the rows, the shared sets a little apart."""
    return [*map(float, range(sites)), *(sites + 0.4 + k for k in range(shared))]


def _names(axes, names: list[str]) -> None:
    rows = _rows(len(names) - 2, 2)
    axes.set_yticks(rows, names)
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.tick_params(length=0)


def _cells(axes, private: Counts, labels: list[str]) -> None:
    values = [[counts[label] for label in labels] for counts in private.values()]
    largest = max(map(max, values))
    axes.imshow(values, norm=PowerNorm(0.5, 0, largest), cmap="YlGnBu", aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            colour = "#b8b8b8" if value == 0 else "white" if value > 0.35 * largest else "#222222"
            axes.text(x, y, f"{value:,}" if value else "·", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), [_short(label) for label in labels], rotation=40, ha="right", fontsize=9)
    axes.spines[:].set_visible(False)
    axes.set_title("private problems by label", fontsize=10, loc="left")


def _bars(axes, private: Mapping[str, int], heldout: Mapping[str, int], shared: Mapping[str, int]) -> None:
    rows = _rows(len(private), len(shared))
    below = [heldout.get(site, 0) for site in private]
    axes.barh(rows[: len(private)], private.values(), color=BAR_COLOUR, height=0.7, label="private")
    if heldout:
        axes.barh(
            rows[: len(private)], below, left=list(private.values()), color=HELDOUT_COLOUR, height=0.7, label="held out"
        )
    axes.barh(rows[len(private) :], shared.values(), color=SHARED_COLOUR, height=0.7, label="shared by all sites")
    ends = [*(p + h for p, h in zip(private.values(), below, strict=True)), *shared.values()]
    for row, end in zip(rows, ends, strict=True):
        axes.annotate(f"{end:,}", (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, max(ends) * 1.22)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.set_title("problems", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.01))


def _short(label: str, most: int = 26) -> str:
    label = label.replace("$", r"\$")  # no mathematics in a data set's labels
    return label if len(label) <= most else label[: most - 1] + "…"
