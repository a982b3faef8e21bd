"""What records say about variants: means with intervals, paired differences, work, and how soon a score is reached.

A pair is one seed and one base model: all variants run on the same problems from the same model there. So differences
are taken pair by pair, which leaves out what a pair's problems and model do to all of them.

Runs of one seed share their problems, and those of one base model share it, so they are not independent. Intervals are
over seeds, of means over the base models: they say what other seeds would bring, with these base models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, median

from fedrlvr.report.means import Mean

Pair = tuple[int, int]  # base model, seed
ByPair = Mapping[Pair, dict]  # the records of one variant
ALIKE = 0.1  # by how much sampled tokens may differ between variants of equal work: lengths are the model's own


class UnequalWork(ValueError):
    """Two variants that are said to do the same work did not."""


@dataclass(frozen=True)
class Reached:
    """When the reference had what another variant ended at: in the median pair, as shares of the rounds and of the
    bytes that the other had used."""

    rounds: float
    bytes: float


def by_variant(records: Sequence[dict]) -> dict[str, dict[Pair, dict]]:
    """The records of one study, in the order in which variants first appear."""
    variants: dict[str, dict[Pair, dict]] = {}
    for record in records:
        variants.setdefault(record["variant"], {})[record["base_model"], record["seed"]] = record
    return variants


def finals(records: ByPair) -> list[float]:
    return [record["final"] for _, record in sorted(records.items())]


def over_seeds(values: Mapping[Pair, float]) -> Mean:
    """The mean with its interval: over seeds, of the mean over the base models of each."""
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in sorted(values.items()):
        by_seed.setdefault(seed, []).append(value)
    return Mean.of([fmean(some) for some in by_seed.values()])


def ended(records: ByPair) -> Mean:
    """Final pass@1."""
    return over_seeds({pair: record["final"] for pair, record in records.items()})


def ahead(reference: ByPair, other: ByPair) -> Mean | None:
    """The reference's final pass@1 minus the other's, over the pairs that both have; None if there are none."""
    shared = reference.keys() & other.keys()
    return over_seeds({p: reference[p]["final"] - other[p]["final"] for p in shared}) if shared else None


def check_equal_work(variants: Mapping[str, ByPair]) -> None:
    """See that in each pair all variants sampled equally many batches and completions, and about as many tokens. Raises
    UnequalWork."""
    for pair in sorted({pair for records in variants.values() for pair in records}):
        works = {name: records[pair]["work"] for name, records in variants.items() if pair in records}
        first = next(iter(works))
        for name, work in works.items():
            for key in ("batches", "completions"):
                if work[key] != works[first][key]:
                    raise UnequalWork(f"{key} of {pair}: {first} has {works[first][key]}, {name} has {work[key]}")
            if abs(work["tokens"] - works[first]["tokens"]) > ALIKE * works[first]["tokens"]:
                raise UnequalWork(f"tokens of {pair}: {first} has {works[first]['tokens']}, {name} {work['tokens']}")


def reached(reference: ByPair, other: ByPair) -> Reached | None:
    """When the reference had the other's final pass@1, averaged or as the mean of its sites, in the median pair; None
    where half of the pairs never had it. One measurement may be high by chance: the next one must be, too."""
    rounds, sent = [], []
    for pair in reference.keys() & other.keys():
        target, whole, points = other[pair]["final"], other[pair]["curve"][-1], reference[pair]["curve"]
        enough = (p for p, then in zip(points, [*points[1:], points[-1]], strict=True) if _least(p, then) >= target)
        first = next(enough, {"segment": inf, "bytes": inf})
        rounds.append(first["segment"] / whole["segment"])
        sent.append(first["bytes"] / max(whole["bytes"], 1))
    return Reached(median(rounds), median(sent)) if rounds and median(rounds) < inf else None


def _least(*points: dict) -> float:
    return min(point["pass@1"] for point in points)


def mean_curve(records: ByPair, which: str) -> list[tuple[int, float, float]]:
    """(segment, mean, half-width of the 95% interval, 0 for one record) of `own` or `averaged` pass@1."""
    points: dict[int, dict[Pair, float]] = {}
    for pair, record in records.items():
        for point in record["curve"]:
            if point["which"] == which:
                points.setdefault(point["segment"], {})[pair] = point["pass@1"]
    means = {segment: over_seeds(values) for segment, values in sorted(points.items())}
    return [(segment, mean.value, mean.half or 0.0) for segment, mean in means.items()]


def mean_live(records: ByPair) -> list[tuple[int, float]]:
    """(segment, share of live public groups), the mean over the records."""
    points: dict[int, list[float]] = {}
    for record in records.values():
        for segment, share in record["live"]:
            points.setdefault(segment, []).append(share)
    return [(segment, fmean(shares)) for segment, shares in sorted(points.items())]


def mean_matrix(records: ByPair) -> dict[str, dict[str, float]]:
    """pass@1 by site and label at the end, the mean over the records."""
    first = next(iter(records.values()))["matrix"]
    return {
        site: {label: fmean(record["matrix"][site][label] for record in records.values()) for label in labels}
        for site, labels in first.items()
    }
