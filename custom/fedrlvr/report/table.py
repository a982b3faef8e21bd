"""Results as tables in the terminal: of a run, and of a measurement."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fedrlvr.algorithms.scores import Scores
from fedrlvr.report.incidents import incident_lines


def print_summary(summary: dict, console: Console) -> None:
    """Base and final pass@1 by label and on each site's held-out problems; then bytes, swaps, time and incidents."""
    table = Table(title=f"{summary['method']}, seed {summary['seed']}: pass@1", title_justify="left")
    table.add_column("measured on")
    for name in ("base", "final"):
        table.add_column(name, justify="right")
    base, final = summary["base"], summary["final"]
    for label in base["test"] if len(base["test"]) > 2 else ["overall"]:
        table.add_row(
            f"test, {label}" if label == "overall" else f"test, type {label or '(none)'}",
            *(_pass_at_1(scores["test"].get(label)) for scores in (base, final)),
        )
    for site in base.get("heldout", {}):
        table.add_row(
            f"{site}, own held-out", _pass_at_1(base["heldout"][site]), _pass_at_1(final.get("heldout", {}).get(site))
        )
    console.print(table)
    _print_matrix(summary, console)
    _print_cost(summary, console)


def print_incidents(summary: dict, console: Console) -> None:
    for line in incident_lines(summary):
        console.print(line, markup=False)


def print_scores(scores: Scores, ks: Iterable[int], title: str, console: Console) -> None:
    """Print what `scores_with_intervals` returned, one row per label."""
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    for name in ("", "problems", *(f"pass@{k}" for k in ks), "tokens", "cut off"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=bool(name))
    for label, part in scores.items():
        values = (part[f"pass@{k}"] for k in ks)
        table.add_row(
            label,
            str(part["problems"]),
            *map(_interval, values),
            f"{part['tokens']:.0f}",
            f"{part['truncated']:.0%}",
        )
    console.print(table)


def _print_matrix(summary: dict, console: Console) -> None:
    """One row per label: there may be many, and their names may be long."""
    if not summary["before_averaging"]:
        return
    columns = dict(summary["before_averaging"][-1]["pass@1"])
    if summary["after_averaging"]:
        columns["averaged"] = summary["after_averaging"][-1]["pass@1"]
    table = Table(title="every site's own adapter at the end of its last round, by type", title_justify="left")
    for name in ("type", *columns):
        table.add_column(name, justify="left" if name == "type" else "right")
    for label in sorted({label for scores in columns.values() for label in scores} - {"overall"}):
        values = (scores.get(label) for scores in columns.values())
        table.add_row(label or "(none)", *("-" if value is None else f"{value:.2f}" for value in values))
    console.print(table)


def _print_cost(summary: dict, console: Console) -> None:
    sent, seconds, swap = summary["bytes"], summary["seconds"], summary["swap"]
    waiting = f"{seconds['waiting']:.0f} s waiting"
    if seconds["compute"]:
        asking = f"{seconds['compute']:.0f} s a site at work + {waiting}"
    else:
        asking = f"{waiting} for sites that do not report how long they worked"
    console.print(
        f"sent: adapters {_kilobytes(sent['adapter'])}, responses {_kilobytes(sent['responses'])}\n"
        f"swap: {swap['fraction']:.0%} of public completions, {swap['rescued_groups']} of {swap['all_wrong_groups']} "
        f"all-wrong groups rescued\n"
        f"time: {seconds['wall']:.0f} s = {asking} + {seconds['start_and_stop']:.0f} s starting and stopping"
    )
    print_incidents(summary, console)


def _pass_at_1(scores: dict | None) -> str:
    return f"{scores['pass@1']:.3f}" if scores else "-"


def _interval(score: dict) -> str:
    ends = "" if score["low"] is None else f" ({score['low']:.2f}-{score['high']:.2f})"
    return f"{score['mean']:.3f}{ends}"


def _kilobytes(directions: dict) -> str:
    return f"{directions['up'] / 1e3:,.1f} kB up, {directions['down'] / 1e3:,.1f} kB down"
