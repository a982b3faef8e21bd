"""An event log as somebody may have cut it or changed it."""

import os
from copy import deepcopy

import pytest

from fedrlvr.report.page.content import page_of
from fedrlvr.report.page.events import KINDS, NoEvents, checked, log_of, read_log
from fedrlvr.report.page.folder import read_run

ODD = [None, "x", -1, 10**30, 0.5, True, [], {}, ["x"], {"x": 1}, {"north": {"x": 1}}, "\ud800", "a\nb"]


def kinds(log) -> list[str]:
    return [event["event"] for event in log.events]


def test_the_run_of_these_tests_has_every_kind_of_event(events):
    assert {event["event"] for event in events} | {"resumed", "stopped"} == KINDS


def test_a_whole_log_is_read_whole(folder, events):
    log = read_log(folder(events) / "metrics.jsonl")
    assert (log.events, log.left_out, log.cut, log.notes()) == (events, [], False, [])


def test_a_log_that_was_cut_within_a_line_is_read_up_to_there(folder, events):
    path = folder(events) / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    log = read_log(path)
    assert (log.events, log.cut) == (events[:-1], True)
    assert log.notes() == ["The event log ends in the middle of a line, so it was cut. What is complete is shown."]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not an event"),
        (b'{"event": 3}', "not an event"),
        (b'{"event": "surprise"}', "an event of another kind"),
        (b'{"event": "late", "site": "north"}', "late, task: Field required"),
        (b'{"event": "late", "site": "a\\u001b[2J", "task": "train"}', "is a control"),
        (b'{"event": "end", "asking_seconds": NaN}', "NaN is no JSON number"),
        (b"\xff\xfe", "cannot be read as UTF-8"),
    ],
)
def test_a_line_that_is_no_event_is_left_out_and_named(folder, events, line, reason):
    path = folder(events) / "metrics.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    log = read_log(path)
    assert log.events == events
    assert len(log.left_out) == 1
    assert log.left_out[0].startswith("line 1 (")
    assert reason in log.left_out[0]
    assert log.notes()[0].startswith("1 lines of the event log are not events of this version")


def test_a_run_whose_rounds_differ_in_length_is_no_run(events):
    with pytest.raises(ValueError, match="start: every round has as many segments"):
        checked(events[0] | {"segments": 5})
    with pytest.raises(ValueError, match="start: a site stands there twice"):
        checked(events[0] | {"sites": ["north", "north"]})


@pytest.mark.parametrize("which", ["local", "global"])
def test_an_evaluation_that_measured_nothing_is_none(events, which):
    measured = next(e for e in events if e.get("which") == which)
    nothing = {"north": {"test": {}}}
    with pytest.raises(ValueError, match="nothing was measured"):
        checked(measured | {"scores": nothing})
    one = measured | {"scores": measured["scores"] | nothing}
    if which == "global":
        assert checked(one) == one  # as there are more sites than problems
    else:
        with pytest.raises(ValueError, match="nothing was measured"):
            checked(one)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every key, at any depth."""
    if not isinstance(value, dict):
        return []
    return [where for key, inner in value.items() for where in [(*path, key), *places(inner, (*path, key))]]


def changed(event: dict, path: tuple, value: object) -> dict:
    new = deepcopy(event)
    target = new
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return new


@pytest.mark.slow
def test_whatever_one_value_is_changed_to_there_is_a_page_or_an_error_in_words(folder, events):
    """An event of each kind, each of its fields, each odd value."""
    tried = refused = 0
    for number in {event["event"] + event.get("which", ""): number for number, event in enumerate(events)}.values():
        for path in places(events[number]):
            for value in ODD:
                new = changed(events[number], path, value)
                where = folder([*events[:number], new, *events[number + 1 :]])
                tried += 1
                try:
                    page_of(read_run(where))
                except NoEvents:
                    refused += 1
    assert tried > 1000
    assert 0 < refused < 200  # no start, no run


@pytest.mark.parametrize(
    ("lines", "words"),
    [([], "no event that says what was started"), ([{"event": "stopped", "reason": "no"}], "no event that says")],
)
def test_a_log_of_no_run_is_an_error(folder, lines, words):
    with pytest.raises(NoEvents, match=words):
        read_log(folder(lines) / "metrics.jsonl")


def test_a_folder_of_no_run_is_an_error(tmp_path):
    with pytest.raises(NoEvents, match="no such folder"):
        log_of(tmp_path / "none")
    with pytest.raises(NoEvents, match=r"holds no metrics\.jsonl"):
        log_of(tmp_path)


@pytest.mark.parametrize(
    "place",
    ["local/server", "flare/server", "flare/demo/server/simulate_job/fedrlvr"],
)
def test_of_a_run_that_was_killed_the_servers_own_log_is_read(tmp_path, place):
    """Also if an earlier attempt, which was resumed, has left one."""
    (tmp_path / place).mkdir(parents=True)
    newer, older = tmp_path / place / "metrics.jsonl", tmp_path / "metrics.jsonl"
    newer.touch()
    assert log_of(tmp_path) == newer
    older.touch()
    os.utime(older, (1, 1))
    assert log_of(tmp_path) == newer
    os.utime(newer, (0, 0))
    assert log_of(tmp_path) == older
