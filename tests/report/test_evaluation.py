"""What a measurement came to: scores worked out by hand, and a table for a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fedrlvr.learning.results import ProblemResult
from fedrlvr.report.evaluation import print_scores, scores_by_label

TALLIES = [  # id, label, samples, correct, truncated, timeouts, tokens
    ProblemResult("a", "add", 4, 1, 2, 0, 10.0),
    ProblemResult("b", "add", 4, 0, 0, 1, 20.0),
    ProblemResult("c", "take", 4, 4, 0, 0, 6.0),
    ProblemResult("d", "", 4, 3, 1, 2, 8.0),
]


@pytest.fixture
def scores():
    return scores_by_label(TALLIES, [1, 2], seed=0)


def test_scores_are_those_worked_out_by_hand(scores):
    """pass@2 of 1 right in 4: 1 - C(3,2)/C(4,2) = 1/2; of 3 right in 4: 1."""
    overall, add = scores["overall"], scores["add"]
    assert (overall["problems"], overall["reward"], overall["tokens"]) == (4, 8 / 16, 11.0)
    assert (overall["truncated"], overall["verifier/timeouts"]) == (3 / 16, 3)
    assert overall["pass@1"]["mean"] == pytest.approx((1 / 4 + 0 + 1 + 3 / 4) / 4)
    assert overall["pass@2"]["mean"] == pytest.approx((1 / 2 + 0 + 1 + 1) / 4)
    assert (add["problems"], add["reward"], add["tokens"], add["truncated"]) == (2, 1 / 8, 15.0, 2 / 8)
    assert add["pass@1"]["mean"] == pytest.approx(1 / 8)
    assert add["pass@2"]["mean"] == pytest.approx(1 / 4)


def test_labels_come_sorted_after_overall_and_no_label_is_none(scores):
    assert list(scores) == ["overall", "add", "take"]


def test_an_interval_lies_around_the_mean_and_within_what_problems_scored(scores):
    for part in (scores["overall"], scores["add"]):
        for k, most in (("pass@1", 1.0), ("pass@2", 1.0)):
            assert 0 <= part[k]["low"] <= part[k]["mean"] <= part[k]["high"] <= most
    assert scores["add"]["pass@1"]["high"] == 1 / 4  # two problems, of which one may be drawn twice
    assert scores["add"]["pass@1"]["low"] == 0


def test_one_problem_has_no_interval(scores):
    assert scores["take"]["pass@1"] == {"mean": 1.0, "low": None, "high": None}


def test_neither_other_labels_nor_other_ks_move_a_score_or_its_interval(scores):
    alone = scores_by_label(TALLIES[:2], [2], seed=0)
    assert alone["add"]["pass@2"] == scores["add"]["pass@2"]
    assert scores_by_label(TALLIES, [1, 2], seed=0) == scores


@pytest.mark.parametrize("label", ["anatomy", "a subject with a very long name, longer than any terminal would show"])
def test_the_table_fits_a_terminal_and_says_every_number(label):
    results = [ProblemResult(str(i), label, 16, i % 17, i % 3, 0, 1000.0 + i) for i in range(1000)]
    scores = scores_by_label(results, [1, 16], seed=0)
    out = io.StringIO()
    print_scores(scores, [1, 16], "Qwen2.5-3B-Instruct + adapter, math", Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if line.strip().startswith("overall"))
    part = scores["overall"]
    for number in ("1000", *(f"{part[k]['mean']:.3f}" for k in ("pass@1", "pass@16")), f"{part['tokens']:.0f}"):
        assert number in row.split()
    for k in ("pass@1", "pass@16"):
        assert f"({part[k]['low']:.2f}-{part[k]['high']:.2f})" in row
    assert f"{part['truncated']:.0%}" in row.split()


def test_a_score_without_an_interval_is_shown_without_one():
    out = io.StringIO()
    print_scores(scores_by_label(TALLIES[2:3], [1], seed=0), [1], "one", Console(file=out, width=80))
    assert "1.000" in out.getvalue()
    assert "(" not in out.getvalue()
    assert "nan" not in out.getvalue()
