"""A record from a run's events, by hand."""

import pytest

from fedrlvr.comparison.record import record_of


def evaluation(which, segment, *values, **more):
    scores = {f"site-{n}": {"test": {"A": {"problems": 4, "pass@1": value}}} for n, value in enumerate(values, 1)}
    place = {"round": 0, "segment": segment, "samples": 4}
    return {"event": "evaluation", "which": which, **place, "scores": scores} | more


def step(site, kind, segment, **metrics):
    counts = {"completions": 8, "num_tokens": 100.0, "optimizer_steps": 4.0, "groups": 4.0, "live_groups": 1.0}
    return {"event": "step", "round": 0, "site": site, "kind": kind, "segment": segment} | counts | metrics


EVENTS = [
    {"event": "start", "method": "pubswap", "sites": ["site-1", "site-2"], "rounds": 1, "segments": 1, "seed": 3},
    evaluation("base", 0, 0.0, 0.5),
    {"event": "adapter_down", "bytes": {"site-1": 50}},
    {"event": "adapter_down", "bytes": {"site-2": 50}},
    *(step(site, "private", 0) for site in ("site-1", "site-2")),
    step("site-1", "public", 0, **{"swap/rescued_groups": 2.0}),
    step("site-2", "public", 0, live_groups=4.0, optimizer_steps=0.0),
    {"event": "exchange", "segment": 0, "offered": 7, "bytes_up": {"site-1": 3}, "bytes_down": {"site-2": 4}},
    evaluation("local", 0, 0.25, 0.5),
    {"event": "average", "round": 0, "sites": ["site-1", "site-2"], "bytes_up": {"site-1": 10, "site-2": 10}},
    evaluation("global", 0, 0.75, 1.0),
    {"event": "end", "asking_seconds": 1.0, "site_seconds": {}},
]


def test_a_record_by_hand():
    record = record_of(EVENTS, 2.04)
    assert record["curve"] == [
        {"segment": 0, "which": "averaged", "pass@1": 0.25, "bytes": 0},
        {"segment": 1, "which": "own", "pass@1": 0.375, "bytes": 107},
        {"segment": 1, "which": "averaged", "pass@1": 0.875, "bytes": 127},
    ]
    assert record["live"] == [[1, (3 / 4 + 4 / 4) / 2]]
    assert record["work"] == {"batches": 2.0, "optimizer_steps": 6.0, "completions": 32, "tokens": 400}
    assert (record["base"], record["final"], record["problems"]) == (0.25, 0.875, 8)
    assert (record["exchanges"], record["posted"], record["seconds"]) == (1, 7, 2.0)
    assert record["matrix"] == {"site-1": {"A": 0.25}, "site-2": {"A": 0.5}, "averaged": {"A": 0.875}}


def test_a_run_that_did_not_finish_has_no_record():
    with pytest.raises(ValueError, match="did not finish"):
        record_of(EVENTS[:-1], 1.0)
