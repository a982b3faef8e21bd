"""Which questions are the same: hand-made pairs, and shares of word sequences counted by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.data.duplicates import Seen, normalised, question_text, shared_turns, without_repeats
from fedrlvr.types import Message, Problem

WORDS = [f"w{number}" for number in range(16)]


def asked(prompt: str, answer: str = "1", name: str = "", **more) -> Problem:
    return Problem(name or prompt, prompt, answer, **more)


def words(start: int, end: int) -> str:
    return " ".join(WORDS[start:end])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  X + 1?", "what is x+1"),
        ("The ﬁrst x²", "the first x2"),  # a ligature, a superscript
        ("3 \u2212 2", "3-2"),
        ("Ana\u2019s figs", "ana's figs"),
        ("Compute: $\\frac{1}{2}$.", "compute \\frac 1 2"),
        ("STRASSE", "straße"),
        ("f\u2032(x)", "f'(x)"),
    ],
)
def test_writing_the_same_in_another_way_changes_nothing(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x+1", "x-1"),
        ("x*2", "x/2"),
        ("x^2", "x2"),
        ("2.5", "2 5"),
        (".5", "5"),
        ("f(12)", "f(1,2)"),
        ("x < 1", "x > 1"),
        ("x ≤ 1", "x < 1"),
        ("(0,1)", "[0,1]"),
        ("(x+1)^2", "x+1^2"),
        ("5!", "5"),
        ("f'(x)", "f(x)"),
        ("5%", "5"),
        ("कि", "का"),  # two vowel marks on one letter
        ("🍎?", "🍊?"),
    ],
)
def test_signs_that_change_the_question_stay(one, other):
    assert normalised(one) != normalised(other)


def test_options_count_in_any_order_and_system_messages_do_not_count():
    one = asked("Which?", choices=("red wine", "Tea"))
    assert question_text(one) == question_text(asked("which", choices=("tea", "red wine"))) == "which\nred wine\ntea"
    assert question_text(one) != question_text(asked("which", choices=("tea", "wine")))
    user, system = Message("user", "Which?"), Message("system", "Be brief.")
    assert question_text(Problem("a", "", "1", messages=(system, user))) == question_text(asked("which"))


def talk(question: str, *earlier: str) -> Problem:
    return Problem(question, "", "1", messages=tuple(Message("user", text) for text in (*earlier, question)))


def test_turns_that_most_conversations_begin_with_are_no_part_of_the_question():
    problems = [talk(f"how many {n}", "an example", f"story {n // 2}") for n in range(6)] + [
        talk("why"),
        asked("plain"),
    ]
    shared = shared_turns(problems)
    assert shared == {Message("user", "an example")}  # in 6 of 7; a story is in 2 of 7
    assert question_text(problems[0], shared) == "story 0\nhow many 0"
    assert question_text(talk("plain", "an example"), shared) == question_text(asked("plain"), shared) == "plain"


def test_what_one_conversation_begins_with_is_its_own():
    assert shared_turns([talk("how many", "a story")]) == frozenset()
    same_question = [talk("how many", "an example"), talk("how many", "an example")]
    assert shared_turns(same_question) == {Message("user", "an example")}


def test_one_of_several_repeats_is_kept_and_none_of_a_conflict():
    problems = [
        asked("x+1", "2", "a"),
        asked("X + 1", "2", "b"),
        asked("x-1", "0", "c"),
        asked("which", "A", "d", choices=("tea", "wine")),
        asked("which", "B", "e", choices=("wine", "tea")),  # the same option by another letter
        asked("how many", "3", "f"),
        asked("how many?", "4", "g"),
        asked("How many?", "4", "h"),
        asked("what", "1.0", "i"),
        asked("what?", "1", "i"),
        asked("What", "1.00", "i"),
        asked("where", "1", "j"),
        asked("where", "1.5", "k"),
        asked("where", "1.0", "l"),
        asked("whom", "A", "m", choices=("tea", "wine")),
        asked("whom", "B", "n", choices=("tea", "wine")),
    ]

    def same(problem: Problem, other: str) -> bool:
        return float(problem.answer) == float(other)

    for order in (problems, problems[::-1]):
        kept, repeated, conflicts = without_repeats(order, same)
        assert {(problem.id, problem.answer) for problem in kept.values()} == {
            ("a", "2"),
            ("c", "0"),
            ("d", "A"),
            ("i", "1"),
        }
        assert repeated == 1 + 1 + 2
        assert sorted(sorted(p.id for p in group) for group in conflicts) == [
            ["f", "g", "h"],
            ["j", "k", "l"],
            ["m", "n"],
        ]


def match(added: str, text: str, overlap: float = 0.5):
    seen = Seen(overlap)
    seen.add("test", normalised(added), asked(added, name="t"))
    return seen.match(normalised(text))


def test_the_share_is_of_the_questions_own_sequences():
    """Words 2-12 are eleven and hold four sequences of eight; those that begin at 2, 3 and 4 are in words 0-11 too.
    Words 0-15 hold nine, of which words 0-11 have five."""
    assert match(words(0, 12), words(2, 13)) == ("test", "t", 0.75)
    assert match(words(0, 12), words(2, 13), overlap=0.75).share == 0.75
    assert match(words(0, 12), words(2, 13), overlap=0.76) is None
    assert match(words(0, 12), words(0, 16)).share == 5 / 9


def test_a_repeated_sequence_counts_once():
    """Words 0-7 twice over hold nine sequences, the first and the last the same: eight distinct, of which one is
    known."""
    assert match(words(0, 8), f"{words(0, 8)} {words(0, 8)}", overlap=0.1).share == 1 / 8


def test_sequences_of_several_questions_do_not_add_up():
    seen = Seen(0.5)
    seen.add("test", words(0, 9), asked("a"))  # sequences 0, 1
    seen.add("public", words(5, 13), asked("b"))  # sequence 5
    assert seen.match(words(0, 13)) is None  # six sequences: 2 + 1 of them are known, but no question has three
    seen.add("public", words(3, 13), asked("c"))  # sequences 3, 4, 5
    assert seen.match(words(0, 13)) == ("public", "c", 0.5)


def test_short_questions_are_duplicates_only_if_they_are_the_same():
    assert match(words(0, 7), words(0, 7)).share == 1.0
    assert match(words(0, 7), words(0, 6)) is None
    assert match(words(0, 12), words(0, 7)) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=14), min_size=1, max_size=5),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=14),
    st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]),
)
def test_a_match_is_what_comparing_every_pair_finds(added, asked_for, overlap):
    def sequences(tokens):
        return {tuple(tokens[i : i + 8]) for i in range(len(tokens) - 7)}

    seen = Seen(overlap)
    for number, tokens in enumerate(added):
        seen.add("test", " ".join(tokens), asked("p", name=str(number)))
    own = sequences(asked_for)
    shares = [1.0 if tokens == asked_for else len(own & sequences(tokens)) / max(1, len(own)) for tokens in added]
    found = seen.match(" ".join(asked_for))
    assert (found.share if found else None) == (max(shares) if max(shares) >= overlap - 1e-9 else None)
