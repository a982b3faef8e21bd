"""What sites found, and whether an exchange pays, by hand."""

import pytest

from fedrlvr.algorithms.findings import Notes, need
from fedrlvr.protocol.records import Findings, PublicResponse
from fedrlvr.types import Completion, Group, Problem


def answer(problem: str, text: str) -> PublicResponse:
    return PublicResponse(problem, text)


def group(problem: str, *rewards: float) -> Group:
    return Group(Problem(problem, "?", "1"), tuple(Completion((1,), None, "x", reward) for reward in rewards))


def told(found: str, unsolved: str) -> Findings:
    return Findings(found=found.split(), unsolved=unsolved.split())


def test_newer_answers_go_first_and_push_out_older_ones():
    notes = Notes(max_per_problem=3)
    notes.remember([answer("p", "a"), answer("p", "b"), answer("q", "c")])
    notes.remember([answer("p", "b"), answer("p", "d")])
    assert notes.found == {"p": [answer("p", "b"), answer("p", "d"), answer("p", "a")], "q": [answer("q", "c")]}
    notes.remember([answer("p", "e")])
    assert [a.text for a in notes.found["p"]] == ["e", "b", "d"]


def test_what_was_taken_is_offered_once():
    notes = Notes(max_per_problem=3)
    notes.remember([answer("p", "a"), answer("q", "b"), answer("r", "c")])
    assert notes.take(["q", "p", "s"]) == [answer("q", "b"), answer("p", "a")]
    assert notes.take(["q", "p"]) == []
    assert notes.told() == told("r", "")


def test_the_last_group_of_a_problem_says_whether_it_is_solved():
    notes = Notes(max_per_problem=3)
    notes.mark([group("p", 0, 0), group("q", 0, 1), group("r", 0, 0)])
    assert notes.told() == told("", "p r")
    notes.mark([group("p", 1, 1), group("q", 0, 0)])
    assert notes.told() == told("", "q r")


def test_what_is_kept_comes_back_in_the_same_order():
    notes, again = Notes(2), Notes(2)
    notes.remember([answer("q", "a"), answer("q", "b"), answer("p", "c")])
    notes.mark([group("r", 0)])
    again.replace(notes.kept(), notes.unsolved)
    assert (again.found, again.unsolved, list(again.found)) == (notes.found, notes.unsolved, ["q", "p"])


def test_an_exchange_is_about_what_one_fails_and_another_has():
    """Of 2 x 4 pairs: b and c at the first site, a at the second."""
    found = need({"site-1": told("a", "b c d"), "site-2": told("b c", "a d")}, public_problems=4)
    assert found == (["a", "b", "c"], 3 / 8)


def test_a_sites_own_answers_are_no_news_to_it():
    assert need({"site-1": told("a", "a"), "site-2": told("", "")}, 4) == ([], 0.0)


@pytest.mark.parametrize("sites", [{}, {"site-1": told("a", "b")}])
def test_nobody_to_exchange_with(sites):
    assert need(sites, 4) == ([], 0.0)
