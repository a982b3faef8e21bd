"""A run's events as numbers over steps, for experiment trackers. What sites did not let out is in no event."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fedrlvr.algorithms.scores import Scores, overall
from fedrlvr.server.event_log import payloads

NO_METRICS = {"event", "time", "round", "site", "kind", "segment"}  # what else an event of a step has


class TrackedNumber(NamedTuple):
    site: str
    name: str
    value: float
    step: int  # how many GRPO steps the site had taken


class TrackedNumbers:
    """Feed it a run's events in order. A public step's metrics are under `public/`, as those of private steps are of
    other problems; numbers of the averaged adapter are the same for every site that measured it."""

    def __init__(self):
        self._each = 0  # steps of a segment
        self._in_segment: Counter[tuple[str, int]] = Counter()
        self._last: Counter[str] = Counter()  # the last step of each site

    def of(self, event: Mapping) -> Iterator[TrackedNumber]:
        kind = event["event"]
        if kind in ("start", "resumed"):
            self._each = event["steps"] // event["segments"]
        elif kind == "step":
            yield from self._of_step(event)
        elif kind == "evaluation":
            yield from self._of_evaluation(event)
        for name, site, count in payloads(event):
            yield TrackedNumber(site, name, count, self._last[site])
        for name in event:
            if kind == "average" and name.startswith("drift/"):
                yield from (TrackedNumber(site, name, event[name], self._last[site]) for site in event["sites"])

    def _of_step(self, event: Mapping) -> Iterator[TrackedNumber]:
        site, segment, public = event["site"], event["segment"], event["kind"] == "public"
        self._in_segment[site, segment] += 1
        self._last[site] = segment * self._each + self._in_segment[site, segment]
        for name, value in event.items():
            if name not in NO_METRICS:
                own = name.startswith(("swap/", "exchange/"))  # only public steps have these
                yield TrackedNumber(site, f"public/{name}" if public and not own else name, value, self._last[site])

    def _of_evaluation(self, event: Mapping) -> Iterator[TrackedNumber]:
        own, parts = event["which"] == "local", {site: part["test"] for site, part in event["scores"].items()}
        step = 0 if event["which"] == "base" else (event["segment"] + 1) * self._each
        for site, part in parts.items():
            for name, value in _passes((part,) if own else tuple(parts.values())):
                yield TrackedNumber(site, f"eval/{name}" if own else f"eval/averaged/{name}", value, step)


def _passes(parts: tuple[Scores, ...]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in overall(*parts).items() if name.startswith("pass@")]
