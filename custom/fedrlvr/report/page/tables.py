"""The tables of a run's page, from its events, its summary and what the lead has of the sites. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel

from fedrlvr.algorithms.scores import pass_at_1, wilson_interval
from fedrlvr.config import JobConfig
from fedrlvr.report.cells import Shaded, Table, size
from fedrlvr.report.outgoing import sent_by_kind
from fedrlvr.report.page.folder import SiteRecords
from fedrlvr.report.summary import SENT
from fedrlvr.server.event_log import payloads

MOST_LABELS = 60  # of the most problems
NOT_KNOWN = "not known"


def score_in_words(score: dict | None) -> str:
    """pass@1 with Wilson's interval, problems as draws, which may stand below it; a dash where nothing was measured."""
    if not score:
        return "-"
    low, high = wilson_interval(score["pass@1"], score["problems"])
    return f"{score['pass@1']:.3f}\n({low:.2f}-{high:.2f})"


def score_table(summary: dict) -> Table:
    """Base and final pass@1 over all, by label, and on each site's held-out problems, with the number of problems."""
    base, final = summary["base"] or {"test": {}}, summary["final"] or {"test": {}}
    rows = []
    for label in largest_labels(base["test"] or final["test"]):
        name = "test set" if label == "overall" else f"test, {label or '(none)'}"
        rows.append((name, base["test"].get(label), final["test"].get(label)))
    held = {**base.get("heldout", {}), **final.get("heldout", {})}
    for site in held:
        rows.append((f"{site}, held out", base.get("heldout", {}).get(site), final.get("heldout", {}).get(site)))
    return Table(
        ("measured on", "base", "final", "problems"),
        tuple((name, score_in_words(one), score_in_words(other), _problems(one or other)) for name, one, other in rows),
    )


def _problems(score: dict | None) -> str:
    return f"{score['problems']:,.0f}" if score else "-"


def largest_labels(scores: Mapping[str, dict]) -> list[str]:
    """`overall`, if it is there, and the labels of the most problems, in their order; `overall` alone of one."""
    labels = sorted((label for label in scores if label != "overall"), key=lambda label: -scores[label]["problems"])
    largest = set(labels[:MOST_LABELS]) if len(labels) > 1 else set()
    return [label for label in scores if label == "overall" or label in largest]


def matrices(summary: dict) -> list[tuple[str, Shaded]]:
    """For each round that was measured, the newest first: pass@1 by label of the base model, of every site's own
    adapter, and of the average. The shorter of sites and labels are the columns."""
    base = pass_at_1(summary["base"]["test"]) if summary["base"] else {}
    after = {entry["round"]: entry["pass@1"] for entry in summary["after_averaging"]}
    made = []
    for entry in reversed(summary["before_averaging"]):
        averaged = {"averaged": after[entry["round"]]} if entry["round"] in after else {}
        whose = {**({"base model": base} if base else {}), **entry["pass@1"], **averaged}
        problems = Counter(summary["measured"]["problems"])
        known = {label for scores in whose.values() for label in scores} - {"overall"}
        labels = sorted(sorted(known, key=lambda label: (-problems[label], label))[:MOST_LABELS])
        made.append((f"Round {entry['round'] + 1}", _matrix(whose, labels)))
    return made


def _matrix(whose: Mapping[str, Mapping[str, float]], labels: Sequence[str]) -> Shaded:
    told = [label or "(none)" for label in labels]
    if len(labels) > len(whose):
        values = ([scores.get(label) for scores in whose.values()] for label in labels)
        return Shaded.of("label", list(whose), zip(told, values, strict=True))
    values = ([scores.get(label) for label in labels] for scores in whose.values())
    return Shaded.of("whose adapter", told, zip(whose, values, strict=True))


def problem_table(sites: Mapping[str, SiteRecords], public: Counter[str], test: Counter[str]) -> Shaded:
    """Problems by set and label. Of sites whose files the lead does not have, there is no row."""
    sets = {**{site: found.private for site, found in sites.items() if found.private}, "public": public, "test": test}
    sets = {name: counts for name, counts in sets.items() if counts}
    total = sum(sets.values(), Counter())
    labels = sorted(sorted(total, key=lambda label: (-total[label], label))[:MOST_LABELS])
    rows = ((name, [counts.total(), *(counts[label] for label in labels)]) for name, counts in sets.items())
    counted = Shaded.of_counts("problems", ["in all", *labels], rows)
    return Shaded(counted.table, tuple((None, *(_relative(row[1:]))) for row in counted.shades))


def _relative(shades: Sequence[float | None]) -> list[float]:
    """The largest of a row is darkest."""
    most = max((shade or 0 for shade in shades), default=0) or 1
    return [(shade or 0) / most for shade in shades]


def learning_table(by_site: Mapping[str, dict]) -> Table:
    head = ("site", "steps", "that taught", "cut off", "no answer", "not verified")
    shares = ("cut_off", "unanswered", "unverified")
    rows = (
        (site, f"{found['steps']:,}", f"{found['taught']:,}", *(f"{found[name]:.0%}" for name in shares))
        for site, found in by_site.items()
    )
    return Table(head, tuple(rows))


def byte_table(events: Iterable[dict], sites: Sequence[str]) -> Table:
    """As the server counted them: payloads, without what FLARE adds."""
    counts: dict[str, Counter[str]] = {site: Counter() for site in sites}
    for what, site, count in (payload for event in events for payload in payloads(event)):
        counts.setdefault(site, Counter())[what] += count
    whose = {**counts, "all": sum(counts.values(), Counter())}
    rows = ((name, *(size(count[what]) for what in SENT)) for name, count in whose.items())
    return Table(("site", *SENT.values()), tuple(rows))


def sent_table(sites: Mapping[str, SiteRecords]) -> Table:
    """What left the sites that have a log of it."""
    rows = []
    for site, found in sites.items():
        for (_, kind), sent in sent_by_kind(found.sent or ()).items():
            rows.append((site, kind, *sent.counts()))
    head = ("site", "kind", "left", "refused", "things", "bytes", "counted by rule")
    return Table(head, tuple(rows))


def setting_tables(job: JobConfig) -> list[tuple[str, Table]]:
    """The job's settings by group; the last column is the default of those that are not at it."""
    plain, groups = [], []
    for name, declared in type(job).model_fields.items():
        value = getattr(job, name)
        if isinstance(value, BaseModel):
            groups.append((name, _settings(value, declared.get_default(call_default_factory=True))))
        else:
            default = "" if declared.is_required() or declared.default == value else f"{declared.default}"
            plain.append((name, f"{value}", default))
    head = ("setting", "value", "default")
    return [(name, Table(head, tuple(rows))) for name, rows in [("job", plain), *groups]]


def _settings(group: BaseModel, default: BaseModel) -> list[tuple[str, str, str]]:
    values, defaults = group.model_dump(mode="json"), default.model_dump(mode="json")
    return [
        (name, _value(value), "" if defaults[name] == value else _value(defaults[name]))
        for name, value in values.items()
    ]


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(_value, value)) if isinstance(value, list) else f"{value}"


def version_table(versions: Mapping[str, str | None]) -> Table:
    return Table(
        ("package", "version"), tuple((name, version or "not installed") for name, version in versions.items())
    )
