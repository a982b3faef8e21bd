"""What went wrong in a run and what was repaired: counted from the event log, and as short lines."""

from collections import Counter
from collections.abc import Iterable, Sequence

from fedrlvr.printable import counted

MOST_LINES = 10  # if there are more failures, those of one site in one task share a line, whatever their reasons


def incidents(events: Sequence[dict]) -> dict:
    """`failures` are listed one by one, the rest is counted by site; `resumed_after`: rounds after which another job
    continued the run."""
    failed = [e for e in events if e["event"] == "step" and e.get("checkpoint/failed")]
    return {
        "failures": [{k: e[k] for k in ("site", "task", "reason")} for e in events if e["event"] == "failure"],
        "back": _count(site for e in events if e["event"] == "back" for site in e["sites"]),
        "late_answers": _count(e["site"] for e in events if e["event"] == "late"),
        "checkpoints_failed": _count(e["site"] for e in failed),
        "undecided": sum(e["event"] == "undecided" for e in events),
        "resumed_after": [e["after"] for e in events if e["event"] == "resumed"],
    }


def incident_lines(summary: dict) -> list[str]:
    """One line for each kind of incident that happened; a repeated failure is one line with a count."""
    lines = []
    for site, task, reason, count in _grouped(summary["failures"]):
        often = f", {_times(count)}" if count > 1 else ""
        lines.append(f"failed: {site} in {task}{often}: {' '.join(reason.split())}")
    for key, words in (
        ("back", "back after a failure"),
        ("late_answers", "answers that came too late"),
        ("checkpoints_failed", "checkpoints not written"),
    ):
        if summary[key]:
            counts = (f"{site} {_times(count)}" for site, count in summary[key].items())
            lines.append(f"{words}: {', '.join(counts)}")
    if rejected := summary["swap"]["rejected_answers"]:
        lines.append(f"rejected: {counted(rejected, 'answer')} of other sites, wrong or to no public problem")
    if rounds := summary.get("undecided"):
        lines.append(
            f"no exchange in {counted(rounds, 'round')}: fewer than two sites tell which public problems they solve "
            "(metrics.public_shares of their policies), and the adaptive schedule decides by that"
        )
    lines += [f"resumed: after round {number + 1}" for number in summary["resumed_after"]]
    return lines


def _grouped(failures: Sequence[dict]) -> list[tuple[str, str, str, int]]:
    """(site, task, reason, how often), in the order in which they first happened."""
    counts = Counter((f["site"], f["task"], f["reason"]) for f in failures)
    if len(counts) <= MOST_LINES:
        return [(*key, count) for key, count in counts.items()]
    last = {(f["site"], f["task"]): f["reason"] for f in failures}
    counts = Counter((f["site"], f["task"]) for f in failures)
    return [(*key, f"the last one: {last[key]}" if count > 1 else last[key], count) for key, count in counts.items()]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(sites: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(sites).items()))
