"""A study's results as a table."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from fedrlvr.comparison.plan import Study
from fedrlvr.comparison.statistics import ByPair, ahead, ended, finals, reached
from fedrlvr.report.cells import Table
from fedrlvr.report.means import Mean

INSTEAD = ("replace-all", "fedavg+public")


def study_table(study: Study, variants: Mapping[str, ByPair]) -> Table:
    """One row per variant, the best mean first: mean, worst run, how far the reference is ahead, after which share of
    rounds and bytes the reference had the variant's end, what was sent and how many answers were posted."""
    reference, rows = variants.get(study.reference, {}), []
    for name, records in sorted(variants.items(), key=lambda item: -ended(item[1]).value):
        lead = ahead(reference, records) if name != study.reference else None
        soon = reached(reference, records) if name != study.reference else None
        values = finals(records)
        rows.append(
            (
                name,
                str(ended(records)),
                f"{min(values):.2f}",
                signed(lead) if lead else "",
                f"{soon.rounds:.0%} / {soon.bytes:.0%}" if soon else ("never" if lead else ""),
                f"{fmean(r['curve'][-1]['bytes'] for r in records.values()) / 1e3:,.0f}",
                f"{fmean(r['posted'] for r in records.values()):,.0f}",
                *([f"{fmean(r['time'] for r in records.values()):.2f}"] if study.slow else []),
            )
        )
    head = ["variant", "pass@1", "worst", f"{study.reference} ahead by", "had it after", "kB sent", "answers posted"]
    return Table((*head, "time") if study.slow else tuple(head), tuple(rows))


def headline(studies: Mapping[str, Study], results: Mapping[str, Mapping[str, ByPair]]) -> Table:
    """Methods by studies: mean pass@1 with its interval; below, how far the reference is ahead of each other method
    that federates and takes public steps, as those are what a reader would do instead; then over which runs."""
    first = next(iter(results.values()))
    names = sorted(first, key=lambda name: -ended(first[name]).value)
    rows = [(name, *(_mean(variants.get(name)) for variants in results.values())) for name in names]
    reference = next(iter(studies[name].reference for name in results))
    for other in (name for name in names if name in INSTEAD):
        leads = (_lead(variants, reference, other) for variants in results.values())
        rows.append((f"{reference} - {other}", *leads))
    rows.append(("runs", *(pairs_in_words(studies[name], variants) for name, variants in results.items())))
    return Table(("method", *(studies[name].title for name in results)), tuple(rows))


def _lead(variants: Mapping[str, ByPair], reference: str, other: str) -> str:
    lead = ahead(variants.get(reference, {}), variants.get(other, {}))
    return signed(lead) if lead else ""


def signed(mean: Mean) -> str:
    """With its sign, unless it is rounded to 0; bold in no notation, as the interval says whether it excludes 0."""
    half = "" if mean.half is None else f" ± {mean.half:.2f}"
    value = f"{mean.value:+.2f}"
    return f"{'0.00' if float(value) == 0 else value}{half}"


def _mean(records: ByPair | None) -> str:
    return str(ended(records)) if records else ""


def pairs_in_words(study: Study, variants: Mapping[str, ByPair]) -> str:
    """Over which pairs the means are. A real model has no number."""
    pairs = sorted({pair for records in variants.values() for pair in records})
    models, seeds = sorted({model for model, _ in pairs}), sorted({seed for _, seed in pairs})
    return _listed("seed", seeds) + ("" if study.real_model else f", {_listed('base model', models)}")


def _listed(noun: str, numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    whole = list(range(numbers[0], numbers[-1] + 1)) == list(numbers)
    return f"{noun}s " + (
        f"{numbers[0]} to {numbers[-1]}" if whole and len(numbers) > 2 else ", ".join(map(str, numbers))
    )
