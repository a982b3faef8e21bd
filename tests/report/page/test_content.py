"""What a page says of a run, by hand."""

from collections import Counter

import pytest
from pydantic import BaseModel

from fedrlvr.config import JobConfig
from fedrlvr.report.cells import Shaded
from fedrlvr.report.page.content import MOST_TEXT, page_of
from fedrlvr.report.page.events import Log
from fedrlvr.report.page.folder import Left, RunFiles, SiteRecords
from fedrlvr.report.page.tables import (
    MOST_LABELS,
    largest_labels,
    matrices,
    problem_table,
    score_in_words,
    sent_table,
    setting_tables,
    size,
)

LEFT = Left.model_validate({"seconds": {"wall": 8.0}, "versions": {"torch": "2", "nvflare": None}})


def entry(kind: str, decision: str = "released", reason: str = "", **rules) -> dict:
    return {"job": "j", "kind": kind, "decision": decision, "reason": reason, "count": 2, "bytes": 100, "rules": rules}


def of(events, **more):
    return page_of(RunFiles("run", Log(events), left=LEFT, **more))


def test_the_headlines(events):
    """Wilson's interval of 0.25 in 8 problems is 0.07 to 0.59, of 0.5 0.22 to 0.78. 9 of 48 completions are swapped."""
    base, final, swapped, sent = of(events).headlines
    assert base == ("0.250", "pass@1 of the base model", "95%: 0.07 to 0.59, 8 problems, 4 samples each")
    assert final == ("0.500", "pass@1 at the end", "95%: 0.22 to 0.78, 8 problems, 4 samples each")
    assert swapped == ("19%", "of public completions were swapped", "3 of 6 groups without a right answer got one")
    assert sent == ("4.1 kB", "of adapters and answers, both ways", "adapters 4.0 kB, answers 80 B")


def test_the_state_of_a_run(events):
    assert (of(events).finished, of(events).state) == (True, "finished in 8 s")
    broken = of(events[:-6])
    assert broken.state == "not finished: no event says that it ended; 1 of 2 rounds are done"
    assert broken.headlines[1].name == "pass@1 after round 1 of 2"
    stopped = of([*events[:-1], {"event": "stopped", "reason": "too few\nsites"}])
    assert stopped.state == "did not finish: too few sites; 2 of 2 rounds are done"
    only = of(events[:1])
    assert (only.headlines[0].name, only.charts, only.matrices, only.scores.rows) == (
        "of adapters and answers, both ways",
        [],
        [],
        (),
    )


def test_without_averaging_the_problems_of_all_sites_count_once(events):
    """Both sites were measured on the same four problems, and 4 of these 8 scores are right."""
    alone = [event | {"method": "local"} if event["event"] == "start" else event for event in events]
    final = of(alone).headlines[1]
    assert final == (
        "0.500",
        "pass@1 of the sites' own adapters, at the end",
        "95%: 0.15 to 0.85, 4 problems, 4 samples each",
    )
    assert of(alone[:-1]).headlines[1].name == "pass@1 of the sites' own adapters, measured last"


def test_where_the_time_went(events):
    """A site worked (4 + 2) / 2 s of the 6 s in which tasks were out, of 8 s in all."""
    page = of(events)
    assert page.time == [
        (0, "a site at work", 3, 3 / 8),
        (1, "waiting", 3, 3 / 8),
        (2, "starting and stopping", 2, 2 / 8),
    ]
    assert page.site_seconds.rows == (("north", "4.0"), ("south", "2.0"))
    assert (of(events[:-1]).time, of(events[:-1]).site_seconds) == ([], None)
    silent = of([*events[:-1], events[-1] | {"site_seconds": {"north": 0.0}}])
    assert silent.site_seconds is None
    assert [part[:3] for part in silent.time] == [
        (1, "waiting for sites that do not report how long they worked", 6),
        (2, "starting and stopping", 2),
    ]


def test_the_server_counted_bytes(events):
    assert of(events).leaving.bytes.rows == (
        ("north", "1.0 kB", "1.0 kB", "30 B", "10 B"),
        ("south", "1.0 kB", "1.0 kB", "10 B", "30 B"),
        ("all", "2.0 kB", "2.0 kB", "40 B", "40 B"),
    )
    assert [size(count) for count in (0, 999, 1000, 2.5e6, 7e12)] == ["0 B", "999 B", "1.0 kB", "2.5 MB", "7,000.0 GB"]


def test_the_matrix_before_and_after_averaging(events):
    (last, matrix), (first, _) = matrices(of(events).summary)
    assert (last, first) == ("Round 2", "Round 1")
    assert matrix.table.head == ("whose adapter", "A", "B")
    assert matrix.table.rows == (
        ("base model", "0.25", "0.25"),
        ("north", "1.00", "0.00"),
        ("south", "0.00", "1.00"),
        ("averaged", "0.50", "0.50"),
    )
    assert matrix.shades[1] == (1.0, 0.0)


def test_with_more_labels_than_sites_labels_are_the_rows(events):
    summary = of(events).summary
    many = {f"L{n:03}": n / 100 for n in range(MOST_LABELS + 9)}
    summary["before_averaging"] = [{"round": 1, "pass@1": {"north": many}}]
    summary["measured"]["problems"] = dict.fromkeys(many, 2) | {"L068": 9}
    ((_, matrix),) = matrices(summary)
    assert matrix.table.head == ("label", "base model", "north", "averaged")
    assert len(matrix.table.rows) == MOST_LABELS
    assert matrix.table.rows[-1] == ("L068", "-", "0.68", "-")


def test_scores_have_wilsons_interval_and_the_largest_labels():
    assert score_in_words({"pass@1": 0.5, "problems": 8.0}) == "0.500\n(0.22-0.78)"
    assert score_in_words(None) == "-"
    labels = {f"L{n}": {"problems": n} for n in range(MOST_LABELS + 2)} | {"overall": {"problems": 99}}
    assert len(largest_labels(labels)) == MOST_LABELS + 1
    assert "L1" not in largest_labels(labels)
    assert largest_labels({"overall": {}, "A": {"problems": 1}}) == ["overall"]


def test_incidents_and_silence_are_said(events):
    said = of(events).incidents
    assert "failed: south in train: out of memory" in said
    assert "answers that came too late: south once" in said
    assert "back after a failure: south once" in said
    silent = of([event | {"optimizer_steps": 0.0} if event["event"] == "step" else event for event in events]).incidents
    assert any(line.startswith("No site has learnt anything: each site's completions.jsonl") for line in silent)
    assert sum("has learnt nothing in" in line for line in silent) == 2


def test_what_left_is_by_the_sites_own_logs_where_the_lead_has_them(events):
    log = [entry("adapter"), entry("responses", ngram=3), entry("responses", "refused", "no")]
    sites = {"north": SiteRecords(sent=log, spent=["m: epsilon 2"]), "south": SiteRecords(why="it has no policy")}
    leaving = of(events, sites=sites).leaving
    assert leaving.sent.rows == (
        ("north", "adapter", "1", "0", "2", "100", "-"),
        ("north", "responses", "1", "1", "2", "100", "ngram 3"),
    )
    assert leaving.refused == [("north", "refused 1 x responses: no")]
    assert leaving.spent == [("north", "m: epsilon 2")]
    assert leaving.unknown == [("south", "it has no policy")]
    elsewhere = of(events).leaving
    assert (elsewhere.sent.rows, [site for site, _ in elsewhere.unknown]) == ((), ["north", "south"])
    assert sent_table({}).rows == ()


def test_without_the_sites_logs_it_is_not_known_whose_answers_took_a_place(events):
    helping = of(events).helping
    assert (helping.swapped, helping.examples, helping.counted) == (None, [], 9)
    assert "which the lead does not have" in helping.why
    assert of(events, sites={"north": SiteRecords(has_log=True)}).helping.swapped.total == 0


def test_problems_by_set_are_darkest_where_a_set_has_most():
    sites = {"north": SiteRecords(private=Counter(A=3, B=1)), "south": SiteRecords()}
    found = problem_table(sites, Counter(A=1, B=2), Counter(A=2, B=2))
    assert found.table.head == ("problems", "in all", "A", "B")
    assert found.table.rows == (("north", "4", "3", "1"), ("public", "3", "1", "2"), ("test", "4", "2", "2"))
    assert found.shades == ((None, 1.0, pytest.approx(1 / 3)), (None, 0.5, 1.0), (None, 1.0, 1.0))


def test_settings_show_the_default_of_what_is_not_at_it():
    job = JobConfig(task="math", model="m", seed=3, federation={"rounds": 2, "segments_per_round": 3, "min_sites": 1})
    groups = dict(setting_tables(job))
    assert ("seed", "3", "0") in groups["job"].rows
    assert ("task", "math", "") in groups["job"].rows
    found = {row[0]: row for row in groups["federation"].rows}
    default = f"{JobConfig.model_fields['federation'].default.rounds}"
    assert found["rounds"] == ("rounds", "2", "" if default == "2" else default)
    assert len(groups) == 1 + sum(isinstance(value, BaseModel) for value in dict(job).values())


def test_shaded_tables():
    counts = Shaded.of_counts("x", ["a"], [("one", [0]), ("two", [4]), ("three", [None])])
    assert counts.table.rows == (("one", "0"), ("two", "4"), ("three", ""))
    assert counts.shades == ((0.0,), (1.0,), (None,))
    assert Shaded.of_counts("x", ["a"], [("one", [0])]).shades == ((0.0,),)
    assert MOST_TEXT >= 1000
