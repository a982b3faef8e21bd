"""Several runs' summaries as one table: methods by seeds, with means and 95% intervals."""

import statistics
from collections.abc import Sequence

from scipy.stats import t as student_t

REFERENCE = "pubswap"


def comparison(summaries: Sequence[dict]) -> str:
    """A Markdown table of final pass@1 over all labels: one row per method, the best mean first.

    The last column is the mean of pubswap minus the method, over the seeds that both ran. Runs of one seed share
    problems and base model, so this paired difference says more than two separate intervals.
    """
    results: dict[str, dict[int, float]] = {}
    for summary in summaries:
        if summary["finished"]:
            final = summary["final"]["test"]["overall"]["pass@1"]
            results.setdefault(summary["method"], {})[summary["seed"]] = final
    seeds = sorted({seed for by_seed in results.values() for seed in by_seed})
    head = ["method", *(f"seed {seed}" for seed in seeds), "mean", f"{REFERENCE} ahead by"]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for method, by_seed in sorted(results.items(), key=lambda item: -statistics.mean(item[1].values())):
        shared = [seed for seed in seeds if seed in by_seed and seed in results.get(REFERENCE, {})]
        ahead = [results[REFERENCE][seed] - by_seed[seed] for seed in shared]
        cells = [f"{by_seed[seed]:.2f}" if seed in by_seed else "" for seed in seeds]
        difference = mean_and_interval(ahead) if method != REFERENCE and ahead else ""
        lines.append(_row([f"`{method}`", *cells, mean_and_interval(list(by_seed.values())), difference]))
    return "\n".join(lines)


def mean_and_interval(values: Sequence[float]) -> str:
    """ "mean ± half-width" of the 95% t-interval; for a single value only the mean."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    quantile = student_t.ppf(0.975, len(values) - 1)
    return f"{mean:.2f} ± {quantile * statistics.stdev(values) / len(values) ** 0.5:.2f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
