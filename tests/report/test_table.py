"""The table of a measurement, as a terminal shows it."""

import io

import pytest

from fedrlvr.algorithms.scores import ProblemResult, scores_with_intervals
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import summarise
from fedrlvr.report.table import print_scores, print_summary


@pytest.mark.parametrize("label", ["anatomy", "a subject with a very long name, longer than any terminal would show"])
@pytest.mark.parametrize("ks", [[1], [1, 16], [1, 2, 4, 8, 16]])
def test_the_table_fits_a_terminal_and_says_every_number(label, ks):
    results = [ProblemResult(str(i), label, 16, i % 17, i % 3, i % 5, 0, 1000.0 + i, i % 17 / 16) for i in range(1000)]
    scores = scores_with_intervals(results, ks)
    out = io.StringIO()
    print_scores(scores, ks, "Qwen2.5-3B-Instruct + adapter, math", Screen(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.strip().startswith("overall")]
    part = scores["overall"]
    for k in ks:
        score = part[f"pass@{k}"]
        assert sum(f"{score['mean']:.3f} ({score['low']:.2f}-{score['high']:.2f})" in row for row in rows) == 1
    shares = [f"{part[share]:.0%}" for share in ("truncated", "unanswered")]
    for row in rows:
        assert [row.split()[1], *row.split()[-3:]] == ["1000", f"{part['tokens']:.0f}", *shares]
    assert sum(line.strip().startswith(label[:7]) for line in lines) == len(rows)


@pytest.mark.parametrize("ks", [[1], [1, 16], [1, 2, 4, 8]])
def test_where_something_was_half_right_the_reward_has_a_column(ks):
    """Three of four completions are right, one half right: 3.5 / 4 = 0.875."""
    out = io.StringIO()
    results = [ProblemResult("c", "referral", 16, 12, 0, 0, 0, 1000.0, 0.875)]
    print_scores(scores_with_intervals(results, ks), ks, "one", Screen(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.strip().startswith("referral")]
    assert {tuple(row[-4:]) for row in rows} == {("0.875", "1000", "0%", "0%")}
    assert "reward" in out.getvalue()


def test_a_score_of_one_problem_does_not_look_like_a_fact():
    out = io.StringIO()
    single = [ProblemResult("c", "take", 4, 4, 0, 0, 0, 6.0, 1.0)]
    print_scores(scores_with_intervals(single, [1]), [1], "one", Screen(file=out, width=80))
    assert "1.000 (0.21-1.00)" in out.getvalue()


def of_sites(scores: dict[str, float], average: float) -> dict:
    """A summary of one round with one label."""

    def evaluation(which: str, by_site: dict[str, float]) -> dict:
        told = {site: {"test": {"A": {"problems": 1, "pass@1": value}}} for site, value in by_site.items()}
        return {"event": "evaluation", "which": which, "round": 0, "segment": 0, "samples": 4, "scores": told}

    start = {"event": "start", "method": "pubswap", "sites": list(scores), "rounds": 1, "segments": 1, "seed": 0}
    told = [
        evaluation("base", scores),
        evaluation("local", scores),
        evaluation("global", dict.fromkeys(scores, average)),
    ]
    return summarise([start, *told], 1.0)


@pytest.mark.parametrize(("sites", "tables"), [(4, 1), (6, 2), (30, 6)])
def test_many_sites_are_in_several_tables_that_fit_a_terminal(sites, tables):
    """Of 80 characters the label's column takes 8; site-00 takes 11 with its borders, as `averaged` does."""
    out = io.StringIO()
    print_summary(of_sites({f"site-{n:02}": n / 100 for n in range(sites)}, 0.9), Screen(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.startswith("│ A ")]
    values = [cell.strip() for row in rows for cell in row.strip("│").split("│")[1:]]
    assert len(rows) == tables
    assert values == [*(f"{n / 100:.2f}" for n in range(sites)), "0.90"]


def test_of_a_run_that_stopped_no_time_is_divided_and_no_score_is_final():
    """How long sites worked is told at the end."""
    out = io.StringIO()
    stopped = of_sites({"site-1": 0.25}, 0.5)
    print_summary(stopped, Screen(file=out, width=80))
    print_summary(stopped | {"finished": True}, Screen(file=out, width=80))
    first, second = out.getvalue().split("measured on")[1:]
    assert ("time: 1 s until it stopped" in first, "last" in first, "final" in first) == (True, True, False)
    assert ("time: 1 s = " in second, "final" in second) == (True, True)


def test_scores_of_few_completions_carry_their_interval():
    """One problem of four completions; by Wilson 0.5 is between 0.05 and 0.95 then."""
    out = io.StringIO()
    print_summary(of_sites({"site-1": 0.25}, 0.5), Screen(file=out, width=80))
    assert "0.500 (0.05-0.95)" in out.getvalue()
    assert "1 problem of a type, 4 completions each: ± 0.45 (95%)" in out.getvalue()


def test_a_site_may_be_called_what_the_average_is_called():
    out = io.StringIO()
    print_summary(of_sites({"averaged": 0.25, "base": 0.5}, 0.75), Screen(file=out, width=80))
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("│ A "))
    assert row.split() == ["│", "A", "│", "0.25", "│", "0.50", "│", "0.75", "│"]
