"""The unbiased estimate of pass@k from n samples (Chen et al. 2021, arXiv 2107.03374, eq. 1)."""

from __future__ import annotations

from math import comb


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k samples is right, drawn without replacement from n of which `correct` are."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples and k >= 1, there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} samples is impossible")
    return 1.0 - comb(n - correct, k) / comb(n, k)
