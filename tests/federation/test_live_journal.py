"""A running job's journal, told in answers of bounded size, and what is made of an answer."""

from __future__ import annotations

import json

import pytest

from fedrlvr.federation.journal import Journal
from fedrlvr.federation.live_journal import MAX_BYTES, MAX_EVENTS, BadAnswer, check_answer, serve_journal


class Engine:
    def register_app_command(self, topic, answer):
        self.ask = lambda question: answer(topic, question, None)


@pytest.fixture
def served(tmp_path):
    journal, engine = Journal(tmp_path), Engine()
    serve_journal(engine, tmp_path / "metrics.jsonl")
    yield journal, engine.ask
    journal.close()


def test_every_line_is_told_once_in_order(served):
    journal, ask = served
    heard = []
    for number in range(7):
        journal.write("step", number=number)
        if number % 3 == 0:
            answer = ask({"from": len(heard)})
            heard += check_answer(answer, len(heard))
            assert answer["next"] == len(heard)
    assert [event["number"] for event in heard] == list(range(7))
    assert ask({"from": 7}) == {"events": [], "next": 7}


def test_nothing_is_told_of_a_line_that_is_half_written(served, tmp_path):
    journal, ask = served
    journal.write("start")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"event": "st')
    assert ask({"from": 0})["next"] == 1


def test_an_answer_is_bounded_in_lines_and_bytes_but_a_long_line_passes(served):
    journal, ask = served
    for _ in range(MAX_EVENTS + 1):
        journal.write("step")
    assert ask({"from": 0})["next"] == MAX_EVENTS
    for _ in range(3):
        journal.write("long", text="x" * (MAX_BYTES + 1))
    assert ask({"from": MAX_EVENTS + 1})["next"] == MAX_EVENTS + 2


@pytest.mark.parametrize("question", [None, [], {}, {"from": -1}, {"from": "0"}, {"from": True}, {"from": 1.0}])
def test_a_question_that_is_none_is_refused(served, question):
    answer = served[1](question)
    assert "expected {'from'" in answer["error"]
    with pytest.raises(BadAnswer, match="refuses to tell"):
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
def test_an_answer_that_is_none_is_refused(answer):
    with pytest.raises(BadAnswer):
        check_answer(answer, 0)


def test_a_lines_own_content_comes_back(served):
    journal, ask = served
    journal.write("failure", site="site-1", reason="größer")
    (event,) = check_answer(json.loads(json.dumps(ask({"from": 0}))), 0)
    assert (event["event"], event["site"], event["reason"]) == ("failure", "site-1", "größer")
