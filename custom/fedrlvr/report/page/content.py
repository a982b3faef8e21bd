"""What the page of a run shows, as plain values: texts, tables and charts. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.scores import wilson_interval
from fedrlvr.printable import counted
from fedrlvr.report.cells import Shaded, Table, size
from fedrlvr.report.incidents import incident_lines
from fedrlvr.report.learning import REMEDY, nothing_learnt, silence_in_words
from fedrlvr.report.outgoing import EXPLAINED, refusals
from fedrlvr.report.page import tables
from fedrlvr.report.page.charts import Chart, run_charts, site_colours
from fedrlvr.report.page.folder import RunFiles
from fedrlvr.report.page.swaps import NO_LABEL, Example, Helped, examples, label_of, sent_answers, swapped_in
from fedrlvr.report.summary import MEASURED_ON, evaluations, summarise
from fedrlvr.report.table import doubt_in_words

MOST_TEXT = 2000  # characters of a question or a completion

IN_WORDS = {
    "pubswap": "right answers of other sites replace some wrong ones on public problems; adapters are averaged",
    "replace-all": "right answers of other sites replace all completions to public problems; adapters are averaged",
    "public-only": "all steps are on public problems, with the swap; adapters are averaged",
    "fedavg+public": "steps on private and on public problems, without a swap; adapters are averaged",
    "fedavg": "steps on private problems only; adapters are averaged",
    "local": "steps on private problems only; nothing is averaged",
    "centralised": "all problems are in one place",
}


class Fact(NamedTuple):
    name: str
    text: str


class Headline(NamedTuple):
    value: str
    name: str
    more: str


class Part(NamedTuple):
    """A part of the whole time; `share` of it, 0 to 1. `tone` is the number of its colour."""

    tone: int
    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Helping:
    """`sent` is the server's count, `swapped` that of the sites' logs, None where the lead has none, with `why`."""

    exchanged: bool
    sent: Helped
    swapped: Helped | None
    counted: int  # swaps that the sites told the server of
    examples: list[Example]
    why: str


@dataclass(frozen=True)
class Leaving:
    """What left the sites: by their own logs (`sent`), and `unknown` sites with the reason; `bytes` by the server."""

    sent: Table
    refused: list[tuple[str, str]]
    unknown: list[tuple[str, str]]
    spent: list[tuple[str, str]]
    bytes: Table
    explained: str = EXPLAINED


@dataclass(frozen=True)
class Page:
    name: str
    finished: bool
    state: str
    headlines: list[Headline]
    facts: list[Fact]
    notes: list[str]
    incidents: list[str]
    scores: Table
    problems: Shaded | None
    private_known: bool
    learning: Table
    charts: list[Chart]
    colours: dict[str, int | None]
    averages: bool
    matrices: list[tuple[str, Shaded]]
    doubt: str
    helping: Helping
    leaving: Leaving
    time: list[Part]
    site_seconds: Table | None
    settings: list[tuple[str, Table]]
    versions: Table | None
    summary: dict = field(repr=False)


def page_of(files: RunFiles) -> Page:
    events = files.log.events
    summary = _with_true_counts(
        summarise(events, files.left.seconds.wall if files.left else events[-1].get("time", 0.0)), events
    )
    spec = files.prepared.spec if files.prepared else None
    return Page(
        name=files.name,
        finished=summary["finished"],
        state=state_in_words(events, summary),
        headlines=headlines(summary),
        facts=facts(files, summary),
        notes=files.notes,
        incidents=incidents(summary),
        scores=tables.score_table(summary),
        problems=_problems(files),
        private_known=any(site.private for site in files.sites.values()),
        learning=tables.learning_table(summary["learning"]),
        charts=run_charts(events, summary),
        colours=site_colours(summary["sites"]),
        averages=bool(summary["after_averaging"]),
        matrices=tables.matrices(summary),
        doubt=doubt_in_words(summary["measured"]),
        helping=helping(files, summary),
        leaving=leaving(files, summary),
        time=time_parts(summary),
        site_seconds=_site_seconds(events),
        settings=tables.setting_tables(spec.job) if spec else [],
        versions=tables.version_table(files.left.versions) if files.left else None,
        summary=summary,
    )


def _with_true_counts(summary: dict, events: Sequence[dict]) -> dict:
    """Without averaging, the final scores are those of all sites' own adapters on the same problems, which count once:
    an interval must not look as if there were more."""
    if METHODS[summary["method"]].average or not summary["final"]:
        return summary
    sites = len(evaluations(events, "local")[-1]["scores"])
    test = {label: one | {"problems": one["problems"] / sites} for label, one in summary["final"]["test"].items()}
    return summary | {"final": summary["final"] | {"test": test}}


def state_in_words(events: Sequence[dict], summary: dict) -> str:
    if summary["finished"]:
        return f"finished in {summary['seconds']['wall']:,.0f} s"
    stopped = next((event for event in reversed(events) if event["event"] == "stopped"), None)
    done = sum(event["event"] == "round" for event in events)
    where = f"{done} of {summary['rounds']} rounds are done"
    if stopped:
        return f"did not finish: {' '.join(str(stopped.get('reason') or 'no reason was given').split())}; {where}"
    return f"not finished: no event says that it ended; {where}"


def headlines(summary: dict) -> list[Headline]:
    """The numbers that a reader looks for first."""
    told = []
    for part, name in (("base", "pass@1 of the base model"), ("final", _what_is_final(summary))):
        if summary[part]:
            score = summary[part]["test"]["overall"]
            low, high = wilson_interval(score["pass@1"], score["problems"])
            of = f"{score['problems']:,.0f} problems, {counted(summary[part]['samples'], 'sample')} each"
            more = f"95%: {low:.2f} to {high:.2f}, {of}"
            told.append(Headline(f"{score['pass@1']:.3f}", name, more))
    if summary["swap"]["public_steps"] and METHODS[summary["method"]].exchange:
        swap = summary["swap"]
        more = f"{swap['rescued_groups']:,} of {swap['all_wrong_groups']:,} groups without a right answer got one"
        told.append(Headline(f"{swap['fraction']:.0%}", "of public completions were swapped", more))
    sent = sum(sum(ways.values()) for ways in summary["bytes"].values())
    adapters, answers = (size(sum(summary["bytes"][name].values())) for name in ("adapter", "responses"))
    more = f"adapters {adapters}, answers {answers}"
    return [*told, Headline(size(sent), "of adapters and answers, both ways", more)]


def _what_is_final(summary: dict) -> str:
    if not METHODS[summary["method"]].average:
        return f"pass@1 of the sites' own adapters, {'at the end' if summary['finished'] else 'measured last'}"
    last = summary["after_averaging"][-1]["round"] + 1 if summary["after_averaging"] else 0
    return "pass@1 at the end" if last == summary["rounds"] else f"pass@1 after round {last} of {summary['rounds']}"


def facts(files: RunFiles, summary: dict) -> list[Fact]:
    spec, left = (files.prepared.spec if files.prepared else None), files.left
    per_round = summary["segments"] // summary["rounds"]
    told = [
        Fact("method", f"{summary['method']}: {IN_WORDS[summary['method']]}"),
        Fact("seed", f"{summary['seed']}"),
        Fact("sites", f"{len(summary['sites'])}: {', '.join(summary['sites'])}"),
        Fact("length", f"{counted(summary['rounds'], 'round')} of {counted(per_round, 'segment')}"),
    ]
    if spec:
        told += [
            Fact("where", files.prepared.environment),
            Fact("task", spec.job.task + (f", of {spec.task_package}" if spec.task_package else "")),
            Fact(
                "model",
                f"{spec.job.model}, fingerprint {spec.base_model or files.fingerprint or 'not known to the lead'}",
            ),
            Fact("public problems", f"{len(spec.public_ids):,}, SHA-256 {spec.public_sha256}"),
            Fact("test problems", f"{len(spec.test_labels):,}, SHA-256 {spec.test_sha256}"),
            Fact("started from", str(files.prepared.start_from or "a new adapter, which changes nothing")),
        ]
    elif left:
        told += [
            Fact("model", f"fingerprint {left.base_model or tables.NOT_KNOWN}"),
            Fact("test set", left.test_sha256),
        ]
    if best := summary["best"]:
        on = MEASURED_ON[best["measured_on"]]
        said = f"{best['round'] + 1} of {summary['rounds']}, pass@1 {best['pass@1']:.3f} on {on}"
        told.append(Fact("best round", said))
    return told


def incidents(summary: dict) -> list[str]:
    """What went wrong, what was repaired, and which sites have learnt nothing."""
    silent = [silence_in_words(site, found) for site, found in summary["learning"].items() if not found["taught"]]
    nothing = [f"No site has learnt anything: {REMEDY}."] if nothing_learnt(summary["learning"]) else []
    return [*incident_lines(summary), *nothing, *silent]


def helping(files: RunFiles, summary: dict) -> Helping:
    public = [e for e in files.log.events if e["event"] == "step" and e["kind"] == "public"]
    swaps = [swap for site in files.sites.values() for swap in site.swaps]
    known = any(site.has_log for site in files.sites.values())
    return Helping(
        exchanged=METHODS[summary["method"]].exchange,
        sent=sent_answers(files.log.events, files.public),
        swapped=swapped_in(swaps, files.public) if known else None,
        counted=int(sum(step.get("swap/completions", 0) for step in public)),
        examples=examples(swaps, files.public),
        why="" if known else "Which of these took a place is in the sites' own logs, which the lead does not have.",
    )


def leaving(files: RunFiles, summary: dict) -> Leaving:
    known = {site: found for site, found in files.sites.items() if found.sent is not None}
    elsewhere = "its log is at the site, and the lead does not have it"
    return Leaving(
        sent=tables.sent_table(known),
        refused=[(site, line) for site, found in known.items() for line in refusals(found.sent)],
        unknown=[
            (site, files.sites[site].why if site in files.sites else elsewhere)
            for site in summary["sites"]
            if site not in known
        ],
        spent=[(site, line) for site, found in known.items() for line in found.spent or ()],
        bytes=tables.byte_table(files.log.events, summary["sites"]),
    )


def time_parts(summary: dict) -> list[Part]:
    """Of a run that finished; else it is not known how long the server waited for sites."""
    seconds = summary["seconds"]
    waiting = "waiting" if seconds["compute"] else "waiting for sites that do not report how long they worked"
    names = {"compute": "a site at work", "waiting": waiting, "start_and_stop": "starting and stopping"}
    parts = {name: max(0.0, seconds[key]) for key, name in names.items()}
    whole = sum(parts.values())
    if not summary["finished"] or not whole:
        return []
    told = enumerate(parts.items())
    return [Part(tone, name, value, value / whole) for tone, (name, value) in told if value]


def _site_seconds(events: Sequence[dict]) -> Table | None:
    end = next((event for event in reversed(events) if event["event"] == "end"), {})
    told = tuple((site, f"{seconds:,.1f}") for site, seconds in end.get("site_seconds", {}).items() if seconds)
    return Table(("site", "seconds at work"), told) if told else None


def _problems(files: RunFiles) -> Shaded | None:
    if files.prepared is None:
        return None
    public = Counter(label_of(files.public, problem_id) for problem_id in files.public)
    test = Counter(label or NO_LABEL for label in files.prepared.spec.test_labels)
    return tables.problem_table(files.sites, public, test)
