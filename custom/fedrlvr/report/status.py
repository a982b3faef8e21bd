"""Where a run is and what each site does, as its events tell. Pure, so that it can be checked by hand."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedrlvr.algorithms.scores import Scores, overall
from fedrlvr.server.event_log import payloads

# What a site does between being asked for a task and answering it.
DOING = {
    "train": "training",
    "propose": "proposing",
    "swap": "swapping",
    "submit": "submitting",
    "validate": "measuring",
}
WAITING = "waiting"
OUT_OF = {"segment": "restarting", "round": "out of the round", None: WAITING}
RECENT = 4  # a site's rewards and shares are means over so many steps


@dataclass
class SiteStatus:
    doing: str = WAITING
    since: float = 0.0  # by the event log's clock
    steps: int = 0  # those told, and those before them in the same segment
    recent: list[dict] = field(default_factory=list)  # the last steps that were told
    score: tuple[float, int] | None = None  # pass@1 of its own adapter, and of how many problems

    def mean(self, name: str) -> float | None:
        """Of the recent steps that tell it; None where none does."""
        told = [step[name] for step in self.recent if name in step]
        return sum(told) / len(told) if told else None

    def share(self, name: str, of: str) -> float | None:
        """`name` as a share of `of`, both counted over the recent steps that tell them."""
        told = [step for step in self.recent if name in step and step.get(of)]
        return sum(step[name] for step in told) / sum(step[of] for step in told) if told else None


@dataclass
class RunStatus:
    """Feed it a run's events in order."""

    note: str = "starting sites"
    clock: float = 0.0  # the time of the last event, in seconds since the event log was opened
    rounds: int = 0
    segments: int = 0
    planned: int = 0  # steps of all sites
    sites: dict[str, SiteStatus] = field(default_factory=dict)
    last: dict | None = None  # the last step that was told
    base: tuple[float, int] | None = None  # pass@1 on the test set, and of how many problems
    averaged: tuple[float, int] | None = None
    sent: Counter[str] = field(default_factory=Counter)  # bytes, by what `payloads` calls them
    _whole: int = 0  # segments of completed rounds
    _before: int = 0  # steps of earlier jobs
    _began: float | None = None  # when this job first asked for training

    def take(self, event: Mapping) -> None:
        """Raises KeyError or another error for an event of another form."""
        self.clock = event["time"]
        match event["event"]:
            case "start" | "resumed" as kind:
                self._start(event, resumed=kind == "resumed")
            case "asked":
                self._now(event["site"], DOING[event["task"]])
                if event["task"] == "train" and self._began is None:
                    self._began = self.clock
            case "answered":
                self._now(event["site"], WAITING)
            case "failure":
                self._now(event["site"], OUT_OF[event.get("out_of")])
            case "step":
                self._step(dict(event))
            case "evaluation":
                self._evaluation(event)
            case "round":
                self._whole = (event["round"] + 1) * self.segments // self.rounds
            case "end" | "stopped":
                self.note = ""
        for what, _, count in payloads(event):
            self.sent[what] += count

    @property
    def done(self) -> int:
        """Each site's steps, or all steps of the finished segments if that is more: a site may not tell of some."""
        finished = max(self._whole, self.last["segment"] if self.last else 0)
        told = sum(site.steps for site in self.sites.values())
        return max(self._before, told, finished * self.planned // max(self.segments, 1))

    def seconds_left(self, now: float) -> float | None:
        """At the pace since this job's first task; None until the steps of a segment are done in it, of all sites: many
        steps are told at once. `now` is by the event log's clock."""
        new = self.done - self._before
        if self._began is None or new <= 0 or new * self.segments < self.planned:
            return None
        return (now - self._began) / new * (self.planned - self.done)

    def _start(self, event: Mapping, resumed: bool) -> None:
        self.rounds, self.segments = event["rounds"], event["segments"]
        self.planned = event["steps"] * len(event["sites"])
        self.sites = {name: self.sites.get(name, SiteStatus()) for name in event["sites"]}
        self.note = "sites start, and measure the base model"
        if resumed:  # all earlier events came from the event log of the job before
            self._before = max(self.done, (event["after"] + 1) * self.planned // self.rounds)
            self._began, self.note = None, "sites start, and measure where the run had stopped"

    def _now(self, site: str, doing: str) -> None:
        status = self.sites[site]
        status.doing, status.since = doing, self.clock

    def _step(self, step: dict) -> None:
        site = self.sites[step["site"]]
        site.recent = [*site.recent, step][-RECENT:]
        in_segment = self.planned // max(self.segments * len(self.sites), 1)
        ended = step.get("kind") == "public"  # which is a segment's last step
        site.steps = max(site.steps + 1, (step["segment"] + 1) * in_segment if ended else 0)
        self.last, self.note = step, ""

    def _evaluation(self, event: Mapping) -> None:
        parts = {name: part["test"] for name, part in event["scores"].items()}
        if event["which"] == "local":
            for name, part in parts.items():
                self.sites[name].score = _score(part)
        elif event["which"] == "base":
            self.base = _score(*parts.values())
        else:
            self.averaged = _score(*parts.values())


def _score(*parts: Scores) -> tuple[float, int]:
    found = overall(*parts)
    return found["pass@1"], int(found["problems"])
