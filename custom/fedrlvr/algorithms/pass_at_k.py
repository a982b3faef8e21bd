"""The unbiased estimate of pass@k from n samples (Chen et al. 2021, arXiv 2107.03374, eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k samples is right, drawn without replacement from n of which `correct` are."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples and k >= 1, there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} samples is impossible")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def bootstrap_interval(
    values: Sequence[float], random: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over problems (Efron 1979): problems are drawn again with replacement.

    Says how far the score would move with other problems of the same kind; one problem says nothing, (nan, nan).
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    draws = np.asarray(values, dtype=float)[random.integers(len(values), size=(resamples, len(values)))]
    low, high = np.quantile(draws.mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
