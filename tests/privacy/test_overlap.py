"""A private problem is recognised in an answer however it is written; a public one never counts."""

import string
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.text import spelt_out, words
from fedrlvr.types import Message, Problem

STORY = "A woman of 54 with a rash on both shins came back from Lisbon last week"


def index(*texts: str, public: tuple[str, ...] = (), ngram: int = 5, **fields) -> PrivateIndex:
    private = [Problem(f"x{i}", text, "", **fields) for i, text in enumerate(texts)]
    return PrivateIndex(private, [Problem(f"p{i}", text, "") for i, text in enumerate(public)], ngram)


def test_five_words_in_a_row_and_not_four():
    assert index(STORY).shared("So: rash on both shins!") == 0
    assert index(STORY).shared("So: a rash on both shins!") == 1
    assert index(STORY).shared("So: a rash on both shins came!") == 2
    assert index(STORY, ngram=4).shared("So: rash on both shins!") == 1
    assert index(STORY, ngram=0).shared(STORY) == 0


def test_which_parts_of_a_problem_are_looked_for():
    problem = Problem(
        "x",
        "",
        "erythema nodosum after sarcoidosis",
        choices=("warts of the left hand", "a very rare kind of eczema"),
        messages=(Message("system", "Think step by step before you answer"), Message("user", STORY)),
        meta={"note": "seen by dr who on the ward"},
    )
    found = PrivateIndex([problem], [], 5)
    assert found.shared("erythema nodosum after sarcoidosis") == 1  # four words: the whole answer
    assert found.shared("warts of the left hand") == 1
    assert found.shared(STORY) > 0
    assert found.shared("think step by step before you answer") == 0  # ours, not the site's
    assert found.shared("B") == 0


def test_short_answers_are_not_looked_for():
    assert index("yes", "gout", "3", "left hand").shared("yes, gout of the left hand, 3") == 0


def test_what_is_in_public_problems_does_not_count():
    common = "how many apples does she have now"
    found = index(f"{common} after mrs smith took three of hers", public=(common.upper() + "?",))
    assert found.shared(common) == 0
    assert found.shared("after mrs smith took three") == 1


NAMES = ["canary-8f3a2c", "AB12345", "zx-4711-kilo", "4711/0815/99", "2024-11-05T07", "71234567"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrap", ["{}", "({}).", "id={};"])
def test_identifiers_however_they_are_broken_up(name, wrap):
    found = index(f"The sample {name} was lost")
    spaced = " ".join(name)
    for text in (name, name.upper(), name.replace("-", " "), name.replace("-", ""), spaced, "\u2011".join(name)):
        assert found.shared(f"The answer {wrap.format(text)} is 11") >= 1, text
    assert found.shared("The answer is 11") == 0
    assert index(f"The sample {name} was lost", public=(f"Whose is {name}?",)).shared(name) == 0


def test_plain_small_numbers_are_no_identifiers():
    assert index("He has 12345 figs and 3.14159 pies of 100000").shared("12345 of 100000, by 3.14159") == 0


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


DISGUISES = {
    "upper case": str.upper,
    "title case": str.title,
    "full width": wide,
    "spelt out": " ".join,
    "spelt out with dots": ".".join,
    "in lines": lambda text: text.replace(" ", "\n"),
    "hyphens": lambda text: text.replace(" ", " - "),
    "bold": lambda text: text.replace(" ", "** **"),
    "ligatures": lambda text: text.replace("fi", "\ufb01"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "underscores": lambda text: text.replace(" ", "_"),
    "in LaTeX": lambda text: " ".join(f"\\text{{{word}}}" for word in text.split()),
    "as LaTeX": lambda text: "\\" + text.replace(" ", "\\"),
    "accents": lambda text: "".join(c + "\u0301" if c.isalpha() else c for c in text),
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
@given(private=st.lists(st.text(string.ascii_lowercase + "é", min_size=1, max_size=9), min_size=5, max_size=9))
def test_a_private_text_is_found_in_disguise(disguise, private):
    text = " ".join(private)
    assume(len(words(text)) >= 5)
    assume(not spelt_out(text))  # four one-letter words in a row count as one word, unless commands are between them
    assert index(text).shared(f"Hence: {disguise(text)}. So 11.") >= 1


RUN_TOGETHER = {
    "joined": lambda text: text.replace(" ", ""),
    "camel case": lambda text: text.title().replace(" ", ""),
    "in twos": lambda text: " ".join(text.replace(" ", "")[i : i + 2] for i in range(0, len(text), 2)),
    "wide gaps": "     ".join,
    "backwards": lambda text: text[::-1],
    "joined backwards": lambda text: text[::-1].replace(" ", ""),
}


@pytest.mark.parametrize("disguise", RUN_TOGETHER.values(), ids=RUN_TOGETHER)
def test_long_sequences_are_found_with_other_word_ends(disguise):
    assert index(STORY).shared(f"Hence: {disguise(STORY)}. So 11.") >= 1
    short = index("1 2 3 4 5")  # too short to be told from any other number
    assert short.shared("In all 9123458.") == 0


@given(st.lists(st.sampled_from([word for word in STORY.split() if len(word) > 1]), min_size=5, max_size=20))
def test_public_texts_never_count(parts):
    text = " ".join(parts)
    assert index(text, public=(text,)).shared(text) == 0
    assert PrivateIndex([Problem("x", text, "")], [], 5).shared(text) >= 1


def test_the_index_holds_no_text_and_no_hash_that_another_could_make():
    first, second = index(STORY), index(STORY)
    assert not first.shingles & second.shingles
    assert all(len(item) == 8 for item in first.shingles | first.heads)
