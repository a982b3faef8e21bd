"""Problems by set and label, as a picture and as a table. The last two sets are shared by all sites."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from rich.table import Column, Table

from fedrlvr.report.pictures import AS_WRITTEN, short
from fedrlvr.report.screen import Screen
from fedrlvr.types import Problem

BAR_COLOUR, HELDOUT_COLOUR, SHARED_COLOUR = "#2c5f8a", "#9fb4c7", "#c44e2b"
MOST_LABELS, OTHER, NO_LABEL = 20, "other", "no label"
Counts = dict[str, Counter]  # set -> label -> problems: the sites' private sets, then public and test
SHARED = 2


def label_counts(sets: Mapping[str, Sequence[Problem]]) -> Counts:
    """Problems by set and label, the most frequent labels first; if there are many, the rest is called "other"."""
    exact = {name: Counter(problem.label or NO_LABEL for problem in problems) for name, problems in sets.items()}
    total = sum(exact.values(), Counter())
    ordered = sorted(total, key=lambda label: (-total[label], label))
    shown = ordered if len(ordered) <= MOST_LABELS + 1 else ordered[:MOST_LABELS]
    counts: Counts = {}
    for name, labels in exact.items():
        counts[name] = Counter({label: labels[label] for label in shown})
        if len(shown) < len(ordered):
            counts[name][OTHER] += labels.total() - counts[name].total()
    return counts


def print_partition(counts: Counts, heldout: Mapping[str, int], console: Screen) -> None:
    """Every set's size and its largest labels; `heldout` sizes by site, empty if there are none."""
    sizes = (Column(name, justify="right") for name in ("problems", *(["held out"] if heldout else [])))
    table = Table("set", *sizes, "largest labels", title="problems by set", title_justify="left")
    for row, (name, labels) in enumerate(counts.items()):
        if row == len(counts) - SHARED:
            table.add_section()
        largest = [(label, number) for label, number in labels.most_common(3) if number]
        more = sum(number > 0 for number in labels.values()) - len(largest)
        text = ", ".join(f"{label} {number:,}" for label, number in largest) + (f" and {more} more" if more else "")
        size = [f"{heldout[name]:,}" if name in heldout else ""] if heldout else []
        table.add_row(name, f"{labels.total():,}", *size, text)
    console.print(table)


@rc_context(AS_WRITTEN)
def draw_partition(counts: Counts, heldout: Mapping[str, int], title: str, path: Path) -> None:
    """Write a PNG: the size of each set, and its count by label if there are several labels."""
    labels = list(next(iter(counts.values())))
    height, widths = 1.3 + 0.34 * len(counts), (1.6 + 0.55 * len(labels), 3.0)
    if len(labels) == 1:
        figure = Figure(figsize=(7, height), layout="constrained")
        named = bars = figure.subplots()
    else:
        figure = Figure(figsize=(sum(widths), height + 1.2), layout="constrained")
        named, bars = figure.subplots(1, 2, width_ratios=widths, sharey=True)
        _cells(named, counts, labels)
        bars.tick_params(axis="y", labelleft=False, length=0)
    rows = _rows(len(counts))
    named.set_yticks(rows, [short(name) for name in counts])
    named.set_ylim(rows[-1] + 0.55, -0.55)
    named.tick_params(length=0)
    _bars(bars, counts, heldout)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=130)


def _rows(count: int) -> list[float]:
    """The rows' positions from the top; the shared sets are set a little apart."""
    return [row + (0.35 if row >= count - SHARED else 0.0) for row in range(count)]


def _cells(axes, counts: Counts, labels: list[str]) -> None:
    """The counts by set and label. Sites have one colour, shared sets another; the largest count of each is darkest."""
    values = [[labels_of[label] for label in labels] for labels_of in counts.values()]
    rows, sites = _rows(len(values)), len(values) - SHARED
    for block, colours, ceiling in ((slice(0, sites), "GnBu", 1.25), (slice(sites, None), "Oranges", 2.5)):
        largest = max(1, *map(max, values[block]))
        extent = (-0.5, len(labels) - 0.5, rows[block][-1] + 0.5, rows[block][0] - 0.5)
        norm = PowerNorm(0.6, 0, ceiling * largest)
        axes.imshow(values[block], norm=norm, cmap=colours, aspect="auto", extent=extent)
        for y, row in zip(rows[block], values[block], strict=True):
            for x, value in enumerate(row):
                colour = "#a0a0a0" if value == 0 else "white" if value > 0.4 * ceiling * largest else "#222222"
                axes.text(x, y, f"{value:,}", ha="center", va="center", color=colour, fontsize=8)
    for x in range(1, len(labels)):
        axes.axvline(x - 0.5, color="white", linewidth=1)
    for y in rows[1:]:
        axes.axhline(y - 0.5, color="white", linewidth=1)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    slanted = {"rotation": 38, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(labels)), [short(label) for label in labels], fontsize=9, **slanted)
    axes.spines[:].set_visible(False)
    axes.set_title("problems by label", fontsize=10, loc="left")


def _bars(axes, counts: Counts, heldout: Mapping[str, int]) -> None:
    rows, sizes = _rows(len(counts)), [labels.total() for labels in counts.values()]
    below, sites = [heldout.get(name, 0) for name in counts], len(counts) - SHARED
    axes.barh(rows[:sites], sizes[:sites], color=BAR_COLOUR, height=0.7, label="private")
    ends = axes.barh(rows, below, left=sizes, color=HELDOUT_COLOUR, height=0.7, label="held out" if heldout else None)
    axes.barh(rows[sites:], sizes[sites:], color=SHARED_COLOUR, height=0.7, label="shared by all sites")
    texts = [f"{size:,}" + (f" + {more:,}" if more else "") for size, more in zip(sizes, below, strict=True)]
    axes.bar_label(ends, texts, padding=4, fontsize=8)
    axes.set_xlim(0, 1.4 * max(size + more for size, more in zip(sizes, below, strict=True)))
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.set_title("problems in all", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(-0.02, -0.02), handlelength=1)
