"""A run's status as one line, as a sentence on who does what, and as the table that a terminal shows."""

from collections.abc import Mapping
from itertools import islice

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from fedrlvr.report.cells import size
from fedrlvr.report.status import RunStatus, SiteStatus
from fedrlvr.report.summary import SENT

NAMED = 4  # sites of those that do the same
Doing = Mapping[str, str]  # site -> what its worker does, where this machine can see it


def line(status: RunStatus, now: float) -> str:
    """Where the run is, how it learns, and how much time is left. `now` is by the event log's clock."""
    if status.last is None:
        return status.note
    recent = SiteStatus(recent=[step for site in status.sites.values() for step in site.recent])
    live = recent.share("live_groups", "groups")
    return (
        f"round {status.last['round'] + 1}/{status.rounds}  segment {status.last['segment'] + 1}/{status.segments}  "
        f"step {status.done}/{status.planned}  reward {_number(recent.mean('reward'))}  live groups {_percent(live)}  "
        f"{_left(status, now)}  {status.note}"
    ).rstrip()


def at_work(status: RunStatus, now: float, doing: Doing) -> str:
    """Who does what, and since when."""
    groups: dict[str, list[str]] = {}
    for name, site in status.sites.items():
        groups.setdefault(_doing(name, site, doing), []).append(name)
    parts = []
    for what, names in groups.items():
        some, more = ", ".join(names[:NAMED]), len(names) - NAMED
        since = min(status.sites[name].since for name in names)
        parts.append(f"{what}: {some}{f' and {more} more' if more > 0 else ''} ({_clock(now - since)})")
    return "; ".join(parts)


def view(status: RunStatus, now: float, doing: Doing, height: int) -> RenderableType:
    """All of it: the line, a row for each site, scores and bytes. Of `height` lines."""
    if not status.sites:
        return Text(f"{status.note}  {_clock(now)}")
    numbers = ("reward", "live groups", "cut off", "swapped", "pass@1")
    columns = ("site", Column("doing", min_width=18), *(Column(name, justify="right") for name in numbers))
    table = Table(*columns, box=SIMPLE, pad_edge=False, show_edge=False)
    shown = max(1, min(len(status.sites), height - 9))
    for name, site in islice(status.sites.items(), shown):
        table.add_row(*_row(name, site, now, doing))
    rest = len(status.sites) - shown
    under = [Text(f"and {rest} sites more")] if rest else []
    return Group(Text(line(status, now)), Text(), table, *under, Text(), Text(_scores(status)), Text(_sent(status)))


def _row(name: str, site: SiteStatus, now: float, doing: Doing) -> tuple[str, ...]:
    return (
        name,
        f"{_doing(name, site, doing)} {_clock(now - site.since)}",
        _number(site.mean("reward")),
        _percent(site.share("live_groups", "groups")),
        _percent(site.mean("completions/clipped_ratio")),
        _percent(site.share("swap/completions", "completions")),
        _with_n(site.score),
    )


def _doing(name: str, site: SiteStatus, doing: Doing) -> str:
    """A worker that this machine can see tells more exactly what it does for the task that the server knows of."""
    seen = doing.get(name)
    return seen if seen and site.doing == "training" else site.doing


def _scores(status: RunStatus) -> str:
    after = f", averaged {_with_n(status.averaged)}" if status.averaged else ""
    return f"pass@1 on the test set: base {_with_n(status.base)}{after}"


def _sent(status: RunStatus) -> str:
    return f"sent: {', '.join(f'{words} {size(status.sent[what])}' for what, words in SENT.items())}"


def _left(status: RunStatus, now: float) -> str:
    left = status.seconds_left(now)
    return "time left unknown" if left is None else f"{_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _with_n(score: tuple[float, int] | None) -> str:
    return "-" if score is None else f"{score[0]:.2f} ({score[1]})"
