"""What a comparison keeps of a run: a small dictionary, from its events. Pure, so that it can be checked by hand.

A record has the numbers of every table and figure, and none of the run's text.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from fedrlvr.algorithms.scores import overall
from fedrlvr.report.summary import at_the_end, merged_test, summarise

DIGITS = 4


def record_of(events: Sequence[dict], seconds: float) -> dict:
    """The record of a finished run. Raises ValueError for one that did not finish."""
    summary = summarise(events, seconds)
    if not summary["finished"]:
        raise ValueError("the run did not finish")
    return {
        "method": summary["method"],
        "sites": len(summary["sites"]),
        "rounds": summary["rounds"],
        "segments": summary["segments"],
        "base": round(summary["base"]["test"]["overall"]["pass@1"], DIGITS),
        "final": round(summary["final"]["test"]["overall"]["pass@1"], DIGITS),
        "problems": int(summary["final"]["test"]["overall"]["problems"]),
        "matrix": {
            name: {label: round(value, DIGITS) for label, value in scores.items() if label != "overall"}
            for name, scores in at_the_end(summary)
        },
        "curve": list(_curve(events, len(summary["sites"]))),
        "live": [list(point) for point in _live(events)],
        "work": _work(events, len(summary["sites"])),
        "exchanges": sum(event["event"] == "exchange" for event in events),
        "posted": sum(event["offered"] for event in events if event["event"] == "exchange"),
        "failures": len(summary["failures"]),
        "seconds": round(seconds, 1),
    }


def _curve(events: Sequence[dict], sites: int) -> Iterator[dict]:
    """pass@1 over segments, with the bytes that had been sent until then: `own` is the mean of the sites' adapters,
    `averaged` what the server has."""
    sent = 0
    for event in events:
        sent += sum(sum(event.get(key, {}).values()) for key in ("bytes", "bytes_up", "bytes_down"))
        if event["event"] != "evaluation":
            continue
        which, segment = event["which"], event["segment"] + 1
        if which == "local" and len(event["scores"]) < sites:
            continue  # the mean of those who came so far would be of other sites than the points beside it
        if which == "local":
            value = fmean(overall(part["test"])["pass@1"] for part in event["scores"].values())
            yield {"segment": segment, "which": "own", "pass@1": round(value, DIGITS), "bytes": sent}
        else:
            value, segment = merged_test(event)["overall"]["pass@1"], segment if which == "global" else 0
            yield {"segment": segment, "which": "averaged", "pass@1": round(value, DIGITS), "bytes": sent}


def _live(events: Sequence[dict]) -> list[tuple[int, float]]:
    """(segment, share of the public groups whose rewards differ, swapped answers included), the mean of the sites."""
    by_segment: dict[int, list[float]] = {}
    for event in events:
        if event["event"] == "step" and event["kind"] == "public" and event["groups"]:
            live = event["live_groups"] + event.get("swap/rescued_groups", 0)
            by_segment.setdefault(event["segment"], []).append(live / event["groups"])
    return [(segment + 1, round(fmean(shares), DIGITS)) for segment, shares in sorted(by_segment.items())]


def _work(events: Sequence[dict], sites: int) -> dict:
    """What the run cost: batches sampled and optimizer steps taken by a site, completions and tokens of all sites."""
    steps = [event for event in events if event["event"] == "step"]
    return {
        "batches": len(steps) / sites,
        "optimizer_steps": sum(step.get("optimizer_steps", 0) for step in steps) / sites,
        "completions": int(sum(step["completions"] for step in steps)),
        "tokens": int(sum(step["num_tokens"] for step in steps)),
    }
