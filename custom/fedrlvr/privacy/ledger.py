"""What a site has spent of its privacy budget: a file at the site, outside any job, that only ever grows."""

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

from fedrlvr.privacy.accountant import UNITS, Charge, epsilon
from fedrlvr.privacy.append_log import AppendLog
from fedrlvr.protocol.refused import Refused

FORMAT = "fedrlvr ledger 1"
MECHANISMS: dict[str, type[Charge]] = {kind.__name__: kind for kind in UNITS}


class Ledger(AppendLog):
    """Charges by model, of one site (None: whoever's it is, to read it). What is spent on a model adds up over all
    jobs and restarts. Every method raises BrokenLog for a ledger that cannot be trusted, read or written.

    Order and budget come from the order of the lines. Times are for people: a clock that was set back changes nothing
    and is noted (`clock_back_seconds`).
    """

    stops = "nothing that costs budget leaves"

    def __init__(self, path: Path, site: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        super().__init__(path)
        self.site, self.now = site, now

    def charge(self, model: str, job: str, new: Charge, delta: float, max_epsilon: float | None) -> float:
        """Add `new`, and return when it is on disk: the epsilon that all charges of its unit on `model` now cost.
        Raises Refused, with nothing charged, where that would be more than `max_epsilon`."""
        with self.locked():
            lines = self._verified()
            total = epsilon([*_charges(lines, model, type(new)), new], delta)
            if max_epsilon is not None and not total <= max_epsilon:
                spent = epsilon(_charges(lines, model, type(new)), delta)
                raise Refused(
                    f"the privacy budget for {model!r} is spent: epsilon {spent:.4g} of {max_epsilon:g} at delta "
                    f"{delta:g} (unit: {UNITS[type(new)]}), one more would make it {total:.4g}"
                )
            if not lines:
                self.append({"format": FORMAT, "site": self.site, "id": secrets.token_hex(8)} | self._time([]))
            entry = {"model": model, "job": job, "mechanism": type(new).__name__, **asdict(new)}
            self.append(entry | self._time(lines))
        return total

    def planned(self, model: str, charges: Sequence[Charge], delta: float) -> float:
        """What `model` would cost with `charges`, all of one unit, on top; nothing is written."""
        return epsilon([*_charges(self._verified(), model, type(charges[0])), *charges], delta)

    def spent(self, model: str, kind: type[Charge], delta: float) -> float | None:
        """What the charges of one unit cost; None where there are none."""
        charges = _charges(self._verified(), model, kind)
        return epsilon(charges, delta) if charges else None

    def models(self) -> list[str]:
        return sorted({line["model"] for line in self._verified() if "model" in line})

    def check_knows(self, line_hash: str) -> None:
        """Raises BrokenLog where the ledger has no line of this hash, though the site's log once saw one."""
        known = {self.last_hash(), *(line["before"] for line in self._verified())}
        if line_hash and line_hash not in known:
            raise self.broken("lines are missing that the egress log has seen")

    def _verified(self) -> list[dict]:
        lines = list(self.lines())
        first = lines[0] if lines else {"format": FORMAT, "site": self.site, "before": ""}
        if first.get("format") != FORMAT or "before" not in first:
            raise self.broken("line 1 is not a ledger's first line")
        if self.site not in (None, first.get("site")):
            raise self.broken(f"it is the ledger of {first.get('site')!r}, this is {self.site!r}")
        for number, line in enumerate(lines[1:], start=2):
            if not _is_charge(line):
                raise self.broken(f"line {number} is not a possible charge that this version knows")
        return lines

    def _time(self, lines: Sequence[dict]) -> dict:
        now = self.now()
        entry: dict = {"time": now.isoformat(timespec="seconds")}
        back = (datetime.fromisoformat(lines[-1]["time"]) - now).total_seconds() if lines else 0.0
        return entry | ({"clock_back_seconds": round(back)} if back > 1 else {})


def _charges(lines: Sequence[dict], model: str, kind: type[Charge]) -> list[Charge]:
    mine = [line for line in lines if line.get("model") == model and line["mechanism"] == kind.__name__]
    return [kind(**{field.name: line[field.name] for field in fields(kind)}) for line in mine]


def _is_charge(line: dict) -> bool:
    kind = MECHANISMS.get(str(line.get("mechanism")))
    if kind is None or not isinstance(line.get("model"), str):
        return False
    values = {field.name: line.get(field.name) for field in fields(kind)}
    numbers = all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values.values())
    possible = numbers and values["noise_multiplier"] > 0 and values.get("iterations", 1) >= 1
    return possible and values.get("sampling_rate", 0) <= 1
