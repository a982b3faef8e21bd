"""What is printed of a run's events, how often, and what a terminal shows."""

import io
import re
import time
from types import SimpleNamespace

import pytest

from fedrlvr.report import progress as module
from fedrlvr.report.progress import Progress
from fedrlvr.report.screen import Screen


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless told: `clock.now = 10.0`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


SITES = ["north", "south"]
START = {"event": "start", "time": 0.0, "method": "pubswap", "rounds": 2, "segments": 8, "steps": 16, "sites": SITES}


@pytest.fixture
def progress(clock) -> Progress:
    """Two rounds, eight segments of two steps, two sites: 16 steps each, 32 in all."""
    progress = Progress(Screen(file=io.StringIO(), width=40))
    assert progress.line() == "starting sites"
    progress.feed(START)
    return progress


def printed(progress: Progress) -> list[str]:
    return progress.console.file.getvalue().splitlines()


def step(segment=0, reward=0.5, live=4.0, time=1.0) -> dict:
    values = {"round": segment // 4, "segment": segment, "reward": reward, "live_groups": live, "groups": 8.0}
    return {"event": "step", "time": time, "kind": "private", "site": "north"} | values


def asked(site: str, task: str, time: float) -> dict:
    return {"event": "asked", "time": time, "site": site, "task": task, "round": 0, "segment": 0}


def evaluation(segment: int) -> dict:
    return {"event": "evaluation", "time": 1.0, "which": "local", "segment": segment, "scores": {}}


def exchange(segment: int, offered=7) -> dict:
    return {"event": "exchange", "time": 1.0, "segment": segment, "offered": offered, "bytes_up": {}, "bytes_down": {}}


def failure(reason: str) -> dict:
    return {"event": "failure", "time": 1.0, "site": "north", "task": "train", "reason": reason, "out_of": "round"}


def silent(segment: int, site: str = "north") -> dict:
    told = {"site": site, "optimizer_steps": 0.0, "completions": 8.0, "completions/clipped_ratio": 1.0}
    return step(segment, reward=0.0, live=0.0) | told


def test_a_site_that_learns_nothing_in_its_first_segments_is_told_of_once(progress):
    for segment in range(6):
        progress.feed(silent(segment))
        progress.feed(silent(segment, "south") if segment < 2 else step(segment) | {"site": "south"})
        assert ("NOTHING LEARNT YET" in progress.line()) is False
    (line,) = printed(progress)
    assert line.startswith("WARNING: north has learnt nothing in 3 steps")
    assert "100% were cut off" in line


def test_the_line_says_so_while_no_site_has_learnt_anything(progress):
    for segment in range(3):
        progress.feed(silent(segment))
        assert ("NOTHING LEARNT YET" in progress.line()) is (segment == 2)
    progress.feed(step(3))
    assert "NOTHING LEARNT YET" not in progress.line()


def base(score: float, **shares) -> dict:
    scores = {"north": {"test": {"A": {"problems": 4, "pass@1": score}}} | shares}
    return {"event": "evaluation", "time": 1.0, "which": "base", "segment": 0, "scores": scores}


def test_what_the_base_model_can_do_is_told_before_anything_is_trained(progress):
    progress.feed(base(0.125, unanswered=0.25, cut_off=0.5))
    assert printed(progress) == [
        "base model: pass@1 0.125 on the test set; of its completions 75% have an answer, 50% were cut off"
    ]


def test_a_base_model_that_has_nothing_right_is_a_warning(progress):
    progress.feed(base(0.0, unanswered=1.0))
    assert printed(progress)[1].startswith("WARNING: the base model has no answer right")


def test_before_the_first_step_the_line_says_what_goes_on(progress):
    assert progress.line() == "sites start, and measure the base model"
    progress.feed(None)
    assert progress.line() == "sites start, and measure the base model"


def test_the_line_says_where_the_run_is_and_how_it_learns(progress):
    progress.feed(step(reward=0.25, live=2.0))
    progress.feed(step(reward=0.5, live=8.0))
    assert progress.line() == ("round 1/2  segment 1/8  step 1/16  reward 0.38  live groups 62%  time left unknown")
    progress.feed(step(segment=5, reward=1.0, live=0.0))
    assert progress.line().startswith("round 2/2  segment 6/8  step 10/16  reward 0.58  live groups 42%  ")


def test_the_time_left_follows_the_pace_since_sites_were_asked_to_train(progress, clock):
    """A segment's four steps in 20 s: 5 s each, 28 of 32 to go."""
    progress.feed(asked("north", "validate", 1.0))
    progress.feed(asked("north", "train", 10.0))
    for now in (10.0, 21.0, 24.0, 30.0):
        assert not re.search(r"\d left", progress.line())
        progress.feed(step(time=now))
    assert progress.line().endswith("  2:20 left")
    clock.now = 104.0  # nothing came for four seconds: 6 s each
    assert progress.line().endswith("  2:48 left")


def test_steps_that_sites_do_not_report_count_when_their_segment_is_over(progress, clock):
    """Only public steps are told: 2 a segment instead of 4."""
    progress.feed(asked("north", "train", 10.0))
    for number in range(8):
        progress.feed(step(segment=number // 2, time=10.0 * number))
    assert "step 6/16" in progress.line()  # three segments of two
    assert progress.line().endswith("  1:40 left")  # 60 s for 12 steps of both sites, 20 to go


def test_the_last_step_leaves_no_time(progress, clock):
    progress.feed(asked("north", "train", 0.0))
    for number in range(32):
        progress.feed(step(segment=number // 4, time=float(number)))
    assert "step 16/16" in progress.line()
    assert progress.line().endswith("  0:00 left")


def test_reward_and_live_groups_are_of_the_last_four_steps_a_site(progress):
    for reward in [0.0] * 20 + [1.0] * 8:
        progress.feed(step(reward=reward, live=8.0 * reward))
    assert "reward 1.00  live groups 100%" in progress.line()
    progress.feed(step(reward=0.2, live=0.0))
    assert "reward 0.80  live groups 75%" in progress.line()


def test_an_exchange_is_noted_until_the_next_step(progress):
    progress.feed(step())
    progress.feed(exchange(0, offered=12))
    assert progress.line().endswith("  12 answers exchanged")
    progress.feed(step(segment=1))
    assert "exchanged" not in progress.line()
    progress.feed(exchange(0, offered=1))
    assert progress.line().endswith("  1 answer exchanged")


def test_without_a_terminal_a_line_is_printed_once_a_segment(progress):
    with progress.shown():
        for event in (
            evaluation(0),  # of the base model: nothing to tell yet
            step(0),
            exchange(0),
            step(1),
            step(2),
            exchange(2),
            evaluation(2),
            None,
            step(3),
            evaluation(3),
            {"event": "average", "time": 1.0, "bytes_up": {}},
            evaluation(3),  # the same segment after averaging
            {"event": "end", "time": 1.0},
        ):
            progress.feed(event)
    lines = printed(progress)
    assert [line.split("  ")[1] for line in lines] == ["segment 1/8", "segment 3/8", "segment 4/8"]
    assert [line.split("  ")[2] for line in lines] == ["step 0/16", "step 4/16", "step 6/16"]
    assert lines[0].endswith("7 answers exchanged")


def test_a_line_is_not_broken_by_a_narrow_console(progress):
    progress.feed(step())
    progress.feed(evaluation(0))
    assert printed(progress) == [progress.line()]
    assert len(progress.line()) > 40


def test_a_failure_is_printed_at_once_and_word_for_word(clock):
    console = Screen(file=io.StringIO(), width=200)
    progress = Progress(console)
    progress.feed(START)
    progress.feed(failure("[bold]no[/bold] such key 'x'"))
    assert printed(progress) == ["north failed in train: [bold]no[/bold] such key 'x'"]


def test_a_failure_is_one_line_and_steers_nothing(clock):
    progress = Progress(Screen(file=io.StringIO(), width=200))
    reason = "\x1b[2Jno\nadapter:  /elsewhere\u202e"
    progress.feed(START)
    progress.feed(failure(reason))
    assert printed(progress) == ["north failed in train: [2Jno adapter: /elsewhere"]


@pytest.mark.parametrize("event", [{"event": "start"}, {"event": "exchange"}, {"event": "failure"}, step(reward="")])
def test_an_event_of_another_form_ends_the_progress_and_not_the_run(progress, event):
    for told in (event, step(), None, exchange(0)):
        progress.feed(told)
    (line,) = progress.console.file.getvalue().splitlines()
    assert line.startswith("progress is shown no more: an event")


def test_a_terminal_shows_every_site_and_nothing_of_it_stays(clock):
    console = Screen(file=io.StringIO(), width=120, height=30, force_terminal=True, color_system=None)
    progress = Progress(console, look=lambda: {"north": "sampling, step 2"})
    with progress.shown():
        for event in (START, asked("north", "train", 0.5), asked("south", "train", 0.75), step(), evaluation(0)):
            progress.feed(event)
        clock.now = 102.5
        console.file.truncate(0)
        time.sleep(1.0)  # by the display's own clock
        frame = console.file.getvalue()
        assert re.search("north +sampling, step 2 +0:03 +0.50 +50% ", frame)
        assert re.search("south +training +0:02 +- +- ", frame)
    assert console.file.getvalue().rstrip().endswith("\x1b[2K")  # erases the last line of it


def test_where_nothing_is_printed_for_long_a_line_tells_who_does_what(clock):
    progress = Progress(Screen(file=io.StringIO(), width=40), look=lambda: {"north": "sampling, step 2"})
    with progress.shown():
        clock.now = 114.0
        time.sleep(1.5)
        assert printed(progress) == []
        clock.now = 115.0
        wait_for_lines(progress, 1)
        progress.feed(START)
        progress.feed(asked("north", "train", 2.0))
        progress.feed(asked("south", "validate", 3.0))
        clock.now = 131.0
        wait_for_lines(progress, 2)
    assert printed(progress) == [
        "starting sites",
        "sites start, and measure the base model  sampling, step 2: north (0:17); measuring: south (0:16)",
    ]


def wait_for_lines(progress: Progress, count: int) -> None:
    for _ in range(100):
        if len(printed(progress)) == count:
            return
        time.sleep(0.1)
    raise AssertionError(printed(progress))
