"""pass@k by label: from counts of right answers to scores, and from several parts' scores to one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean

import numpy as np
from scipy.special import stdtrit

Z = 1.959964  # of the normal distribution, for 95%
FEW = 100  # completions: a score of fewer is shown with its interval
Scores = dict[str, dict]  # label -> {"problems": n, "pass@k": mean over those n problems, ...}


@dataclass(frozen=True)
class ProblemResult:
    """The counts of one problem's completions.

    `correct`, `truncated`, `unanswered` (nothing to judge, such as no box) and `timeouts` (verifications that a limit
    ended) are out of `samples`; `tokens` is the mean length, and `reward` the mean reward, in which half right counts.
    """

    id: str
    label: str
    samples: int
    correct: int
    truncated: int
    unanswered: int
    timeouts: int
    tokens: float
    reward: float


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k samples is right, drawn without replacement from n of which `correct` are.

    The unbiased estimate of pass@k from n samples (Chen et al. 2021, arXiv 2107.03374, eq. 1).
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples and k >= 1, there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} samples is impossible")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def wilson_interval(mean: float, count: float) -> tuple[float, float]:
    """95% interval of a share that was found to be `mean` in `count` independent draws (Wilson 1927). It lies within 0
    and 1, and says of two right answers out of two: between 0.34 and 1."""
    square = Z**2 / count
    middle = (mean + square / 2) / (1 + square)
    half = (mean * (1 - mean) * square + square**2 / 4) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def score_interval(values: Sequence[float], samples: int) -> tuple[float, float]:
    """95% interval of the mean of one problem's score or more, each from `samples` completions: how far it would move
    with other problems of the same kind.

    Wilson's, with as many independent draws as the spread of the scores tells (the effective sample size of Korn and
    Graubard 1998): at least the number of problems, as completions of one problem are alike, at most that of all
    completions.
    """
    mean, problems = fmean(values), len(values)
    spread = float(np.var(values, ddof=1)) / problems if problems > 1 else 0.0
    most = problems * samples if 0 < mean < 1 else problems
    if spread == 0:
        return wilson_interval(mean, most if problems > 1 else 1)
    student = float(stdtrit(problems - 1, 0.975))  # as the spread is known from so few problems only
    effective = mean * (1 - mean) / spread * (Z / student) ** 2
    return wilson_interval(mean, min(max(effective, problems), most))


def interval_of_few(mean: float, problems: int, samples: int) -> tuple[float, float] | None:
    """The interval without which a score of fewer than 100 completions would look like a fact; None for one of more.
    Of each problem only the mean is known, so that problems count as draws: wider than `score_interval`."""
    return wilson_interval(mean, problems) if problems * samples < FEW else None


def scores_by_label(results: Iterable[ProblemResult], ks: Sequence[int]) -> Scores:
    """pass@k of each label, labels sorted; no `overall`."""
    return {
        label: {"problems": len(part)} | {f"pass@{k}": fmean(_passes(part, k)) for k in ks}
        for label, part in _by_label(results).items()
    }


def scores_with_intervals(results: Sequence[ProblemResult], ks: Sequence[int]) -> Scores:
    """`overall`, then each label that is not empty: its number of "problems", shares, means, and
    {"pass@k": {"mean", "low", "high"}}.

    low and high are the 95% interval over problems (`score_interval`).
    """
    parts = {"overall": list(results)} | {label: part for label, part in _by_label(results).items() if label}
    return {label: _with_intervals(part, ks) for label, part in parts.items()}


def merge_scores(parts: Iterable[Scores]) -> Scores:
    """One set of scores from several parts, `overall` first; means are weighted by the number of problems."""
    total: dict[str, dict[str, float]] = {}
    for part in parts:
        for label, scores in part.items():
            for target in (total.setdefault(label, {}), total.setdefault("overall", {})):
                count = scores["problems"]
                for name, value in scores.items():
                    target[name] = target.get(name, 0) + (count if name == "problems" else value * count)
    return {
        label: {name: value if name == "problems" else value / sums["problems"] for name, value in sums.items()}
        for label, sums in sorted(total.items(), key=lambda item: (item[0] != "overall", item[0]))
    }


def overall(*parts: Scores) -> dict[str, float]:
    """The scores over all labels of all parts."""
    return merge_scores(parts)["overall"]


def pass_at_1(scores: Scores) -> dict[str, float]:
    return {label: values["pass@1"] for label, values in scores.items()}


def _by_label(results: Iterable[ProblemResult]) -> dict[str, list[ProblemResult]]:
    parts: dict[str, list[ProblemResult]] = {}
    for result in results:
        parts.setdefault(result.label, []).append(result)
    return dict(sorted(parts.items()))


def _passes(results: Iterable[ProblemResult], k: int) -> list[float]:
    return [pass_at_k(result.samples, result.correct, k) for result in results]


def _with_intervals(results: Sequence[ProblemResult], ks: Sequence[int]) -> dict:
    samples = sum(result.samples for result in results)
    scores: dict = {
        "problems": len(results),
        "right": sum(result.correct for result in results) / samples,
        "reward": sum(result.reward * result.samples for result in results) / samples,
        "tokens": fmean(result.tokens for result in results),
        "truncated": sum(result.truncated for result in results) / samples,
        "unanswered": sum(result.unanswered for result in results) / samples,
        "verifier/timeouts": sum(result.timeouts for result in results),
    }
    for k in ks:
        values = _passes(results, k)
        draws = max(result.samples for result in results) if k == 1 else 1  # one pass@k is of all of them together
        low, high = score_interval(values, draws)
        scores[f"pass@{k}"] = {"mean": fmean(values), "low": low, "high": high}
    return scores
