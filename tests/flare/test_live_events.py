"""A running job's event log is sent in answers of limited size, and every answer is checked."""

import json

import pytest

from fedrlvr.flare.live_events import MAX_BYTES, MAX_EVENTS, GrowingLog, check_answer, read_events, serve_events
from fedrlvr.protocol.refused import Refused
from fedrlvr.server.event_log import EventLog


class Engine:
    def register_app_command(self, topic, answer):
        self.ask = lambda question: answer(topic, question, None)


@pytest.fixture
def served(tmp_path):
    event_log, engine = EventLog(tmp_path), Engine()
    serve_events(engine, tmp_path / "metrics.jsonl")
    yield event_log, engine.ask
    event_log.close()


def test_every_line_is_sent_once_in_order(served):
    event_log, ask = served
    heard = []
    for number in range(7):
        event_log.write("step", number=number)
        if number % 3 == 0:
            answer = ask({"from": len(heard)})
            heard += check_answer(answer, len(heard))
            assert answer["next"] == len(heard)
    assert [event["number"] for event in heard] == list(range(7))
    assert ask({"from": 7}) == {"events": [], "next": 7}


def test_a_half_written_line_is_not_sent(served, tmp_path):
    event_log, ask = served
    event_log.write("start")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"event": "st')
    assert ask({"from": 0})["next"] == 1


def test_an_answer_is_bounded_in_lines_and_bytes_but_a_long_line_passes(served):
    event_log, ask = served
    for _ in range(MAX_EVENTS + 1):
        event_log.write("step")
    assert ask({"from": 0})["next"] == MAX_EVENTS
    for _ in range(3):
        event_log.write("long", text="x" * (MAX_BYTES + 1))
    assert ask({"from": MAX_EVENTS + 1})["next"] == MAX_EVENTS + 2


@pytest.mark.parametrize("question", [None, [], {}, {"from": -1}, {"from": "0"}, {"from": True}, {"from": 1.0}])
def test_a_malformed_question_is_refused(served, question):
    answer = served[1](question)
    assert "expected {'from'" in answer["error"]
    with pytest.raises(Refused, match="refuses to send"):
        check_answer(answer, 0)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "events",
        {},
        {"events": "all", "next": 3},
        {"events": [], "next": 1},
        {"events": [{"event": "step"}], "next": 0},
        {"events": [{"event": 1}], "next": 1},
        {"events": ["step"], "next": 1},
        {"events": [{"event": "step"}] * (MAX_EVENTS + 1), "next": MAX_EVENTS + 1},
    ],
)
def test_a_malformed_answer_is_refused(answer):
    with pytest.raises(Refused):
        check_answer(answer, 0)


@pytest.mark.parametrize("line", ["", "{", "[]", '{"time": 1}', '{"event": 1}', "[" * 100_000, "\x1b[2J", "\udcff"])
def test_a_line_that_is_no_event_is_refused_with_its_number(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "start"}\n' + line + '\n{"event": "end"}\n', errors="surrogateescape")
    with pytest.raises(Refused, match=r"^metrics.jsonl, line 2: not (valid JSON|an event)$"):
        read_events(path)
    assert [event["event"] for event in read_events(path, 2)] == ["end"]


def test_a_growing_log_names_its_whole_path(tmp_path):
    log = GrowingLog(tmp_path / "metrics.jsonl")
    log.path.write_text('{"event": "start"}\n{"event": "ste')
    assert [event["event"] for event in log.news()] == ["start"]
    log.path.write_text('{"event": "start"}\n{"event": "ste\n{"event": "end"}\n')
    with pytest.raises(Refused) as refused:
        log.news()
    assert str(refused.value) == f"{log.path}, line 2: not valid JSON"


def test_a_lines_content_is_unchanged(served):
    event_log, ask = served
    event_log.write("failure", site="site-1", reason="größer")
    (event,) = check_answer(json.loads(json.dumps(ask({"from": 0}))), 0)
    assert (event["event"], event["site"], event["reason"]) == ("failure", "site-1", "größer")
