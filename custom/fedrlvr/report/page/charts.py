"""Curves as geometry: where the lines, marks and ticks of a chart are, in units of its view box. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from fedrlvr.algorithms.scores import overall
from fedrlvr.report.summary import evaluations, merged_test

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 32, 10, 12, 30  # margins
COLOURS = 8  # sites or runs that have a colour of their own; if there are more, all have the same one
MOST_POINTS = 200  # of a line
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """`colour` is the number of a colour, None for the muted one; a `strong` line is a mean; `marks` are places without
    a line, each with what to write there."""

    name: str
    path: str = ""
    colour: int | None = None
    strong: bool = False
    marks: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class Chart:
    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_title: str = "segment"
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Curve:
    """Points of one site, or of a mean, in the chart's own numbers."""

    name: str
    points: Points
    colour: int | None = None
    strong: bool = False
    marks: Points = field(default_factory=list)


def chart(title: str, curves: Sequence[Curve], segments: int, shares: bool = True, told: bool = True) -> Chart | None:
    """None where there is no point to draw. With `shares` the axis is 0 to 1; with `told` marks have their number."""
    values = [y for curve in curves for _, y in (*curve.points, *curve.marks)]
    if not values:
        return None
    last = max(segments, 1, *(x for curve in curves for x, _ in (*curve.points, *curve.marks)))
    low, high = (0.0, 1.0) if shares else (min(0.0, *values), max(1.0, *values))

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + point[0] / last * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    lines = (
        Line(
            curve.name,
            _path([at(point) for point in thinned(curve.points)]),
            curve.colour,
            curve.strong,
            tuple((*at(point), f"{point[1]:.2f}" if told else "") for point in curve.marks),
        )
        for curve in curves
    )
    x_ticks = tuple((at((x, 0))[0], f"{x:g}") for x in round_numbers(last))
    y_ticks = tuple((at((0, y))[1], f"{y:.3g}") for y in (low + part / 4 * (high - low) for part in range(5)))
    return Chart(title, tuple(lines), x_ticks, y_ticks)


def _path(places: Points) -> str:
    """A single point is a line of no length, which is drawn as a dot."""
    return " ".join(f"{x},{y}" for x, y in (places * 2 if len(places) == 1 else places))


def round_numbers(last: float) -> list[int]:
    """0 and multiples of 1, 2 or 5 times a power of ten up to `last`, at most seven in all."""
    step = next(
        size * 10**power
        for power in range(8)
        for size in (1, 2, 5)
        if last / (size * 10**power) <= 6
    )  # fmt: skip
    return list(range(0, math.floor(last) + 1, step))


def thinned(points: Points) -> Points:
    """At most MOST_POINTS: each the mean of as many that follow each other."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    parts = (points[start : start + size] for start in range(0, len(points), size))
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]


def site_colours(sites: Sequence[str]) -> dict[str, int | None]:
    few = len(sites) <= COLOURS
    return {site: number if few else None for number, site in enumerate(sites)}


def pass_curves(events: Sequence[dict], summary: dict) -> list[Curve]:
    """pass@1 on the test set: every site's own adapter and their mean from the base model on; the averages as marks."""
    own = [
        (e["segment"] + 1, {site: overall(part["test"])["pass@1"] for site, part in e["scores"].items()})
        for e in evaluations(events, "local")
    ]
    start: Points = [(0, summary["base"]["test"]["overall"]["pass@1"])] if summary["base"] else []
    colours = site_colours(summary["sites"])
    curves = [
        Curve(site, [*start, *((x, scores[site]) for x, scores in own if site in scores)], colours[site])
        for site in summary["sites"]
    ]
    mean = Curve("mean of the sites", [*start, *((x, fmean(scores.values())) for x, scores in own)], strong=True)
    averaged = [(e["segment"] + 1, merged_test(e)["overall"]["pass@1"]) for e in evaluations(events, "global")]
    return [*curves, mean, Curve("after averaging", [], strong=True, marks=averaged)]


def step_curves(events: Iterable[dict], sites: Sequence[str], kind: str, value) -> list[Curve]:
    """One line a site: by segment the mean of `value(step)` over its steps of this kind ("": of both)."""
    by_site: Mapping[str, dict[int, list[float]]] = {site: {} for site in sites}
    for event in events:
        if event["event"] == "step" and event["site"] in by_site and kind in ("", event["kind"]):
            by_site[event["site"]].setdefault(event["segment"] + 1, []).append(value(event))
    colours = site_colours(sites)
    return [
        Curve(site, [(x, fmean(values)) for x, values in sorted(by_segment.items())], colours[site])
        for site, by_segment in by_site.items()
        if by_segment
    ]


def live_share(step: dict) -> float:
    """The share of a step's groups whose rewards differ, swapped answers included: those that teach."""
    live = step["live_groups"] + step.get("swap/rescued_groups", 0)
    return min(1.0, max(0.0, live / step["groups"])) if step["groups"] > 0 else 0.0


def run_charts(events: Sequence[dict], summary: dict) -> list[Chart]:
    """Of one run, those for which something was told."""
    sites, segments = summary["sites"], summary["segments"]
    made = [
        chart("pass@1 on the test set", pass_curves(events, summary), segments),
        chart(
            "Reward on private problems",
            step_curves(events, sites, "private", lambda step: step["reward"]),
            segments,
            shares=False,
        ),
        chart(
            "Reward on public problems, before the swap",
            step_curves(events, sites, "public", lambda step: step["reward"]),
            segments,
            shares=False,
        ),
        chart("Share of groups that teach", step_curves(events, sites, "", live_share), segments),
    ]
    return [one for one in made if one is not None]


def compared_chart(runs: Mapping[str, tuple[Sequence[dict], dict]]) -> Chart | None:
    """pass@1 of several runs in one picture: the mean of each one's sites, and its averages."""
    colours, curves = site_colours(list(runs)), []
    for name, (events, summary) in runs.items():
        *_, mean, averaged = pass_curves(events, summary)
        curves.append(Curve(name, mean.points, colours[name], strong=True, marks=averaged.marks))
    segments = max(summary["segments"] for _, summary in runs.values())
    return chart(
        "pass@1: mean of the sites, and after averaging", curves, segments, told=False
    )  # numbers would overlap
