"""The run's diary: there as soon as it is written, and one diary for a run of several jobs."""

import json

from fedrlvr.server.event_log import EventLog


def lines(event_log: EventLog) -> list[dict]:
    return [json.loads(line) for line in event_log.path.read_text().splitlines()]


def test_a_line_is_there_at_once(tmp_path):
    event_log = EventLog(tmp_path / "new" / "folder")
    event_log.write("start", seed=3)
    (line,) = lines(event_log)
    event_log.close()
    assert (line["event"], line["seed"]) == ("start", 3)
    assert line["time"] >= 0


def test_another_jobs_journal_is_gone_on_with_and_left_as_it_was(tmp_path):
    first = tmp_path / "kept.jsonl"
    before = '{"event": "start", "time": 0.0}\n{"event": "round", "time": 100.5, "round": 0}\n'
    first.write_text(before)
    event_log = EventLog(tmp_path / "run", first)
    event_log.write("resumed", after=0)
    event_log.close()
    events = lines(event_log)
    assert [event["event"] for event in events] == ["start", "round", "resumed"]
    assert events[-1]["time"] >= 100.5
    assert event_log.path.read_text().startswith(before)
    assert first.read_text() == before


def test_what_comes_when_all_is_over_is_no_error(tmp_path):
    """Late answers come on FLARE's own threads, at any time."""
    event_log = EventLog(tmp_path)
    event_log.write("end")
    event_log.close()
    event_log.write("late", site="site-1")
    assert [event["event"] for event in lines(event_log)] == ["end"]
