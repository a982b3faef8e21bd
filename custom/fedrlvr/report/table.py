"""Results as tables in the terminal: of a run, and of a measurement."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.table import Column, Table

from fedrlvr.algorithms.scores import Scores, interval_of_few
from fedrlvr.printable import counted
from fedrlvr.report.cells import size
from fedrlvr.report.incidents import incident_lines
from fedrlvr.report.learning import silence_in_words
from fedrlvr.report.pictures import short
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import MEASURED_ON, at_the_end

# Widths in a table of scores: a score, a reward, and all else, where a label has at least nine characters.
PASS_COLUMN = len("0.499 (0.48-0.52)  ")
REWARD_COLUMN = len("reward ")
OTHER_COLUMNS = len(" addition_  problems  tokens  off  answer ")


def print_summary(summary: dict, console: Screen) -> None:
    """Base and final pass@1 by label and on each site's held-out problems; then bytes, swaps, time and incidents."""
    last = "final" if summary["finished"] else "last"
    table = _table(f"{summary['method']}, seed {summary['seed']}: pass@1", "measured on", "base", last)
    base, final = summary["base"], summary["final"]
    for label in base["test"] if len(base["test"]) > 2 else ["overall"]:
        name = label if label == "overall" else f"type {label or '(none)'}"
        table.add_row(f"test, {name}", *(_pass_at_1(part["test"].get(label), part) for part in (base, final)))
    for site in base.get("heldout", {}):
        cells = (_pass_at_1(part.get("heldout", {}).get(site), part) for part in (base, final))
        table.add_row(f"{site}, own held-out", *cells)
    console.print(table)
    _print_matrix(summary, console)
    _print_best(summary, console)
    _print_cost(summary, console)


def _print_best(summary: dict, console: Screen) -> None:
    best = summary["best"]
    if best and best["round"] + 1 < summary["rounds"]:
        on = MEASURED_ON[best["measured_on"]]
        rounds = f"{best['round'] + 1} of {summary['rounds']}"
        console.print(
            f"best round: {rounds}, pass@1 {best['pass@1']:.3f} on {on}; after the last one {best['last']:.3f}"
        )


def print_incidents(summary: dict, console: Screen) -> None:
    for line in incident_lines(summary):
        console.print(line)
    for site, found in summary["learning"].items():
        if not found["taught"]:
            console.print(f"WARNING: {silence_in_words(site, found)}", style="bold yellow")


def print_scores(scores: Scores, ks: Sequence[int], title: str, console: Screen) -> None:
    """Print what `scores_with_intervals` returned, one row per label; the mean reward where something was half right.
    Where the `ks` do not fit beside each other, they are in several tables."""
    partial = any(part["reward"] > part["right"] + 1e-9 for part in scores.values())
    fitting = max(1, (console.width - OTHER_COLUMNS - partial * REWARD_COLUMN) // PASS_COLUMN)
    for start in range(0, len(ks), fitting):
        some = ks[start : start + fitting]
        names = ("problems", *(f"pass@{k}" for k in some), *["reward"] * partial, "tokens", "cut\noff", "no\nanswer")
        columns = (Column(overflow="fold"), *(Column(name, justify="right", no_wrap=True) for name in names))
        table = Table(*columns, title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
        for label, part in scores.items():
            passes = (_interval(part[f"pass@{k}"]) for k in some)
            rest = [f"{part['reward']:.3f}"] * partial + [f"{part['tokens']:.0f}"]
            rest += (f"{part[name]:.0%}" for name in ("truncated", "unanswered"))
            table.add_row(short(label), str(part["problems"]), *passes, *rest)
        console.print(table)


def _table(title: str, rows: str, *columns: str) -> Table:
    numbers = (Column(name, justify="right") for name in columns)
    return Table(rows, *numbers, title=title, title_justify="left")


def _print_matrix(summary: dict, console: Screen) -> None:
    """One row per label: there may be many, and their names may be long. Where the sites do not fit beside each other,
    they are in several tables."""
    if not summary["before_averaging"]:
        return
    columns = at_the_end(summary)
    labels = sorted({label for _, scores in columns for label in scores} - {"overall"})
    labels_width = min(max(4, *map(cell_len, labels)), console.width // 2)
    fitting = max(1, (console.width - labels_width - 4) // (max(cell_len(name) for name, _ in columns) + 3))
    for start in range(0, len(columns), fitting):
        part = columns[start : start + fitting]
        title = "every site's own adapter at the end of its last round, by type" if start == 0 else ""
        table = _table(title, "type", *(name for name, _ in part))
        for label in labels:
            values = (scores.get(label) for _, scores in part)
            table.add_row(label or "(none)", *("-" if value is None else f"{value:.2f}" for value in values))
        console.print(table)
    if doubt := doubt_in_words(summary["measured"]):
        console.print(doubt, soft_wrap=True)


def doubt_in_words(measured: dict) -> str:
    """What to say beside scores by label that are of few completions; "" where they are of enough."""
    problems, samples = min(measured["problems"].values(), default=0), measured["samples"]
    few = problems and interval_of_few(0.5, problems, samples)
    of = f"{counted(problems, 'problem')} of a type, {counted(samples, 'completion')} each"
    return f"{of}: ± {few[1] - 0.5:.2f} (95%)" if few else ""


def _print_cost(summary: dict, console: Screen) -> None:
    sent, swap = summary["bytes"], summary["swap"]
    console.print(
        f"sent: adapters {_both_ways(sent['adapter'])}, answers {_both_ways(sent['responses'])}\n"
        f"swap: {swap['fraction']:.0%} of public completions, {swap['rescued_groups']} of {swap['all_wrong_groups']} "
        f"all-wrong groups rescued\n"
        f"time: {_time(summary)}"
    )
    print_incidents(summary, console)


def _time(summary: dict) -> str:
    seconds = summary["seconds"]
    if not summary["finished"]:  # how long sites worked is told at the end
        return f"{seconds['wall']:.0f} s until it stopped"
    waiting = f"{seconds['waiting']:.0f} s waiting"
    at_work = f"{seconds['compute']:.0f} s a site at work + {waiting}"
    asking = at_work if seconds["compute"] else f"{waiting} for sites that do not report how long they worked"
    around = f" + {seconds['start_and_stop']:.0f} s starting and stopping" if seconds["start_and_stop"] else ""
    return f"{seconds['wall']:.0f} s = {asking}{around}"


def _pass_at_1(score: dict | None, measured: dict) -> str:
    if not score:
        return "-"
    few = interval_of_few(score["pass@1"], int(score["problems"]), measured["samples"])
    return _interval({"mean": score["pass@1"], "low": few[0], "high": few[1]}) if few else f"{score['pass@1']:.3f}"


def _interval(score: dict) -> str:
    return f"{score['mean']:.3f} ({score['low']:.2f}-{score['high']:.2f})"


def _both_ways(directions: dict) -> str:
    return f"{size(directions['up'])} up, {size(directions['down'])} down"
