"""Several runs' summaries as one table: methods by seeds, with means and how sure of them one may be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# Two-sided 95% quantiles of Student's t for n - 1 = 1 ... 9 degrees of freedom; from 11 runs on 2.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def comparison(summaries: Sequence[dict], reference: str = "pubswap") -> str:
    """A Markdown table of final pass@1 over all labels: one row a method, best mean first.

    The last column is the mean difference to `reference` over the seeds that both ran: runs of one seed share problems
    and base model, so the paired difference says more than two intervals.
    """
    results: dict[str, dict[int, float]] = {}
    for summary in summaries:
        if summary["finished"]:
            final = summary["final"]["test"]["overall"]["pass@1"]
            results.setdefault(summary["method"], {})[summary["seed"]] = final
    seeds = sorted({seed for by_seed in results.values() for seed in by_seed})
    head = ["method", *(f"seed {seed}" for seed in seeds), "mean", f"{reference} ahead by"]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for method, by_seed in sorted(results.items(), key=lambda item: -statistics.mean(item[1].values())):
        shared = [seed for seed in seeds if seed in by_seed and seed in results.get(reference, {})]
        ahead = [results[reference][seed] - by_seed[seed] for seed in shared]
        cells = [f"{by_seed[seed]:.2f}" if seed in by_seed else "" for seed in seeds]
        difference = mean_and_interval(ahead) if method != reference and ahead else ""
        lines.append(_row([f"`{method}`", *cells, mean_and_interval(list(by_seed.values())), difference]))
    return "\n".join(lines)


def mean_and_interval(values: Sequence[float]) -> str:
    """ "mean ± half-width" of the 95% t-interval; only the mean of a single value."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    quantile = T_95[len(values) - 2] if len(values) - 2 < len(T_95) else 2.0
    return f"{mean:.2f} ± {quantile * statistics.stdev(values) / len(values) ** 0.5:.2f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
