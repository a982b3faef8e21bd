"""Means over runs, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self

from scipy.stats import t as student_t


@dataclass(frozen=True)
class Mean:
    """The mean of `count` values and the half-width of its 95% t-interval, None for one value."""

    value: float
    half: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Raises statistics.StatisticsError for no values."""
        if len(values) < 2:
            return cls(fmean(values), None, len(values))
        quantile = float(student_t.ppf(0.975, len(values) - 1))
        return cls(fmean(values), quantile * stdev(values) / len(values) ** 0.5, len(values))

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.half is None else f"{self.value:.2f} ± {self.half:.2f}"
