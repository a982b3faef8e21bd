"""From problems to sets: which set keeps a question, what decides it, and that every problem is in at most one set."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedrlvr.data.duplicates import question_text
from fedrlvr.data.partition import PreparationError
from fedrlvr.data.preparation import Plan, Prepared, prepare_sets
from fedrlvr.data.sources import Pool
from fedrlvr.types import Message, Problem

LONG = "a farmer sells three baskets of red apples at the market on"


def asked(prompt: str, answer: str = "1", label: str = "a") -> Problem:
    return Problem(f"id of {prompt}", prompt, answer, label)


def many(count: int, split: str = "train") -> list[Problem]:
    return [asked(f"{split} question {n}", label="abcd"[n % 4]) for n in range(count)]


def plan(**changes) -> Plan:
    return Plan(**({"sites": 2, "public": 3, "test": 4} | changes))


def sets_of(made: Prepared) -> dict[str, list[Problem]]:
    private = made.private | {f"{site}.heldout": problems for site, problems in made.heldout.items()}
    return {"test": made.test, "public": made.public} | private


def ids(problems) -> set[str]:
    return {problem.id for problem in problems}


def test_test_comes_from_the_test_split_and_the_rest_from_train():
    made = prepare_sets(Pool(many(20), many(9, "test")), plan(heldout=2))
    assert all(problem.prompt.startswith("test") for problem in made.test)
    assert {name: len(problems) for name, problems in sets_of(made).items()} == {
        "test": 4,
        "public": 3,
        "site-1": 7,
        "site-2": 6,
        "site-1.heldout": 2,
        "site-2.heldout": 2,
    }
    assert made.counts() == {name: len(problems) for name, problems in sets_of(made).items()}
    assert made.removed == {"left over in the test split": 5}
    assert not any(
        problem.prompt.startswith("test") for name, s in sets_of(made).items() if name != "test" for problem in s
    )


def test_without_a_test_split_test_is_held_out_of_train():
    made = prepare_sets(Pool(many(20)), plan())
    assert made.counts() == {"public": 3, "test": 4, "site-1": 7, "site-2": 6}
    assert made.removed == {}


def test_an_empty_test_split_is_not_replaced_by_train():
    with pytest.raises(PreparationError, match="test: 4 problems asked for, but only 0 of the 0 distinct ones"):
        prepare_sets(Pool(many(20), []), plan())


def test_a_test_question_is_in_no_other_set():
    """One train question is a test question in other letters, one shares 9 of its 10 eight-word sequences."""
    words = f"{LONG} monday and two on friday how many"
    test = [asked(words), asked("How many?")]
    train = [asked(f"{words} left"), asked("how  many"), *many(10)]
    made = prepare_sets(Pool(train, test), plan(public=9, test=2, sites=1))
    assert made.removed == {"duplicates test": 2}
    assert {(name, match.set_name, match.id) for name, match in made.matches} == {
        (train[0].id, "test", test[0].id),
        (train[1].id, "test", test[1].id),
    }
    assert ids(made.public + made.private["site-1"]) == ids(many(10))


def test_a_question_stays_in_public_before_held_out_and_private():
    """Thirty questions that are all nearly the same: the set that is filled first keeps one, the others lose theirs."""
    alike = [asked(f"{LONG} one day what is his profit on day {n}") for n in range(30)]
    test = many(4, "test")
    made = prepare_sets(Pool(alike + many(2), test), plan(sites=1, public=1))
    assert len(ids(made.public) & ids(alike)) == 1
    assert made.removed == {"duplicates public": 29}
    assert ids(made.private["site-1"]) == ids(many(2))
    shared = {"public": many(1), "test": test}
    made = prepare_sets(Pool(alike + many(3)), Plan(sites=1, heldout=1, shared=True), shared)
    assert len(ids(made.heldout["site-1"]) & ids(alike)) == 1
    assert made.removed == {"duplicates public": 1, "duplicates held-out": 29}


def test_repeats_conflicts_and_refused_rows_are_counted():
    train = [*many(12), replace(many(1)[0], id="again"), asked("how many", "1"), asked("how many?", "2")]
    made = prepare_sets(Pool(train, refused=["row 1", "row 2"], skipped=5), plan())
    assert made.removed == {
        "bad gold": 2,
        "no single right option": 5,
        "repeats another": 1,
        "conflicting answers": 2,
    }
    assert sum(made.counts().values()) == 12


def test_shared_sets_are_unchanged_and_their_questions_leave_private():
    shared = {"public": many(3), "test": many(5, "test")}
    made = prepare_sets(Pool(many(20)), Plan(sites=2, shared=True, seed=9), shared)
    assert (made.public, made.test) == (shared["public"], shared["test"])
    assert made.removed == {"duplicates public": 3}
    assert ids(made.private["site-1"] + made.private["site-2"]) == ids(many(20)[3:])


EXAMPLES = tuple(Message("user" if n % 2 == 0 else "assistant", f"{LONG} day number {n}") for n in range(4))


def test_worked_examples_in_messages_make_no_near_duplicates():
    """They took all problems but those of the first set."""
    rows = [replace(p, prompt="", messages=(*EXAMPLES, Message("user", p.prompt))) for p in many(20)]
    made = prepare_sets(Pool(rows), plan(heldout=2))
    assert made.removed == {}
    assert sum(made.counts().values()) == 20


def test_text_that_all_problems_begin_with_is_named_where_it_leaves_too_few():
    rows = [replace(p, prompt=f"{LONG} {LONG} {p.prompt}") for p in many(20)]
    with pytest.raises(PreparationError, match=r"16 have at least 50% .*--overlap.*prompt\.instruction"):
        prepare_sets(Pool(rows), plan())


def test_so_it_is_where_too_few_are_left_to_hold_out():
    alike = [replace(p, prompt=f"{LONG} {LONG} {p.prompt}") for p in many(20)]
    shared = {"public": alike[:3], "test": alike[3:6]}
    with pytest.raises(PreparationError, match=r"it has 3 problems in all.*; 20 have at least 50%"):
        prepare_sets(Pool([*alike, *many(5, "other")]), Plan(sites=2, shared=True, heldout=4), shared)


def test_which_problems_are_shared_depends_on_the_seed_and_their_own_text_alone():
    rows, test = many(40), many(20, "test")
    made = prepare_sets(Pool(rows, test), plan(heldout=1))
    shuffled = random.Random(0).sample(rows, 40)
    again = prepare_sets(Pool(shuffled, test[::-1]), plan(heldout=1))
    assert sets_of(again) == sets_of(made)
    fewer = prepare_sets(Pool([p for p in rows if p in made.public] + rows[:20], test), plan())
    assert fewer.public == made.public
    assert prepare_sets(Pool(rows, test), plan(seed=1)).public != made.public


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"public": 99}, PreparationError, "public: 99 problems asked for, but only 16 of the 16 distinct"),
        (
            {"public": 20, "test": 15},
            PreparationError,
            "only 5 of the 5 distinct ones can be used; the test set took 15; try a smaller --public or --test$",
        ),
        ({"test": 99}, PreparationError, "test: 99 problems asked for, but only 20 of the 20 distinct"),
        ({"heldout": 7}, PreparationError, "site-1: heldout is 7, but it has 7 problems in all"),
        (
            {"sites": 14},
            PreparationError,
            r"private: 13 problems are left for 14 sites; the public set took 3; the test set took 4; "
            r"try a smaller --public or --test, or fewer --sites",
        ),
        ({"sites": 5, "partition": "label"}, PreparationError, "5 sites, but the private problems have 4 labels"),
    ],
)
def test_more_than_there_is_is_refused(changes, error, said):
    with pytest.raises(error, match=said):
        prepare_sets(Pool(many(20)), plan(**changes))


def test_a_test_set_of_its_own_takes_nothing_from_the_others():
    with pytest.raises(PreparationError, match=r"only 20 of the 20 distinct ones can be used; try a smaller --public$"):
        prepare_sets(Pool(many(20), many(9, "test")), plan(public=99))
    with pytest.raises(PreparationError, match="0 problems are left for 2 sites; the public set took 20; try"):
        prepare_sets(Pool(many(20), many(9, "test")), plan(public=20))


def test_labels_that_sites_have_and_a_shared_set_lacks_are_known():
    """Of 20 problems with the labels a to d, 12 are in no shared set; a problem without a label asks for nothing."""
    shared = {"public": many(2), "test": many(4, "test")}  # a and b; a to d
    made = prepare_sets(Pool([*many(20), asked("unlabelled", label="")]), Plan(sites=2, shared=True), shared)
    assert made.lacking() == {"public": ["c", "d"]}
    held_out = prepare_sets(Pool([*many(8), asked("rare", label="e")]), Plan(sites=1, shared=True, heldout=6), shared)
    assert held_out.lacking() == {"public": ["c", "d", "e"], "test": ["e"]}


def test_an_id_of_two_problems_is_refused():
    with pytest.raises(PreparationError, match="1 ids belong to more than one problem"):
        prepare_sets(Pool([*many(20), replace(asked("another question"), id=many(1)[0].id)]), plan())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sites": 0}, "sites"),
        ({"public": 0}, "public"),
        ({"test": -1}, "test"),
        ({"public": None}, "public: expected either a number"),
        ({"shared": True}, "public: expected either a number of problems"),
        ({"heldout": -1}, "heldout"),
        ({"overlap": 0.0}, "overlap"),
        ({"overlap": 1.1}, "overlap"),
        ({"partition": "dirichlet"}, "alpha: expected with partition dirichlet"),
        ({"partition": "dirichlet", "alpha": 0.0}, "alpha"),
        ({"partition": "dirichlet", "alpha": float("inf")}, "alpha"),
        ({"alpha": 0.5}, "alpha: expected with partition dirichlet, and only with it"),
    ],
)
def test_an_impossible_plan_is_refused_by_name(changes, said):
    with pytest.raises(ValidationError, match=said):
        plan(**changes)


WORDS = st.lists(st.sampled_from(["red", "two", "figs", "x", "+", "1"]), min_size=1, max_size=12).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.sampled_from("12"), st.sampled_from("ab")), min_size=1, max_size=40),
    st.none() | st.lists(st.tuples(WORDS, st.just("1"), st.just("a")), max_size=8),
    st.integers(0, 3),
    st.integers(0, 1),
)
def test_every_problem_lands_exactly_once_or_is_counted(train, test, seed, heldout):
    named = [[Problem(f"{k}-{n}", *row) for n, row in enumerate(rows or [])] for k, rows in enumerate((train, test))]
    pool = Pool(named[0], None if test is None else named[1])
    chosen = Plan(sites=2, public=1, test=1, seed=seed, heldout=heldout)
    try:
        made = prepare_sets(pool, chosen)
    except PreparationError:
        return
    landed = [problem for problems in sets_of(made).values() for problem in problems]
    assert len(landed) + made.removed.total() == len(named[0]) + len(named[1])
    assert max(Counter(problem.id for problem in landed).values()) == 1
    assert max(Counter(question_text(problem) for problem in landed).values()) == 1
    assert sets_of(prepare_sets(pool, chosen)) == sets_of(made)
