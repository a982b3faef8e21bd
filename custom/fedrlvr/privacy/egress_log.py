"""The site's own record of what left and what did not: JSON Lines, on disk before anything is sent. Never a problem
or an answer, unless a library's error quotes one: its reason is here, though it may not leave."""

import hashlib
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from fedrlvr.privacy.append_log import AppendLog, BrokenLog
from fedrlvr.protocol.refused import Refused

RELEASED, REFUSED = "released", "refused"
MAX_REASON = 1000  # characters


class EgressLog(AppendLog):
    """One line is one message to the server.

    | field | |
    | --- | --- |
    | `time`, `site`, `job`, `model`, `task`, `round`, `segment` | when, whose, and where in the job |
    | `kind` | adapter, responses, metrics, error or unknown |
    | `decision`, `reason` | released or refused; why; of an error, what went wrong |
    | `count`, `bytes`, `sha256` | things released (tensors, answers, records), and exactly the bytes released |
    | `rules` | how many things each rule took out, or what it measured |
    | `ledger` | hash of the ledger's last line at that time, or else the last one known; "" for none |
    | `n`, `before`, `salt` | the line's place in the chain, see `AppendLog` |

    The hash of its newest line goes with every answer as a receipt. The server sends it back with its next request, so
    the site notices when log and ledger were both exchanged for older copies.
    """

    @contextmanager
    def written(self, **place) -> Iterator[dict]:
        """Run the block that decides over one message, and have its outcome on disk before the caller goes on. The
        block puts `count`, `rules` and `fingerprint` into the dictionary it is given. Raises BrokenLog where the log
        cannot be written, so nothing may leave."""
        entry: dict = {}
        try:
            yield entry
        except Exception as error:
            # Whatever it is, it does not leave. A reason of our own making quotes nothing; another's might.
            self.refused(str(error) if isinstance(error, Refused) else type(error).__name__, **place)
            raise
        self._append(place | {"decision": RELEASED, "reason": ""} | entry)

    def refused(self, reason: str, **place) -> None:
        """Write down that something did not leave. Raises BrokenLog."""
        self._append(place | {"decision": REFUSED, "reason": reason[:MAX_REASON]})

    def entries(self) -> Iterator[dict]:
        """Every whole line, oldest first, from a log that is read and verified as a whole. Raises BrokenLog."""
        for number, entry in enumerate(self.lines(), start=1):
            if not {"decision", "kind", "job"} <= entry.keys():
                raise self.broken(f"line {number} is not a line of an egress log")
            yield entry

    def answers(self, job: str) -> Counter[str]:
        """How many answers have left in this job (`RELEASED`), and how many each rule has dropped, before a restart
        included. Reads the whole log: ask once a job."""
        counts: Counter[str] = Counter()
        for entry in self.entries():
            if (entry["job"], entry["kind"], entry["decision"]) == (job, "responses", RELEASED):
                counts.update(entry["rules"] | {RELEASED: entry["count"]})
        return counts

    def check_receipt(self, receipt: str, lost: Container[str]) -> None:
        """Raises BrokenLog where the log has no line of this hash, which the server was given with an answer ("": none
        was), unless it is among the `lost` ones."""
        if receipt not in lost and not self.knows(receipt):
            raise BrokenLog(
                f"{self.path.name}: the server has a receipt for a line that is missing here, so log and ledger are "
                "older copies: put the newer ones back; if they are lost, lower max_epsilon by what this run can have "
                f"cost since, and add the receipt to lost_receipts in the site's policy: {receipt}"
            )

    def last_ledger(self) -> str:
        """Hash of the ledger's last line when something was last written here, "" where there was none. Raises
        BrokenLog."""
        line = self.last_line()
        if {"before", "ledger"} <= line.keys():  # and so it hands on what the line before it knew
            return line["ledger"]
        return next((e["ledger"] for e in reversed(list(self.entries())) if e.get("ledger")), "")

    def _append(self, entry: dict) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.locked():
            self.append({"time": time} | entry | {"ledger": entry.get("ledger") or self.last_ledger()})


def error_entry(told: str, reason: str) -> dict:
    """Of an error of which the server is told `told`, and this log the reason."""
    return {"count": 1, "rules": {}, "reason": reason[:MAX_REASON], **fingerprint(told.encode())}


def fingerprint(payload: bytes) -> dict:
    """Size and SHA-256 of exactly what leaves."""
    return {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
