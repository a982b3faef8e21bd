"""Which answers leave: every rule on its own, their order, and what holds whatever comes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.privacy.answers import CAPS, COMPARING, RULES, Context, Given, filter_responses
from fedrlvr.privacy.everyday import everyday_words
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names
from fedrlvr.privacy.policy import PII, ResponseRules
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.types import Problem

PUBLIC = [Problem("p1", "What is the least prime above ten?", "11"), Problem("p2", "How many bones has a hand?", "27")]
PRIVATE = [
    Problem("x1", "A glazier of 54 with a rash on both shins came back from Tromso", "erythema nodosum"),
    Problem("x2", "Record 80392147: the widowed beekeeper from Vaduz fainted while carrying hives up a tower", "B"),
]
INDEX = PrivateIndex(PRIVATE, [problem.prompt for problem in PUBLIC], everyday_words(["en"]), 5)
STRICT = ResponseRules(ngram=5, rare_words=3, pii=PII)


def answer(text: str = "It is 11.", problem: str = "p1", variant: int = 0) -> PublicResponse:
    return PublicResponse(problem, text, variant)


def context(**changes) -> Context:
    ids = frozenset(problem.id for problem in PUBLIC)
    known = Context(ids, lambda *_: True, INDEX)
    return replace(known, **changes)


def outcome(record: PublicResponse, rules: ResponseRules = STRICT, **changes) -> str | None:
    """The rule that drops one answer, None if it leaves."""
    kept, dropped = filter_responses([record], rules, context(**changes))
    broken = [name for name, count in dropped.items() if count]
    assert len(kept) + len(broken) == 1
    return broken[0] if broken else None


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (answer(), None),
        (answer(problem="x1"), "public_id"),
        (answer("a" * 10_001), "length"),
        (answer("It is\u200b 11."), "unicode"),
        (answer("A glazier of 54 with a rash: 11"), "overlap"),
        (answer("80-39-21-47: 11"), "identifier"),
        (answer("hives, Vaduz, beekeeper: 11"), "rare_words"),
        (answer("Write to ana.lopez@ward7.example: 11"), "pii"),
    ],
)
def test_each_rule(record, rule):
    assert outcome(record) == rule


def test_only_right_answers_to_what_was_asked():
    assert outcome(answer(), verify=lambda response: False) == "verified"
    assert outcome(answer(), verify=lambda response: response == answer()) is None
    assert outcome(answer(), asked_ids=frozenset({"p2"})) == "public_id"


def test_names_of_the_sites_list():
    assert outcome(answer("Ana Lopez says 11."), names=Names(["ana lopez"])) == "names"
    assert outcome(answer("<b>Ana</b> <b>Lopez</b> says 11."), names=Names(["ana lopez"])) == "names"
    assert outcome(answer("Anabel Lopez says 11."), names=Names(["ana lopez"])) is None


def test_the_first_rule_that_is_broken_counts():
    assert outcome(answer("a@b.example " * 2000, problem="x1")) == "public_id"
    first = ["not_shared", "logprobs", "public_id", "length", "verified", "unicode", "pii"]
    assert list(RULES) == [*first, *COMPARING]  # so that what anybody can bring about is no private drop


def test_an_over_long_text_is_never_read():
    def explode(*_):
        raise AssertionError("read")

    assert outcome(answer("a" * 100_000), verify=explode) == "length"


def test_caps_count_only_what_leaves():
    rules = ResponseRules(max_per_prompt=2, max_per_step=3, ngram=5)
    secret = answer("A glazier of 54 with a rash: 11")
    records = [secret, answer("a"), answer("a "), answer("b"), answer("c"), answer("d", "p2"), answer("e", "p2")]
    kept, dropped = filter_responses(records, rules, context())
    assert kept == [answer("a"), answer("b"), answer("d", "p2")]
    expected = {"overlap": 1, "duplicate": 1, "per_prompt": 1, "per_step": 1}
    assert dropped == dict.fromkeys((*RULES, *CAPS), 0) | expected


def test_a_jobs_cap_counts_what_left_before():
    rules = ResponseRules(max_per_job=10)
    records = [answer(str(i)) for i in range(5)]
    assert len(filter_responses(records, rules, context(released_in_job=8))[0]) == 2
    assert filter_responses(records, rules, context(released_in_job=10))[1]["per_job"] == 5


FRAGMENTS = ["widowed beekeeper", "Vaduz fainted", "fainted while carrying", "carrying hives", "hives on a tower"]


def test_a_problem_is_not_given_away_a_few_words_at_a_time():
    """Its eight rare words: widowed, beekeeper, vaduz, fainted, carrying, hives, tower, and the record's number."""
    records = [answer(f"{text} {n}: 11") for n, text in enumerate(FRAGMENTS)]
    assert len(filter_responses(records, STRICT, context())[0]) == 5
    in_step = STRICT.model_copy(update={"rare_words_per_step": 4})
    kept, dropped = filter_responses(records, in_step, context())
    assert kept == records[:2]  # each of the others would bring a fifth word, and one of old words only would leave
    assert dropped["budget"] == 3
    assert filter_responses([*records[:2], answer("fainted, beekeeper: 11")], in_step, context())[1]["budget"] == 0


@pytest.mark.parametrize("share", [0.8, 0.1])  # 6 of 8 words; 1 of 8, but at least twice `rare_words`
def test_what_left_in_earlier_exchanges_of_a_job_counts(share):
    rules, given = STRICT.model_copy(update={"rare_share_per_job": share}), Given()
    for number, leaves in enumerate((True, True, True, True, False)):
        records = [answer(f"{FRAGMENTS[number]} {number}: 11")]
        assert bool(filter_responses(records, rules, context(given_in_job=given))[0]) == leaves
    assert filter_responses([answer("tower: 11")], rules, context())[0]  # another job


def test_a_job_that_asks_too_often_gets_no_more():
    rules = STRICT.model_copy(update={"max_private_drops": 3})
    secret, wrong = answer("A glazier of 54 with a rash: 11"), answer("Write to ana.lopez@ward7.example: 11")
    kept, dropped = filter_responses(
        [wrong, secret, answer("a"), secret, secret, answer("b"), secret], rules, context()
    )
    assert kept == [answer("a")]
    assert (dropped["overlap"], dropped["private_drops"], dropped["pii"]) == (3, 2, 1)
    assert filter_responses([answer("a")], rules, context(private_drops=3))[1]["private_drops"] == 1
    assert filter_responses([answer("a")], rules, context(private_drops=2))[0]


def test_a_site_that_shares_nothing():
    kept, dropped = filter_responses([answer(), answer("b")], ResponseRules(share=False), context())
    assert kept == []
    assert dropped["not_shared"] == 2


def test_a_rule_that_crashes_releases_nothing():
    with pytest.raises(ZeroDivisionError):
        filter_responses([answer()], STRICT, context(verify=lambda *_: 1 / 0))


TEXTS = st.text(max_size=60) | st.sampled_from(["It is 11.", "glazier of 54 with a", "x@y.example", "11\u202e"])
RESPONSES = st.lists(
    st.builds(PublicResponse, st.sampled_from(["p1", "p2", "x1"]), TEXTS, st.integers(0, 23)), max_size=12
)


@given(RESPONSES, st.integers(1, 4), st.integers(1, 6))
def test_whatever_comes(records, per_prompt, per_step):
    rules = STRICT.model_copy(update={"max_per_prompt": per_prompt, "max_per_step": per_step})
    kept, dropped = filter_responses(records, rules, context())
    assert len(kept) + sum(dropped.values()) == len(records)
    rest = iter(records)
    assert all(any(record is other for other in rest) for record in kept)  # in order, and untouched
    assert len(kept) <= per_step
    assert filter_responses(kept, rules, context())[0] == kept


@pytest.mark.parametrize("text", ["$3$ March $1961$", "**3** March **1961**", "3~March~1961", "\\textbf{3} March 1961"])
def test_personal_data_are_found_in_markup(text):
    assert Context(frozenset(), lambda answer: True, PrivateIndex(())).has_personal_data(text, ResponseRules(pii=PII))
