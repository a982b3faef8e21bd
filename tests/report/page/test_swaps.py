"""Who helped whom, counted by hand."""

import pytest

from fedrlvr.report.page.swaps import Swap, examples, sent_answers, swapped_in
from fedrlvr.types import Problem

PROBLEMS = {name: Problem(name, "?", "4", label) for name, label in (("p1", "A"), ("p2", "B"), ("p3", ""))}


def swap(receiver: str, origin: str, problem: str, segment: int = 0, before: float = 0.0) -> Swap:
    own = {"text": "5", "reward": before, "reason": "wrong"}
    written = {"text": "4", "reward": 1.0, "reason": "exact", "problem_id": problem, "segment": segment}
    return Swap(receiver=receiver, origin=origin, instead_of=own, **written)


def test_what_the_server_passed_on(events):
    """The north sent three answers and offered two to p1 and one to p2; the south one, to p2."""
    found = sent_answers(events, PROBLEMS)
    assert found.total == 4
    assert found.of_whom(["north", "south"]).table.rows == (("of north", "", "3"), ("of south", "1", ""))
    assert found.of_whom(["north", "south"]).shades == ((None, 1.0), (1 / 3, None))
    assert found.about_what(["north", "south"]).table.head == ("answers", "A", "B")
    assert found.about_what(["north", "south"]).table.rows == (("of north", "2", "1"), ("of south", "0", "1"))


def test_where_the_problems_are_not_known_there_is_no_table_by_label(events):
    assert sent_answers(events, {}).about_what(["north", "south"]) is None


def test_an_event_log_of_an_earlier_version_says_nothing_of_it(events):
    old = [{key: value for key, value in event.items() if key not in ("offers", "pools")} for event in events]
    assert sent_answers(old, PROBLEMS).total == 0


def test_whose_answers_took_a_place():
    swaps = [swap("north", "south", "p2"), swap("north", "south", "p3"), swap("south", "north", "p1")]
    found = swapped_in(swaps, PROBLEMS)
    assert found.of_whom(["north", "south"]).table.rows == (("of north", "", "1"), ("of south", "2", ""))
    assert found.about_what(["north", "south"]).table.head == ("answers", "(none)", "A", "B")
    assert found.about_what(["north", "south"]).table.rows == (("of north", "0", "1", "0"), ("of south", "1", "0", "1"))


def test_examples_are_the_last_swap_of_each_label_at_each_site_and_labels_take_turns():
    swaps = [
        swap("north", "south", "p1", 0),
        swap("north", "south", "p1", 2),
        swap("south", "north", "p2", 1),
        swap("south", "north", "p1", 3),
        swap("north", "south", "p2", 3, before=1.0),  # of replace-all: what it replaced was right
        swap("north", "south", "unknown", 3),
    ]
    shown = [(e.problem.label, e.swap.receiver, e.swap.segment) for e in examples(swaps, PROBLEMS)]
    assert shown == [("A", "north", 2), ("B", "south", 1), ("A", "south", 3)]
    assert examples([], PROBLEMS) == []


@pytest.mark.parametrize("field", ["problem_id", "origin", "instead_of", "text"])
def test_a_line_that_lacks_something_is_no_swap(field):
    line = swap("north", "south", "p1").model_dump()
    del line[field]
    with pytest.raises(ValueError, match=field):
        Swap.model_validate(line)
