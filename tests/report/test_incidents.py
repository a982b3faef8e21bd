"""What went wrong in a run, from a hand-written event log, and as it is printed."""

from io import StringIO

from fedrlvr.report.incidents import MOST_LINES, incident_lines, incidents
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import summarise
from fedrlvr.report.table import print_summary


def failure(site: str, task: str, reason: str) -> dict:
    return {"event": "failure", "site": site, "task": task, "reason": reason, "time": 1.0}


def step(site: str, **metrics) -> dict:
    return {"event": "step", "kind": "private", "site": site, **metrics}


EVENTS = [
    failure("south", "train", "worker died (exit code -9); see worker.log"),
    {"event": "back", "round": 0, "segment": 1, "sites": ["south"]},
    step("north", **{"checkpoint/failed": 1.0}),
    step("north"),
    failure("south", "train", "worker died (exit code -9); see worker.log"),
    {"event": "back", "round": 0, "segment": 2, "sites": ["north", "south"]},
    {"event": "late", "site": "south", "task": "train", "count": 1},
    failure("north", "submit", "holds values\nthat are not finite"),
    {"event": "resumed", "after": 1, "skipped": []},
]


def lines(events: list[dict], rejected: int = 0) -> list[str]:
    return incident_lines({**incidents(events), "swap": {"rejected_answers": rejected}})


def test_they_are_counted_by_site():
    found = incidents(EVENTS)
    assert [f["site"] for f in found.pop("failures")] == ["south", "south", "north"]
    assert found == {
        "back": {"north": 1, "south": 2},
        "late_answers": {"south": 1},
        "checkpoints_failed": {"north": 1},
        "undecided": 0,
        "resumed_after": [1],
    }


def test_an_adaptive_schedule_that_knows_nothing_says_so():
    events = [{"event": "undecided", "round": 0, "told": []}, {"event": "undecided", "round": 1, "told": ["north"]}]
    (line,) = lines(events)
    assert line.startswith("no exchange in 2 rounds: fewer than two sites tell")


def test_each_kind_is_one_line():
    assert lines(EVENTS, rejected=7) == [
        "failed: south in train, 2 times: worker died (exit code -9); see worker.log",
        "failed: north in submit: holds values that are not finite",
        "back after a failure: north once, south 2 times",
        "answers that came too late: south once",
        "checkpoints not written: north once",
        "rejected: 7 answers of other sites, wrong or to no public problem",
        "resumed: after round 2",
    ]


def test_a_run_without_any_says_nothing_of_them():
    assert lines([step("north")]) == []


def test_many_different_ones_are_one_line_for_a_site_and_task():
    many = [failure("south", "train", f"exit code {number}") for number in range(MOST_LINES + 1)]
    assert lines([*many, failure("north", "swap", "gone")]) == [
        f"failed: south in train, {MOST_LINES + 1} times: the last one: exit code {MOST_LINES}",
        "failed: north in swap: gone",
    ]


def test_they_are_printed_below_the_table():
    scores = {"test": {"A": {"problems": 1, "pass@1": 0.5}}}
    start = {"event": "start", "method": "local", "sites": ["north"], "rounds": 1, "segments": 1, "seed": 0}
    base, final = (
        {"event": "evaluation", "samples": 4, "which": which, "round": 0, "segment": 0, "scores": {"north": scores}}
        for which in ("base", "local")
    )
    out = StringIO()
    print_summary(summarise([start, base, final, *EVENTS], 1.0), Screen(file=out, width=200))
    assert out.getvalue().splitlines()[-6:] == lines(EVENTS)
