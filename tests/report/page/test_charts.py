"""Curves as geometry: the view box is 360 x 220, the plot from (32, 12) to (350, 190)."""

import pytest

from fedrlvr.report.page.charts import (
    COLOURS,
    MOST_POINTS,
    Curve,
    chart,
    compared_chart,
    live_share,
    pass_curves,
    round_numbers,
    run_charts,
    site_colours,
    step_curves,
    thinned,
)
from fedrlvr.report.summary import summarise


def test_points_are_where_they_belong():
    made = chart("x", [Curve("a", [(0, 0.0), (2, 0.5), (4, 1.0)], 3, marks=[(4, 0.25)])], 4)
    (line,) = made.lines
    assert line.path == "32.0,190.0 191.0,101.0 350.0,12.0"
    assert (line.colour, line.marks) == (3, ((350.0, 145.5, "0.25"),))
    assert made.x_ticks == ((32.0, "0"), (111.5, "1"), (191.0, "2"), (270.5, "3"), (350.0, "4"))
    assert made.y_ticks == ((190.0, "0"), (145.5, "0.25"), (101.0, "0.5"), (56.5, "0.75"), (12.0, "1"))
    assert chart("x", [Curve("a", [])], 4) is None


def test_rewards_beyond_0_and_1_have_an_axis_of_their_own():
    made = chart("x", [Curve("a", [(0, -1.0), (4, 3.0)])], 4, shares=False)
    assert made.lines[0].path == "32.0,190.0 350.0,12.0"
    assert [text for _, text in made.y_ticks] == ["-1", "0", "1", "2", "3"]


def test_a_point_beyond_the_planned_segments_is_in_the_picture():
    assert chart("x", [Curve("a", [(8, 1.0)])], 4).lines[0].path == "350.0,12.0 350.0,12.0"


@pytest.mark.parametrize(
    ("last", "ticks"), [(1, [0, 1]), (6, [0, 1, 2, 3, 4, 5, 6]), (16, [0, 5, 10, 15]), (100_000, [0, 20_000, 40_000])]
)
def test_ticks_are_round_and_few(last, ticks):
    found = round_numbers(last)
    assert found[: len(ticks)] == ticks
    assert len(found) <= 7


def test_a_long_line_is_a_mean_of_its_neighbours():
    points = thinned([(float(x), float(x % 2)) for x in range(2 * MOST_POINTS)])
    assert len(points) == MOST_POINTS
    assert points[:2] == [(0.5, 0.5), (2.5, 0.5)]


def test_pass_curves_by_hand(events):
    """Base: 6 of A and 2 of B at 0.25. A site's own: the mean of two labels of two problems."""
    north, south, mean, averaged = pass_curves(events, summarise(events, 1.0))
    assert north.points == [(0, 0.25), (2, 0.25), (4, 0.5)]
    assert south.points == [(0, 0.25), (2, 0.5), (4, 0.5)]
    assert mean.points == [(0, 0.25), (2, 0.375), (4, 0.5)]
    assert averaged.marks == [(2, 0.75), (4, 0.5)]


def test_step_curves_by_hand(events):
    """In the first segment, (2 + 0) of 4 groups taught in the private step, (2 + 1) in the public one."""
    private = step_curves(events, ["north", "south"], "private", lambda step: step["reward"])
    assert [curve.points for curve in private] == [[(1, 0.25)], [(1, 0.75)]]
    north, south = step_curves(events, ["north", "south"], "", live_share)
    assert (north.points, south.points) == ([(1, 0.625), (3, 0.75)], [(1, 0.625)])
    assert live_share({"live_groups": 9.0, "groups": 4.0}) == 1.0
    assert live_share({"live_groups": 0.0, "groups": 0.0}) == 0.0


def test_a_run_has_only_charts_of_what_it_told(events):
    titles = [made.title for made in run_charts(events, summarise(events, 1.0))]
    assert len(titles) == 4
    private = [event for event in events if event.get("kind") != "public"]
    assert "public" not in " ".join(made.title for made in run_charts(private, summarise(private, 1.0)))
    assert run_charts(events[:1], summarise(events[:1], 1.0)) == []


def test_many_sites_share_the_muted_colour():
    assert site_colours(["a", "b"]) == {"a": 0, "b": 1}
    assert set(site_colours([f"{n}" for n in range(COLOURS + 1)]).values()) == {None}


def test_runs_beside_each_other_are_a_line_each_without_numbers(events):
    run = events, summarise(events, 1.0)
    lines = compared_chart({"one": run, "other": run}).lines
    assert [(line.name, line.colour, line.strong) for line in lines] == [("one", 0, True), ("other", 1, True)]
    assert {text for line in lines for _, _, text in line.marks} == {""}
    assert len(lines[0].path.split()) == 3
