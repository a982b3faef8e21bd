"""What a measurement came to: pass@k with its interval, overall and by label, as data and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fedrlvr.algorithms.pass_at_k import bootstrap_interval, pass_at_k
from fedrlvr.learning.results import ProblemResult
from fedrlvr.streams import stream


def scores_by_label(results: Sequence[ProblemResult], ks: Sequence[int], seed: int) -> dict[str, dict]:
    """{label: {"problems", "reward", "pass@k": {"mean", "low", "high"}, ...}}, `overall` first; 95% intervals over
    problems."""
    labels = sorted({result.label for result in results})
    parts = {"overall": list(results)} | {label: [t for t in results if t.label == label] for label in labels if label}
    return {label: _scores(part, ks, seed, label) for label, part in parts.items()}


def print_scores(scores: dict[str, dict], ks: Iterable[int], title: str, console: Console) -> None:
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


def _interval(score: dict) -> str:
    ends = "" if score["low"] is None else f" ({score['low']:.2f}-{score['high']:.2f})"
    return f"{score['mean']:.3f}{ends}"


def _scores(results: Sequence[ProblemResult], ks: Sequence[int], seed: int, label: str) -> dict:
    samples = sum(t.samples for t in results)
    scores = {
        "problems": len(results),
        "reward": sum(t.correct for t in results) / samples,
        "tokens": sum(t.tokens for t in results) / len(results),
        "truncated": sum(t.truncated for t in results) / samples,
        "verifier/timeouts": sum(t.timeouts for t in results),
    }
    for k in ks:
        values = [pass_at_k(t.samples, t.correct, k) for t in results]
        low, high = bootstrap_interval(values, stream(seed, "bootstrap", label, k))
        ends = {"low": low, "high": high} if len(values) > 1 else {"low": None, "high": None}
        scores[f"pass@{k}"] = {"mean": sum(values) / len(values)} | ends
    return scores
