"""Several runs' summaries as one table: methods by seeds, with means and 95% intervals."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import Method
from fedrlvr.json_text import from_json
from fedrlvr.printable import one_line
from fedrlvr.report.cells import Table
from fedrlvr.report.means import Mean

REFERENCE = "pubswap"
MAY_DIFFER = ("method", "seed", "evaluation")
DIFFER_WITHOUT_SITES = ("grpo.prompts_per_step", "federation.min_sites")  # where one site has all problems


class NotComparable(ValueError):
    """Runs that differ in more than method and seed."""


class _Overall(BaseModel):
    overall: dict[str, float]


class _Final(BaseModel):
    test: _Overall


class _Summary(BaseModel):
    """What of a run's summary is compared."""

    method: Method
    seed: int
    sites: list[str]
    finished: bool
    final: _Final | None
    job: dict[str, object]
    base_model: str | None
    test_sha256: str


def read_summary(path: Path) -> dict:
    """What of a run's summary.json is compared. Raises ValueError for a file that is none."""
    try:
        return _Summary.model_validate(from_json(path.read_bytes())).model_dump()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        reason = one_line(str(error))[:200]
        raise ValueError(f"{path}: not the summary.json of a run of this version ({reason})") from None


def comparison(summaries: Mapping[str, dict]) -> Table:
    """Final pass@1 over all labels, of the finished runs among these, which are by path: one row per method, the best
    mean first.

    The last column is the mean of pubswap minus the method, over the seeds that both ran. Runs of one seed share
    problems and base model, so this paired difference says more than two separate intervals.

    Raises NotComparable for runs of other settings, other models or another number of sites than the first, for two of
    one method and seed, and where no run finished.
    """
    finished = {path: summary for path, summary in summaries.items() if summary["finished"]}
    if not finished:
        raise NotComparable("none of these runs finished")
    _check_same(finished)
    results: dict[str, dict[int, float]] = {}
    for summary in finished.values():
        final = summary["final"]["test"]["overall"]["pass@1"]
        results.setdefault(summary["method"], {})[summary["seed"]] = final
    seeds = sorted({seed for by_seed in results.values() for seed in by_seed})
    head = ("method", *(f"seed {seed}" for seed in seeds), "mean", f"{REFERENCE} ahead by")
    rows = []
    for method, by_seed in sorted(results.items(), key=lambda item: -fmean(item[1].values())):
        shared = [seed for seed in seeds if seed in by_seed and seed in results.get(REFERENCE, {})]
        ahead = [results[REFERENCE][seed] - by_seed[seed] for seed in shared]
        cells = [f"{by_seed[seed]:.2f}" if seed in by_seed else "" for seed in seeds]
        difference = str(Mean.of(ahead)) if method != REFERENCE and ahead else ""
        rows.append((method, *cells, str(Mean.of(list(by_seed.values()))), difference))
    return Table(head, tuple(rows))


def _check_same(summaries: Mapping[str, dict]) -> None:
    known: dict[tuple[str, int], str] = {}
    for path, summary in summaries.items():
        run = summary["method"], summary["seed"]
        if run in known:
            raise NotComparable(f"{known[run]} and {path} are both {run[0]} with seed {run[1]}; leave one of them out")
        known[run] = path
    first = next((path for path, summary in summaries.items() if not _pooled(summary)), next(iter(summaries)))
    for path, summary in summaries.items():
        for name, value, instead in _differences(summaries[first], summary):
            raise NotComparable(
                f"{first} and {path} differ in more than method and seed: {name} is {value!r} in the first and "
                f"{instead!r} in the second; compare runs of the same settings"
            )


def _pooled(summary: dict) -> bool:
    return METHODS[summary["method"]].pooled_data


def _differences(one: dict, other: dict) -> Iterator[tuple[str, object, object]]:
    pooled = _pooled(one) or _pooled(other)
    mine, theirs = (_settings(summary) for summary in (one, other))
    for name in mine.keys() | theirs.keys():
        apart = pooled and name in DIFFER_WITHOUT_SITES
        if not apart and mine.get(name) != theirs.get(name):
            yield name, mine.get(name), theirs.get(name)
    if not pooled and one["sites"] != other["sites"]:
        yield "sites", one["sites"], other["sites"]
    if one["seed"] == other["seed"] and one["test_sha256"] != other["test_sha256"]:
        yield "test_sha256", one["test_sha256"], other["test_sha256"]


def _settings(summary: dict) -> dict[str, object]:
    """The job's settings by dotted name, and the base model."""
    groups = {name: group for name, group in summary["job"].items() if name not in MAY_DIFFER}
    flat = {"base_model": summary["base_model"]}
    for name, group in groups.items():
        flat |= {f"{name}.{key}": value for key, value in group.items()} if isinstance(group, dict) else {name: group}
    return flat
