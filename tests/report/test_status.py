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


def test_a_public_step_ends_its_segment_where_a_site_does_not_tell_of_private_ones():
    """A segment has two steps of each site."""
    assert status(step("north", 0, 1.0, kind="public")).done == 2
    told = [step(site, segment, 1.0, kind="public") for segment in range(4) for site in SITES]
    assert status(*told).done == 24


def test_the_time_left_is_at_the_pace_since_the_first_task():
    """Of 24 steps 6 are a segment, and they are done in 12 s."""
    begun = asked("east", "train", 1.0)
    steps = [step(site, 0, 4.0) for site in SITES]
    assert status(begun, *steps).seconds_left(4.0) is None
    assert status(begun, *steps, *[step(site, 0, 12.0) for site in SITES]).seconds_left(13.0) == 12.0 / 6 * 18


def test_steps_of_an_earlier_job_and_steps_told_at_once_do_not_count_as_fast():
    """The job before did a round, 12 of 24 steps. This one told the next 6 all at once, 30 s after it had asked."""
    before = [step(site, segment, 1.0) for site in SITES for segment in (0, 0, 1, 1)]
    resumed = {**START, "event": "resumed", "time": 100.0, "after": 0}
    going_on = [asked("east", "train", 1.0), *before, resumed, asked("east", "validate", 101.0)]
    assert status(*going_on).seconds_left(110.0) is None
    at_once = [asked("east", "train", 110.0), *(step(site, 2, 140.0) for site in SITES for _ in range(2))]
    found = status(*going_on, *at_once)
    assert found.done == 18
    assert found.seconds_left(140.0) == 30.0 / 6 * 6


def test_a_round_that_an_earlier_job_did_is_done_though_no_step_of_it_was_told():
    resumed = {**START, "event": "resumed", "time": 100.0, "after": 0}
    found = status(resumed, asked("east", "train", 110.0), step("north", 2, 120.0))
    assert found.done == 12
    assert found.seconds_left(120.0) is None


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


def shown(found: RunStatus, now: float, width: int, doing: dict | None = None) -> list[str]:
    console = Screen(width=width, height=24)
    with console.capture() as captured:
        console.print(view(found, now, doing or {}, width, 24))
    return captured.get().splitlines()


def test_a_view_of_many_sites_fits_the_terminal():
    crowd = RunStatus()
    crowd.take({**START, "sites": [f"site-{number}" for number in range(100)]})
    lines = shown(crowd, 1.0, 80)
    assert len(lines) == 24
    assert "and 85 sites more" in lines


HOSPITALS = [f"hospital-{number:03}" for number in range(8)]
LARGE = {**START, "rounds": 20, "segments": 400, "steps": 1600, "sites": HOSPITALS}


def of_each(pass_at_1: float, problems: float) -> dict:
    return {site: {"test": {"A": {"problems": problems, "pass@1": pass_at_1}}} for site in HOSPITALS}


def full() -> list[dict]:
    """Events after which everything is as long as it gets."""
    told = {"reward": -0.05, "live_groups": 8.0, "groups": 8.0, "completions": 64.0}
    told |= {"completions/clipped_ratio": 1.0, "swap/completions": 64.0}
    tasks = ("train", "propose", "swap", "submit", "validate", "train", "train", "train")
    events = [asked(site, task, 2.0) for site, task in zip(HOSPITALS, tasks, strict=True)]
    events += [{**step(site, 398, 3000.0, **told), "round": 19} for site in HOSPITALS]
    scores = (("base", 0.045, 640.0), ("local", 0.83, 128.0), ("global", 0.83, 640.0))
    events += [evaluation(which, **of_each(score, problems)) for which, score, problems in scores]
    megabytes, kilobytes = dict.fromkeys(HOSPITALS, 56_300_000), dict.fromkeys(HOSPITALS, 99_900)
    return [
        *events,
        failure(HOSPITALS[6], "round", 3000.0),
        {"event": "average", "time": 3000.0, "bytes_up": megabytes},
        {"event": "adapter_down", "time": 3000.0, "bytes": megabytes},
        {"event": "exchange", "time": 3000.0, "bytes_up": kilobytes, "bytes_down": kilobytes},
    ]


SEEN = {HOSPITALS[0]: "sampling, step 1", HOSPITALS[5]: "training, step 128"}


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_line_is_longer_than_the_terminal_and_the_height_never_changes(width):
    found, heights = RunStatus(), set()
    for event in (LARGE, *full()):
        found.take(event)
        lines = shown(found, 39000.0, width, SEEN)
        assert max(map(len, lines)) <= width
        heights.add(len(lines))
    assert heights == {17}


def test_at_80_characters_everything_is_there():
    found = RunStatus()
    for event in (LARGE, *full()):
        found.take(event)
    found.note = "128 answers exchanged"
    lines = [line.rstrip() for line in shown(found, 39000.0, 80, SEEN)]
    assert lines[:2] == [
        "round 20/20  segment 399/400  step 1592/1600  3:15 left",
        "reward -0.05  live groups 100%  128 answers exchanged",
    ]
    assert lines[3].split() == ["site", "doing", "for", "reward", "live", "cut", "swap", "pass@1"]
    numbers = "-0.05  100%  100%  100%   0.830"
    assert lines[5] == f"hospital-000  sampling, step 1    10:49:58   {numbers}"
    assert lines[10] == f"hospital-005  training, step 128  10:49:58   {numbers}"
    assert lines[11] == f"hospital-006  out of the round    10:00:00   {numbers}"
    assert lines[-3:] == [
        "pass@1: base 0.045, averaged 0.830 (5120 test problems)",
        "in the table: of each site's own adapter (128 problems)",
        "sent: adapters 450.4 MB up, 450.4 MB down, answers 799.2 kB up, 799.2 kB down",
    ]


@pytest.mark.parametrize(
    ("width", "columns"), [(80, "for reward live cut swap pass@1"), (60, "for reward pass@1"), (45, "for"), (30, "")]
)
def test_a_narrow_terminal_shows_the_most_important_columns_whole(width, columns):
    found = RunStatus()
    found.take(LARGE)
    assert shown(found, 1.0, width)[3].split()[2:] == columns.split()


def test_a_wide_terminal_shows_long_names_whole():
    crowd, name = RunStatus(), "university-hospital-of-north-south"
    crowd.take({**START, "sites": [name, "east"]})
    assert shown(crowd, 1.0, 120)[5].startswith(f"{name}  waiting")
    assert shown(crowd, 1.0, 80)[5].startswith("university-hosp…  waiting")


def test_how_many_problems_were_measured_is_said_where_sites_are_missing():
    found = status(
        evaluation("base", east=part(0.5, 1.0), north=part(1.0, 1.0)), evaluation("local", east=part(1, 0.5))
    )
    found.take(evaluation("global", east=part(1.0, 1.0)))
    text = "\n".join(shown(found, 1.0, 80))
    assert "pass@1: base 0.375, averaged 0.500 (2-4 test problems)" in text
    assert "own adapter (1 problem)" in text
