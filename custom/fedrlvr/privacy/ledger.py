"""What a site has spent of its privacy budget: a file at the site, outside any job, that only ever grows."""

import math
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from fedrlvr.privacy.accountant import UNITS, Charge, epsilon
from fedrlvr.privacy.append_log import BEGINNING, AppendLog, BrokenLog
from fedrlvr.protocol.refused import Refused

FORMAT = "fedrlvr ledger 1"
MECHANISMS: dict[str, type[Charge]] = {kind.__name__: kind for kind in UNITS}


@dataclass(frozen=True, order=True)
class Source:
    """What a release is made from: a model, by its name, and the private problems, by their hash ("": not known)."""

    model: str
    data: str = ""


class Ledger(AppendLog):
    """Charges of one site (None: whoever's it is, to read it). Sources that share a model or data have one budget, and
    so have those that are linked by others: what is spent of it adds up over all jobs and restarts. Every method raises
    BrokenLog for a ledger that cannot be trusted, read or written.

    Order and budget come from the order of the lines. Times are for people: a clock that was set back changes nothing
    and is noted (`clock_back_seconds`). A line that was read and verified once is not read again, so a charge costs the
    same however long the ledger is.
    """

    stops = "nothing that costs budget leaves"

    def __init__(self, path: Path, site: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        super().__init__(path)
        self.site, self.now = site, now
        self._reader = threading.Lock()
        self._forget()

    def charge(self, source: Source, job: str, new: Charge, delta: float, max_epsilon: float | None) -> float:
        """Add `new`, and return when it is on disk: the epsilon that all charges of its unit on this budget now cost.
        Raises Refused, with nothing charged, where that would be more than `max_epsilon`."""
        with self.locked():
            before = self.charges(source, type(new))
            total = epsilon([*before, new], delta)
            if max_epsilon is not None and not total <= max_epsilon:
                raise Refused(
                    f"the privacy budget for {source.model!r} is spent: epsilon {epsilon(before, delta):.4g} of "
                    f"{max_epsilon:g} at delta {delta:g} (unit: {UNITS[type(new)]}), one more would make it {total:.4g}"
                )
            if not self._read.number:
                self.append({"format": FORMAT, "site": self.site, "id": secrets.token_hex(8)} | self._time())
            entry = asdict(source) | {"job": job, "mechanism": type(new).__name__, **asdict(new)}
            self.append(entry | self._time())
        return total

    def charges(self, source: Source, kind: type[Charge]) -> list[Charge]:
        """All charges of one unit on the budget of `source`; those that differ only in how often they were made are
        one."""
        with self._reader:
            self._read_on()
            total = sum((self._charged.get(one, Counter()) for one in _linked(source, self._charged)), Counter())
            return [replace(c, **{c.times: count}) for c, count in total.items() if isinstance(c, kind)]

    def budgets(self) -> list[list[Source]]:
        """All sources, those with one budget together."""
        with self._reader:
            self._read_on()
            linked = {tuple(sorted(_linked(one, self._charged))) for one in self._charged}
        return [list(sources) for sources in sorted(linked)]

    def check_knows(self, line_hash: str) -> None:
        """Raises BrokenLog where the ledger has no line of this hash, though the site's log or worker once saw one."""
        if not self.knows(line_hash):
            raise BrokenLog(
                f"{self.path.name}: lines are missing that the egress log has seen, or a checkpoint; restore it, or "
                f"let its owner begin anew by moving ledger, log and state_dir away; until then {self.stops}"
            )

    def _forget(self) -> None:
        self._read, self._last_time = BEGINNING, None
        self._charged: dict[Source, Counter[Charge]] = defaultdict(Counter)

    def _read_on(self) -> None:
        """Take in the lines that are new since the last time."""
        if not self.holds(self._read):
            self._forget()
        try:
            for place, line in self.since(self._read):
                self._take(place.number, line)
                self._read = place
        except BaseException:
            self._forget()
            raise

    def _take(self, number: int, line: dict) -> None:
        try:
            self._last_time = datetime.fromisoformat(line["time"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError):
            raise self.broken(f"line {number} has no time") from None
        if number == 1:
            if line.get("format") != FORMAT or "before" not in line:
                raise self.broken("line 1 is not a ledger's first line")
            if self.site not in (None, line.get("site")):
                raise self.broken(f"it is the ledger of {line.get('site')!r}, this is {self.site!r}")
            return
        charge = _charge(line)
        if charge is None:
            raise self.broken(f"line {number} is not a possible charge that this version knows")
        alike = replace(charge, **{charge.times: 0})
        self._charged[Source(line["model"], line.get("data", ""))][alike] += getattr(charge, charge.times)

    def _time(self) -> dict:
        now = self.now()
        entry: dict = {"time": now.isoformat(timespec="seconds")}
        back = (self._last_time - now).total_seconds() if self._last_time else 0.0
        return entry | ({"clock_back_seconds": round(back)} if back > 1 else {})


def _linked(source: Source, sources: Iterable[Source]) -> set[Source]:
    """`source`, and all of the others that share a model or data with one of these."""
    linked, others = {source}, set(sources)
    while others:
        models, data = {one.model for one in linked}, {one.data for one in linked} - {""}
        more = {one for one in others if one.model in models or one.data in data}
        if not more:
            break
        linked, others = linked | more, others - more
    return linked


def _charge(line: dict) -> Charge | None:
    """The charge of a line; None where it is not a possible one."""
    kind = MECHANISMS.get(str(line.get("mechanism")))
    if kind is None or not isinstance(line.get("model"), str) or not isinstance(line.get("data", ""), str):
        return None
    values = {field.name: line.get(field.name) for field in fields(kind)}
    numbers = all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values.values())
    possible = numbers and values["noise_multiplier"] > 0 and values.get("iterations", 1) >= 1
    return kind(**values) if possible and values.get("sampling_rate", 0) <= 1 else None
