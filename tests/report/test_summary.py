"""A run's summary from a hand-written event log."""

import json

import pytest

from fedrlvr.report import summary
from fedrlvr.report.summary import best_round, summarise


def score(problems: int, pass_at_1: float, **more) -> dict:
    return {"problems": problems, "pass@1": pass_at_1} | more


def evaluation(which: str, segment: int, round_number: int, /, **scores) -> dict:
    event = {"event": "evaluation", "which": which, "round": round_number, "segment": segment, "samples": 4}
    return event | {"scores": scores}


def public_step(site: str, **metrics) -> dict:
    zeros = dict.fromkeys(("swap/completions", "swap/all_wrong_groups", "swap/rescued_groups"), 0.0)
    return {"event": "step", "kind": "public", "site": site, "completions": 16.0} | zeros | metrics


def start(method: str) -> dict:
    sites = ["north", "south"]
    return {"event": "start", "method": method, "sites": sites, "rounds": 2, "segments": 4, "seed": 7}


def pubswap_events() -> list[dict]:
    """Two rounds of two segments; the curve is measured after every segment, so also within rounds."""
    return [
        start("pubswap"),
        evaluation(
            "base",
            0,
            0,
            north={"test": {"A": score(2, 0.0)}, "heldout": {"A": score(4, 0.25)}},
            south={"test": {"A": score(1, 0.3), "B": score(3, 0.1)}, "heldout": {"B": score(4, 0.5)}},
        ),
        {"event": "adapter_down", "bytes": {"north": 100, "south": 100}},
        {"event": "step", "kind": "private", "site": "north", "completions": 16.0},
        public_step("north", **{"swap/completions": 6.0, "swap/all_wrong_groups": 2.0, "swap/rescued_groups": 1.0}),
        public_step("south", **{"swap/completions": 2.0, "exchange/wrong": 1.0, "exchange/unknown_prompt": 2.0}),
        {
            "event": "exchange",
            "segment": 0,
            "bytes_up": {"north": 5, "south": 7},
            "bytes_down": {"north": 7, "south": 5},
        },
        evaluation("local", 0, 0, north={"test": {"A": score(3, 0.1)}}, south={"test": {"A": score(3, 0.2)}}),
        evaluation("local", 1, 0, north={"test": {"A": score(3, 0.6)}}, south={"test": {"A": score(3, 0.4)}}),
        {
            "event": "average",
            "round": 0,
            "bytes_up": {"north": 50, "south": 50},
            "drift/cosine": 0.5,
            "sites": ["north", "south"],
        },
        evaluation("global", 1, 0, north={"test": {"A": score(1, 0.5)}}, south={"test": {"A": score(2, 0.8)}}),
        {"event": "failure", "site": "south", "task": "train", "reason": "out of memory", "time": 3.2},
        {"event": "adapter_down", "bytes": {"north": 100}},
        public_step("north"),
        evaluation("local", 3, 1, north={"test": {"A": score(3, 0.9)}}),
        {"event": "average", "round": 1, "bytes_up": {"north": 50}, "drift/cosine": 1.0, "sites": ["north"]},
        evaluation("global", 3, 1, north={"test": {"A": score(3, 0.9)}, "heldout": {"A": score(4, 0.75)}}),
        {"event": "end", "late": 0, "asking_seconds": 30.0, "site_seconds": {"north": 24.0, "south": 16.0}},
    ]


def test_a_pubswap_run_by_hand():
    summary = summarise(pubswap_events(), wall_seconds=42.0)
    assert (summary["method"], summary["seed"], summary["finished"]) == ("pubswap", 7, True)
    assert (summary["sites"], summary["rounds"], summary["segments"]) == (["north", "south"], 2, 4)
    assert summary["base"]["test"] == {
        "overall": score(6, pytest.approx(0.1)),
        "A": score(3, pytest.approx(0.1)),
        "B": score(3, pytest.approx(0.1)),
    }
    assert summary["base"]["heldout"] == {"north": score(4, 0.25), "south": score(4, 0.5)}
    assert summary["final"]["test"]["overall"]["pass@1"] == pytest.approx(0.9)
    assert summary["final"]["heldout"] == {"north": score(4, 0.75)}
    # only the ends of rounds, not the curve within them
    assert summary["before_averaging"] == [
        {"round": 0, "pass@1": {"north": {"A": 0.6}, "south": {"A": 0.4}}},
        {"round": 1, "pass@1": {"north": {"A": 0.9}}},
    ]
    after = [entry["pass@1"]["overall"] for entry in summary["after_averaging"]]
    assert after == pytest.approx([0.7, 0.9])  # (1 x 0.5 + 2 x 0.8) / 3
    assert summary["bytes"] == {"adapter": {"down": 300, "up": 150}, "responses": {"down": 12, "up": 12}}
    assert summary["swap"] == {
        "public_steps": 3,
        "fraction": 8 / 48,
        "all_wrong_groups": 2,
        "rescued_groups": 1,
        "rejected_answers": 3,
    }
    assert summary["drift"] == [{"drift/cosine": 0.5}, {"drift/cosine": 1.0}]
    assert summary["failures"] == [{"site": "south", "task": "train", "reason": "out of memory"}]
    assert summary["seconds"] == {"wall": 42.0, "compute": 20.0, "waiting": 10.0, "start_and_stop": 12.0}
    assert json.loads(json.dumps(summary)) == summary


def test_the_best_round_is_by_held_out_problems_where_some_are_measured_after_every_round():
    """Round 1: 0.5 of 4 and 0.25 of 4, so 0.375; round 2: 0.25. On the test set it is the other way round."""
    rounds = [
        evaluation("global", 1, 0, north={"test": {"A": score(4, 0.1)}, "heldout": {"A": score(4, 0.5)}}),
        evaluation("global", 3, 1, north={"test": {"A": score(4, 0.9)}, "heldout": {"A": score(4, 0.25)}}),
    ]
    rounds[0]["scores"]["south"] = {"test": {"A": score(4, 0.1)}, "heldout": {"B": score(4, 0.25)}}
    assert best_round(rounds) == {"round": 0, "measured_on": "heldout", "pass@1": 0.375, "last": 0.25}
    del rounds[1]["scores"]["north"]["heldout"]
    assert best_round(rounds) == {"round": 1, "measured_on": "test", "pass@1": 0.9, "last": 0.9}
    assert best_round([rounds[0], rounds[0] | {"round": 1}])["round"] == 1  # of equals the last
    assert best_round([]) is None


def test_shares_of_answers_are_over_all_sites_problems():
    """Without an answer: (0.25 x 6 + 0.5 x 2) / 8; cut off: (0 x 6 + 1 x 2) / 8."""
    parts = {"north": {"test": {"A": score(6, 0.0)}, "unanswered": 0.25}, "south": {"test": {"B": score(2, 0.0)}}}
    parts["south"] |= {"unanswered": 0.5, "cut_off": 1.0}
    base = summarise([start("pubswap"), evaluation("base", 0, -1, **parts)], 1.0)["base"]
    assert (base["unanswered"], base["cut_off"]) == (pytest.approx(2.5 / 8), 0.25)


def test_a_run_without_averaging_ends_with_each_sites_own_adapter():
    """Both sites measure the same four problems, each its own adapter."""
    events = [
        start("local"),
        evaluation("base", 0, 0, north={"test": {"A": score(2, 0.0)}}, south={"test": {"A": score(2, 0.5)}}),
        evaluation("local", 1, 0, north={"test": {"A": score(4, 0.2)}}, south={"test": {"A": score(4, 0.0)}}),
        evaluation("local", 3, 1, north={"test": {"A": score(4, 1.0)}}, south={"test": {"A": score(4, 0.5)}}),
        {"event": "end", "late": 0, "asking_seconds": 3.0, "site_seconds": {}},
    ]
    summary = summarise(events, 5.0)
    assert summary["final"]["test"]["overall"]["pass@1"] == 0.75
    assert "heldout" not in summary["final"]
    assert [entry["round"] for entry in summary["before_averaging"]] == [0, 1]
    assert summary["after_averaging"] == summary["drift"] == []
    assert summary["swap"]["fraction"] == 0.0
    assert summary["bytes"]["adapter"] == {"down": 0, "up": 0}


@pytest.mark.parametrize("kept", range(1, 18))
def test_a_run_that_stopped_early_is_summarised_as_far_as_it_got(kept):
    """Cut the event log after every event once."""
    events = pubswap_events()[:kept]
    summary = summarise(events, 9.0)
    assert summary["finished"] is False
    assert (summary["base"] is None) == (kept < 2)
    assert (summary["final"] is None) == (kept < 11)
    assert len(summary["after_averaging"]) == sum(e.get("which") == "global" for e in events)
    assert summary["seconds"] == {"wall": 9.0, "compute": 0.0, "waiting": 0.0, "start_and_stop": 9.0}


def test_a_site_that_leaves_out_a_number_does_not_break_the_summary():
    step = public_step("north", **{"swap/completions": 3.0})
    del step["completions"]
    assert summarise([start("pubswap"), step], 1.0)["swap"]["public_steps"] == 1


def test_a_local_run_that_stopped_within_a_round_reports_the_last_measurement():
    events = [start("local"), evaluation("local", 0, 0, north={"test": {"A": score(4, 0.25)}})]
    summary = summarise(events, 1.0)
    assert summary["final"]["test"]["overall"] == score(4, 0.25)
    assert summary["before_averaging"] == []


def test_a_package_that_is_not_installed_has_no_version_and_costs_no_run(monkeypatch):
    monkeypatch.setattr(summary, "PACKAGES", ("numpy", "no-such-package"))
    versions = summarise(pubswap_events(), 1.0)["versions"]
    assert versions["no-such-package"] is None
    assert versions["numpy"][0].isdigit()
