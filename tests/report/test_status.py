"""Where a run is and what each site does, after hand-made events."""

import pytest

from fedrlvr.report.live_view import at_work, line, view
from fedrlvr.report.screen import Screen
from fedrlvr.report.status import RunStatus

SITES = ["east", "north", "south"]
START = {"event": "start", "time": 0.0, "method": "pubswap", "rounds": 2, "segments": 4, "steps": 8, "sites": SITES}


def status(*events: dict) -> RunStatus:
    found = RunStatus()
    for event in (START, *events):
        found.take(event)
    return found


def asked(site: str, task: str, time: float) -> dict:
    return {"event": "asked", "time": time, "site": site, "task": task, "round": 1, "segment": 2}


def answered(site: str, time: float) -> dict:
    return {"event": "answered", "time": time, "site": site, "task": "train"}


def failure(site: str, out_of: str | None, time: float = 3.0) -> dict:
    return {"event": "failure", "time": time, "site": site, "task": "train", "reason": "", "out_of": out_of}


def step(site: str, segment: int, time: float, **metrics) -> dict:
    return {"event": "step", "time": time, "site": site, "round": segment // 2, "segment": segment, **metrics}


def test_a_site_does_what_it_was_asked_for_until_it_has_answered():
    tasks = {"east": "propose", "north": "train", "south": "swap"}
    found = status(*(asked(site, task, 1.0) for site, task in tasks.items()))
    assert {name: site.doing for name, site in found.sites.items()} == {
        "east": "proposing",
        "north": "training",
        "south": "swapping",
    }
    found.take(answered("north", 2.5))
    assert (found.sites["north"].doing, found.sites["north"].since) == ("waiting", 2.5)
    assert found.sites["east"].since == 1.0


@pytest.mark.parametrize(
    ("out_of", "doing"), [("segment", "restarting"), ("round", "out of the round"), (None, "waiting")]
)
def test_a_failure_says_for_how_long_the_site_is_out(out_of, doing):
    assert status(asked("north", "train", 1.0), failure("north", out_of)).sites["north"].doing == doing


def test_rewards_and_shares_are_of_a_sites_last_four_steps_that_tell_them():
    steps = [step("north", 0, 1.0, reward=1.0, live_groups=8.0, groups=8.0)] + [
        step("north", 1, 2.0, reward=reward, live_groups=live, groups=8.0)
        for reward, live in ((0.0, 0.0), (0.5, 2.0), (0.5, 4.0))
    ]
    public = {"completions": 64.0, "swap/completions": 16.0, "completions/clipped_ratio": 0.25}
    north = status(*steps, step("north", 1, 3.0, **public)).sites["north"]
    assert north.mean("reward") == pytest.approx(1 / 3)  # of the three that tell it, the first step is forgotten
    assert north.share("live_groups", "groups") == 6 / 24
    assert north.share("swap/completions", "completions") == 0.25
    assert north.mean("completions/clipped_ratio") == 0.25
    assert status().sites["north"].mean("reward") is None
    assert status().sites["north"].share("live_groups", "groups") is None


def test_steps_of_finished_segments_count_where_no_site_tells_of_them():
    """24 steps in all: 6 in each of four segments."""
    assert status().done == 0
    assert status(step("north", 0, 1.0)).done == 1
    assert status(step("north", 2, 1.0)).done == 12


def test_the_time_left_is_at_the_pace_of_this_job():
    """Of 24 steps 4 are done, the last of them in 3 s since the first steps of all."""
    steps = [step(site, 0, 1.0) for site in SITES]
    assert status(*steps).seconds_left(1.0) is None
    assert status(*steps, step("north", 0, 4.0)).seconds_left(4.0) == 3.0 * 20
    again = {**START, "event": "resumed", "time": 100.0}
    assert status(*steps, step("north", 0, 4.0), again).seconds_left(104.0) is None
    more = [step(site, 2, 110.0) for site in SITES]  # 12 of 24 are done
    assert status(*steps, again, *more, step("north", 2, 111.0)).seconds_left(112.0) == pytest.approx(2 / 6 * 12)


def part(right: float, problems: float) -> dict:
    return {"test": {"A": {"problems": problems, "pass@1": right}, "B": {"problems": problems, "pass@1": 0.0}}}


def evaluation(which: str, **scores) -> dict:
    return {"event": "evaluation", "time": 1.0, "which": which, "segment": 1, "samples": 1, "scores": scores}


def test_scores_have_the_number_of_their_problems():
    found = status(
        evaluation("base", east=part(0.5, 2.0), north=part(1.0, 6.0)),
        evaluation("local", north=part(0.5, 8.0)),
        evaluation("global", east=part(1.0, 2.0), north=part(1.0, 6.0)),
    )
    assert found.base == ((0.5 * 2 + 1.0 * 6) / 16, 16)
    assert found.sites["north"].score == (0.25, 16)
    assert found.averaged == (0.5, 16)


def test_bytes_are_summed_over_sites_and_messages():
    found = status(
        {"event": "adapter_down", "time": 1.0, "bytes": {"north": 5}},
        {"event": "adapter_down", "time": 1.0, "bytes": {"south": 6}},
        {"event": "average", "time": 1.0, "bytes_up": {"north": 1, "south": 2}},
        {"event": "exchange", "time": 1.0, "offered": 2, "bytes_up": {"north": 3}, "bytes_down": {"south": 4}},
    )
    assert found.sent == {
        "adapter/bytes_down": 11,
        "adapter/bytes_up": 3,
        "exchange/bytes_up": 3,
        "exchange/bytes_down": 4,
    }


def test_who_does_what_names_a_few_of_many_and_the_longest_time():
    events = [asked(site, "train", time) for site, time in zip(SITES, (1.0, 2.0, 3.0), strict=True)]
    found = status(*events, answered("south", 5.0))
    assert at_work(found, 63.0, {}) == "training: east, north (1:02); waiting: south (0:58)"
    seen = {"east": "sampling, step 1", "south": "training, step 9"}  # what a waiting site did last is no news
    assert (
        at_work(found, 3663.0, seen)
        == "sampling, step 1: east (1:01:02); training: north (1:01:01); waiting: south (1:00:58)"
    )
    many = [f"site-{number}" for number in range(9)]
    crowd = RunStatus()
    crowd.take({**START, "sites": many})
    assert at_work(crowd, 1.0, {}) == "waiting: site-0, site-1, site-2, site-3 and 5 more (0:01)"


def test_when_it_is_over_nothing_is_left_to_do():
    found = status({"event": "end", "time": 9.0})
    assert line(found, 9.0) == ""


def test_a_view_of_many_sites_fits_the_terminal():
    crowd = RunStatus()
    crowd.take({**START, "sites": [f"site-{number}" for number in range(100)]})
    console = Screen(width=80, height=20)
    with console.capture() as captured:
        console.print(view(crowd, 1.0, {}, 20))
    shown = captured.get().splitlines()
    assert len(shown) <= 20
    assert "and 89 sites more" in captured.get()
