"""A secret of a private problem is recognised in an answer however it is written; the language of all never counts."""

import base64
import string
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedrlvr.privacy.everyday import everyday_words
from fedrlvr.privacy.overlap import Found, PrivateIndex
from fedrlvr.privacy.text import words
from fedrlvr.protocol.refused import Refused
from fedrlvr.types import Message, Problem

EVERYDAY = everyday_words(["en"])
STORY = "A glazier of 54 with sarcoidosis came back from Tromso on a stretcher last week"


def index(*texts: str, public: tuple[str, ...] = (), ngram: int = 5, **fields) -> PrivateIndex:
    private = [Problem(f"x{i}", text, "", **fields) for i, text in enumerate(texts)]
    return PrivateIndex(private, public, EVERYDAY, ngram)


def held(found: Found) -> bool:
    """Whether a rule of `clinical` would drop the answer."""
    return found.sequences > 0 or found.identifiers > 0 or found.rare >= 3


def test_five_words_in_a_row_of_which_one_is_rare():
    private = index(STORY)
    assert private.find("So: back from Tromso on, he said.").sequences == 0
    assert private.find("So: back from Tromso on a sledge.").sequences == 1
    assert private.find("So: back from Tromso on a stretcher.").sequences == 2
    assert index(STORY, ngram=4).find("So: back from Tromso on his sledge.").sequences == 1
    assert (
        index("It was said that he came back home with her last week").find("He came back home with them").sequences
        == 0
    )
    assert index(STORY, ngram=0).find(STORY).sequences == 0


def test_everyday_words_are_a_secret_only_in_long_rows():
    said = "she says that he has not come home at night since they lost the big house on the hill to the bank"
    private = index(said)
    assert private.find(" ".join(said.split()[:14])).sequences == 0
    assert private.find(" ".join(said.split()[:15])).sequences == 1
    numbers = "1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11 + 12 + 13 + 14 + 15 + 16"
    assert index(f"Add {numbers} and more").find(numbers).sequences == 0


def test_a_whole_question_is_a_secret_however_short_and_an_option_is_none():
    for question in ("Did he come back home with her?", "Is sarcoidosis seen here?"):
        assert index(question).find(f"{question} No.").sequences == 1
    assert index("Did he come back home with her?").find("Did he come back home with them?").sequences == 0
    option = "she was back at home with him"
    assert index("Who?", choices=(option,)).find(option).sequences == 0


def test_rare_words_of_one_problem_in_any_order():
    private = index(STORY, "The falconer of Utrecht has eczema")
    assert private.find("stretcher ... Tromso ... glazier").rare == 3
    assert private.find("the glazier and the falconer of Tromso").rare == 2  # two of one problem, one of another
    assert private.find("Utrecht").rare == 1


def test_a_term_of_two_rare_words_counts_less_than_two_from_all_over():
    private = index("He has wegener granulomatosis and keeps ostriches near Upington")
    assert private.find("this is wegener granulomatosis").rare == 1.5
    assert private.find("this is wegener's granulomatosis").rare == 1.5
    assert private.find("granulomatosis, also named after wegener").rare == 2
    assert private.find("wegener granulomatosis, ostriches").rare == 2.5


def test_what_is_in_many_surroundings_is_of_the_field():
    field = ["The cook has sarcoidosis of the eye", "In sarcoidosis the skin is red", "Why does sarcoidosis hurt?"]
    assert index(*field[:2]).find("sarcoidosis").rare == 1
    assert index(*field).find("sarcoidosis").rare == 0


def test_what_several_problems_say_of_one_patient_stays_a_secret():
    """Surroundings count, not problems; and a question that is there twice counts once."""
    asked = [f"{STORY}. What is the {thing}?" for thing in ("cause", "drug", "test", "risk", "dose", "next step")]
    found = index(*asked).find("stretcher, Tromso, glazier")
    assert found.rare == 3
    assert {problem: len(rare) for problem, rare in found.words.items()} == dict.fromkeys(range(6), 3)
    assert index(*[STORY] * 50).find("stretcher, Tromso, glazier").rare == 3


def test_among_many_problems_a_secret_may_stand_in_more_of_them():
    """4,000: 0.075% are three surroundings, 1% are 40 problems."""
    many = [f"case {n}" for n in range(4000)]
    told = [f"{STORY}. Tell him of day {n}" for n in range(20)]
    assert index(*told).find("stretcher, Tromso, glazier").rare == 0
    assert index(*told, *many).find("stretcher, Tromso, glazier").rare == 3
    seen = ["The cook has eczema of the eye", "In eczema the skin is red", "Why does eczema hurt?"]
    assert index(*seen, *many).find("eczema").rare == 1


def test_which_parts_of_a_problem_are_looked_for():
    problem = Problem(
        "x",
        "",
        "erythema nodosum",
        choices=("warts of the left hallux after a tattoo", "a very rare kind of eczema"),
        messages=(Message("system", "The ward is Paracelsus seven in Upington"), Message("user", STORY)),
        meta={"note": "seen by dr featherstone on the ward"},
    )
    found = PrivateIndex([problem], [], EVERYDAY, 5)
    assert found.find("It is erythema nodosum.").sequences == 1  # the whole answer, though of two words
    assert found.find("warts of the left hallux").sequences == 1
    assert found.find(STORY).sequences > 0
    assert found.find("ward is paracelsus seven in").sequences == 1
    assert not held(found.find("Seen by Dr Featherstone. B"))


def test_instructions_that_stand_in_many_problems_are_no_secret():
    system = Message("system", "You are a meticulous radiologist: enumerate findings tersely")
    private = [Problem(f"x{n}", "", "B", messages=(system, Message("user", f"case {n}"))) for n in range(20)]
    assert held(PrivateIndex(private[:5], [], EVERYDAY, 5).find(system.content))
    assert not held(PrivateIndex(private, [], EVERYDAY, 5).find(system.content))


def test_short_answers_are_not_looked_for():
    assert not held(index("yes", "gout", "3", "left hand").find("yes, gout of the left hand, 3"))


def test_what_is_in_public_texts_does_not_count():
    common = "how many kumquats does the greengrocer have now"
    found = index(f"{common} after featherstone took three kiwis", public=(common.upper() + "?",))
    assert not held(found.find(common))
    assert found.find("have now after featherstone took").sequences == 1


def test_words_of_the_field_in_a_row_of_one_problem_alone():
    """Each of these words is in many problems, and none is an everyday one."""
    field = ["amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "karst", "lotus", "mango"]
    rows = [" ".join(field[n:] + field[:n]) for n in range(12)]
    private = [f"{row} and then, {n} days later, the same again" for n, row in enumerate(rows * 3)]
    secret = "fjord amber lotus cedar mango"
    found = index(*private, f"so {secret} too")
    assert found.find(f"it was {secret} again").sequences == 1
    assert found.find("it was fjord amber lotus again").sequences == 0
    assert found.find(f"it was {' '.join(field[2:7])} again").sequences == 0  # a phrase of the field


NAMES = ["canary-8f3a2c", "AB12345", "zx-4711-kilo", "4711/0815/99", "2024-11-05T07", "71234567", "482913"]
NAMES += ["4929 1333 0817 2204", "NL 20 INGB 0001 2345 67", "756.9217.0769.85", "SW3 4RY", "ana.lopez@ward7.example"]
NAMES += ["heron-471-lotus", "http://notes.ward.example/lopez", "c.1521_1523delCTT"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrap", ["{}", "({}).", "id={};"])
def test_identifiers_however_they_are_broken_up(name, wrap):
    found = index(f"The sample {name} was lost")
    forms = [name, name.upper(), name.replace("-", " "), name.replace("-", ""), "\u2011".join(name)]
    spaced = " ".join(character for character in name if character.isalnum())
    for text in (*forms, spaced):
        assert found.find(f"The answer {wrap.format(text)} is 11").identifiers >= 1, text
    assert found.find("The answer is 11").identifiers == 0
    assert index(f"The sample {name} was lost", public=(f"Whose is {name}?",)).find(name).identifiers == 0


CLOTHES = ["80 39 21 47", "8039 and then 2147", "8a0b3c9d2e1f4g7", "8.0392147 \\times 10^7", "80\\,392\\,147"]
CLOTHES += ["80{,}392{,}147", "\u0668\u0660\u0663\u0669\u0662\u0661\u0664\u0667", "ODAzOTIxNDc=", "3830333932313437"]
CLOTHES += ["eight zero three nine, two one four seven", "&#56;&#48;&#51;&#57;&#50;&#49;&#52;&#55;", "74129308"]


@pytest.mark.parametrize("text", CLOTHES)
def test_a_number_in_other_clothes(text):
    assert index("Record 80392147, ward 7").find(f"So {text} it is").identifiers >= 1


def test_measures_and_counted_numbers_are_no_identifiers():
    measured = "BP 135/115, 465,000/mm3, 65-year-old, 3.14159, 12345 of 100000, 250 mg, 1-2-3-4-5-6, 0011 0011, FEV1/4"
    assert index(measured).find(measured).identifiers == 0


@pytest.mark.parametrize(
    "text", ["**80**39**21**", "eight zero three nine two one", "129308", "$80$ $39$ $21$", "*8* *0* *3* *9* *2* *1*"]
)
def test_a_short_number_in_other_clothes(text):
    private = index("Record 803921")
    assert private.find(f"It is {text}.").identifiers
    assert not private.find("It is 80 or 3921, eight hundred and three, 921 or 129038.").identifiers


@pytest.mark.parametrize(
    ("private", "leak", "other"),
    [
        ("患者高橋恵美子は灯台の近くで倒れた", "高橋恵美子は灯台の近く", "答えは三です"),
        ("ผู้ป่วยสมหญิงล้มใกล้ประภาคาร", "สมหญิงล้มใกล้ประภาคาร", "คำตอบคือสาม"),
    ],
)
def test_scripts_without_blanks(private, leak, other):
    assert held(index(private).find(leak))
    assert not held(index(private).find(other))


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def cyrillic(text: str) -> str:
    return text.translate(str.maketrans("aeopcyxsij", "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458"))


DISGUISES = {
    "upper case": str.upper,
    "title case": str.title,
    "full width": wide,
    "Cyrillic letters": cyrillic,
    "in lines": lambda text: text.replace(" ", "\n"),
    "hyphens": lambda text: text.replace(" ", " - "),
    "bold": lambda text: text.replace(" ", "** **"),
    "ligatures": lambda text: text.replace("fi", "\ufb01"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "zero-width": "\u200b".join,
    "underscores": lambda text: text.replace(" ", "_"),
    "in LaTeX": lambda text: " ".join(f"\\text{{{word}}}" for word in text.split()),
    "as LaTeX": lambda text: "\\" + text.replace(" ", "\\"),
    "in colours": lambda text: " ".join(f"\\textcolor{{blue}}{{{word}}}" for word in text.split()),
    "in tags": lambda text: " ".join(f"<i>{word}</i>" for word in text.split()),
    "as links": lambda text: " ".join(f"[{word}](http://q.example)" for word in text.split()),
    "accents": lambda text: "".join(c + "\u0301" if c.isalpha() else c for c in text),
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
@settings(max_examples=20)
@given(private=st.lists(st.text(string.ascii_lowercase + "é", min_size=1, max_size=9), min_size=5, max_size=9))
def test_a_private_text_is_found_in_disguise(disguise, private):
    text = " ".join(private)
    assume(any(len(word) > 2 and word not in EVERYDAY for word in words(text)))
    assert index(text).find(f"Hence: {disguise(text)}. So 11.").sequences >= 1


def in_pieces(text: str, size: int) -> str:
    letters = text.replace(" ", "")
    return " ".join(letters[i : i + size] for i in range(0, len(letters), size))


REORDERED = {
    "spelt out": " ".join,
    "spelt out with dots": ".".join,
    "joined": lambda text: text.replace(" ", ""),
    "camel case": lambda text: text.title().replace(" ", ""),
    "in twos": lambda text: in_pieces(text, 2),
    "in sevens": lambda text: in_pieces(text, 7),
    "wide gaps": "     ".join,
    "backwards": lambda text: text[::-1],
    "joined backwards": lambda text: text[::-1].replace(" ", ""),
    "each word backwards": lambda text: " ".join(word[::-1] for word in text.split()),
    "words backwards": lambda text: " ".join(reversed(text.split())),
    "sorted": lambda text: " ".join(sorted(text.split())),
    "numbered": lambda text: " ".join(f"{n}) {word}" for n, word in enumerate(text.split())),
    "doubled": lambda text: " ".join(f"{word} {word}" for word in text.split()),
    "between other words": lambda text: " ".join(f"{word} is seen and" for word in text.split()),
    "every other word": lambda text: " ".join(text.split()[::2] + text.split()[1::2]),
    "base 64": lambda text: base64.b64encode(text.encode()).decode(),
    "base 32": lambda text: base64.b32encode(text.encode()).decode(),
    "base 16": lambda text: text.encode().hex(),
    "base 16 in pairs": lambda text: text.encode().hex(" "),
    "escapes": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "entities": lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    "in an address": lambda text: text.replace(" ", "%20"),
}


@pytest.mark.parametrize("disguise", REORDERED.values(), ids=REORDERED)
def test_a_private_text_is_found_in_another_order_or_code(disguise):
    assert held(index(STORY).find(f"Hence: {disguise(STORY)}. So 11."))


@settings(max_examples=20)
@given(st.lists(st.sampled_from([word for word in STORY.split() if len(word) > 1]), min_size=5, max_size=20))
def test_public_texts_never_count(parts):
    text = " ".join(parts)
    assert not held(index(text, public=(text,)).find(text))


def test_the_index_holds_no_text_and_no_hash_that_another_could_make():
    first, second = index(STORY), index(STORY)
    for name in ("_sequences", "_rare"):
        ours, theirs = getattr(first, name).hashes, getattr(second, name).hashes
        assert len(ours) == len(theirs) > 0
        assert ours.dtype == np.uint64
        assert not set(ours.tolist()) & set(theirs.tolist())
    assert not any(isinstance(value, str | list) and "glazier" in value for value in vars(first).values())


HOSTILE = [
    "a",
    "1 ",
    "a.",
    "<a ",
    "\\u0061",
    "&#9;",
    "ab1-",
    "](",
    "\\begin{",
    "[asy]",
    "A" * 9 + " ",
    "1.",
    "a@b.",
    "0.1",
    "1",
    "a1",
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_hostile_texts_take_linear_time(pattern):
    private = index(STORY, "Record 80392147, card 4929 1333 0817 2204, ana.lopez@ward7.example")

    def seconds(length: int) -> float:
        began = time.process_time()
        private.find((pattern * length)[:length])
        return time.process_time() - began

    seconds(1000)
    assert seconds(64_000) < 20 * 64 * max(seconds(1000), 1e-3)


def test_a_language_without_a_list_of_words_is_refused():
    with pytest.raises(Refused, match="no words are known of xx"):
        everyday_words(["en", "xx"])


def test_no_private_problems():
    assert PrivateIndex([], [], EVERYDAY, 5).find(STORY) == Found()
    assert PrivateIndex([Problem("x", "", "")], [STORY], EVERYDAY, 5).find(STORY) == Found()
