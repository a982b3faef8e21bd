"""The table of a measurement, as a terminal shows it."""

import io

import pytest

from fedrlvr.algorithms.scores import ProblemResult, scores_with_intervals
from fedrlvr.report.screen import Screen
from fedrlvr.report.table import print_scores


@pytest.mark.parametrize("label", ["anatomy", "a subject with a very long name, longer than any terminal would show"])
def test_the_table_fits_a_terminal_and_says_every_number(label):
    results = [ProblemResult(str(i), label, 16, i % 17, i % 3, 0, 1000.0 + i) for i in range(1000)]
    scores = scores_with_intervals(results, [1, 16], seed=0)
    out = io.StringIO()
    print_scores(scores, [1, 16], "Qwen2.5-3B-Instruct + adapter, math", Screen(file=out, width=80))
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
    single = [ProblemResult("c", "take", 4, 4, 0, 0, 6.0)]
    print_scores(scores_with_intervals(single, [1], seed=0), [1], "one", Screen(file=out, width=80))
    assert "1.000" in out.getvalue()
    assert "(" not in out.getvalue()
    assert "nan" not in out.getvalue()
