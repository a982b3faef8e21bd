"""A run's status as one line, as a sentence on who does what, and as the table that a terminal shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from fedrlvr.printable import counted
from fedrlvr.report.cells import size
from fedrlvr.report.status import RunStatus, SiteStatus

NAMED = 4  # sites of those that do the same
AROUND = 9  # lines of the view that are no site's
# Characters of a site's name, at least, and of what it does; those between columns.
NAME, DOING, GAP = 12, len("training, step 100"), 2
Doing = Mapping[str, str]  # site -> what its worker does, where this machine can see it


@dataclass(frozen=True)
class _Field:
    """A column of numbers, `width` characters wide. The most important have the lowest `rank`."""

    name: str
    width: int
    rank: int


FIELDS = (
    _Field("for", len("12:34:56"), 0),
    _Field("reward", len("reward"), 2),
    _Field("live", len("100%"), 3),
    _Field("cut", len("100%"), 4),
    _Field("swap", len("100%"), 5),
    _Field("pass@1", len("pass@1"), 1),
)


def line(status: RunStatus, now: float) -> str:
    """Where the run is, how it learns, and how much time is left. `now` is by the event log's clock."""
    if status.last is None:
        return status.note
    return "  ".join([*_place(status), *_learns(status), _left(status, now), status.note]).rstrip()


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


def view(status: RunStatus, now: float, doing: Doing, width: int, height: int) -> RenderableType:
    """All of it: where the run is, a row for each site, scores and bytes. No line is longer than `width`, and all of
    them are at most `height`: as many at every time of a run."""
    if not status.sites:
        return _line(width, f"{status.note}  {_clock(now)}")
    shown = max(1, min(len(status.sites), height - AROUND))
    rest = len(status.sites) - shown
    begun = status.last is not None
    return Group(
        _line(width, *_place(status), _left(status, now)) if begun else _line(width, status.note),
        _line(width, *_learns(status), status.note) if begun else Text(),
        Text(),
        _table(islice(status.sites.items(), shown), [*map(cell_len, status.sites)], now, doing, width),
        Text(f"and {counted(rest, 'site')} more" if rest else ""),
        _line(width, _scores(status)),
        _line(width, _own_scores(status)),
        _line(width, *_sent(status), between=", "),
    )


def _table(sites: Iterator[tuple[str, SiteStatus]], names: list[int], now: float, doing: Doing, width: int) -> Table:
    """A column never changes its width, so that the table stands still. `names` are the widths of the sites' names."""
    left = width - min(max(names), NAME) - GAP - DOING
    shown = set()
    for field in sorted(FIELDS, key=lambda field: field.rank):
        if left < GAP + field.width:
            break
        left -= GAP + field.width
        shown.add(field)
    cut = {"no_wrap": True, "overflow": "ellipsis"}
    columns = [
        Column("site", width=min(max(names), NAME + max(left, 0)), **cut),
        Column("doing", width=DOING, **cut),
        *(Column(f.name, width=f.width, justify="right", **cut) for f in FIELDS if f in shown),
    ]
    table = Table(*columns, box=SIMPLE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name, site in sites:
        told = zip(FIELDS, _numbers(site, now), strict=True)
        table.add_row(name, _doing(name, site, doing), *(text for field, text in told if field in shown))
    return table


def _numbers(site: SiteStatus, now: float) -> tuple[str, ...]:
    """By `FIELDS`."""
    return (
        _clock(now - site.since),
        _number(site.mean("reward")),
        _percent(site.share("live_groups", "groups")),
        _percent(site.mean("completions/clipped_ratio")),
        _percent(site.share("swap/completions", "completions")),
        _score(site.score),
    )


def _doing(name: str, site: SiteStatus, doing: Doing) -> str:
    """A worker that this machine can see tells more exactly what it does for the task that the server knows of."""
    seen = doing.get(name)
    return seen if seen and site.doing == "training" else site.doing


def _place(status: RunStatus) -> tuple[str, ...]:
    """Steps are those of one site, on average."""
    sites = len(status.sites)
    return (
        f"round {status.last['round'] + 1}/{status.rounds}",
        f"segment {status.last['segment'] + 1}/{status.segments}",
        f"step {status.done // sites}/{status.planned // sites}",
    )


def _learns(status: RunStatus) -> tuple[str, str]:
    recent = SiteStatus(recent=[step for site in status.sites.values() for step in site.recent])
    live = recent.share("live_groups", "groups")
    return f"reward {_number(recent.mean('reward'))}", f"live groups {_percent(live)}"


def _scores(status: RunStatus) -> str:
    averaged = f", averaged {_score(status.averaged)}" if status.averaged else ""
    return f"pass@1: base {_score(status.base)}{averaged}{_of('test problem', status.base, status.averaged)}"


def _own_scores(status: RunStatus) -> str:
    return f"in the table: of each site's own adapter{_of('problem', *(site.score for site in status.sites.values()))}"


def _sent(status: RunStatus) -> tuple[str, str]:
    def both_ways(kind: str) -> str:
        return ", ".join(f"{size(status.sent[f'{kind}/bytes_{way}'])} {way}" for way in ("up", "down"))

    return f"sent: adapters {both_ways('adapter')}", f"answers {both_ways('exchange')}"


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


def _score(score: tuple[float, int] | None) -> str:
    return "-" if score is None else f"{score[0]:.3f}"


def _of(noun: str, *scores: tuple[float, int] | None) -> str:
    """Of how many problems these are; "" where nothing was measured."""
    counts = sorted({score[1] for score in scores if score is not None})
    fewer = f"{counts[0]}-" if len(counts) > 1 else ""
    return f" ({fewer}{counted(counts[-1], noun)})" if counts else ""


def _line(width: int, *parts: str, between: str = "  ") -> Text:
    """The first parts, as many as fit beside each other."""
    some = parts[0]
    for part in parts[1:]:
        if cell_len(some + between + part) > width:
            break
        some += between + part
    return Text(some, no_wrap=True, overflow="ellipsis")
