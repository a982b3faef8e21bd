"""What may be a name, and how text from elsewhere is shown."""

import pytest

from fedrlvr.printable import MAX_NAME, check_name, counted, one_line, print_error, printable

HONEST = [
    "",
    "Counting & Probability",
    "Präalgebra",
    "数学　代数",  # with an ideographic space
    "الجبر",
    "می‌خواهم",  # Persian, with the non-joiner that it is spelt with
    "👩‍⚕️ medicine",  # one picture of two, joined
    "[/foo] :smile:",
    "$\\frac{$",
    "a\u00a0b",
    "x" * MAX_NAME,
]


@pytest.mark.parametrize("name", HONEST)
def test_an_unusual_name_is_a_name_and_shown_as_it_is(name):
    assert check_name(name) == name
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("\x1b[2J", "character 1 "),
        ("ab\x9b31m", "character 3 "),  # an escape sequence in one character
        ("a\nb", "character 2 "),
        ("a\tb", "character 2 "),
        ("a\x00", "character 2 "),
        ("evil\u202egnp", "character 5 "),  # turns what follows
        ("a\u2066b", "character 2 "),
        ("Algebra\u200b", "character 8 "),  # looks like another name
        ("Algebra\u200d", "character 8 "),
        ("Al\u200dgebra", "character 3 "),  # a joiner that joins nothing
        ("a\u2028b", "character 2 "),
        ("a\ud800", "character 2 "),
        ("a\U000e0041", "character 2 "),  # a tag
        ("a\ue000", "character 2 "),
        ("x" * (MAX_NAME + 1), "201 characters long, expected at most 200"),
    ],
)
def test_what_is_no_name(name, said):
    with pytest.raises(ValueError, match=said) as caught:
        check_name(name)
    assert name not in str(caught.value)


def test_text_is_shown_without_what_would_steer_a_terminal():
    assert printable("\x1b[2Jall\x07\x9b is\nwell\u202e!\ud800") == " [2Jall   is\nwell ! "


def test_on_one_line_nobody_can_write_a_line_of_ours():
    assert one_line("disk\r\n  full\n\nadapter: /elsewhere\u2028ok") == "disk full adapter: /elsewhere ok"


def test_an_error_keeps_its_lines(capsys):
    print_error(ValueError("b[/x].jsonl:\n\x1b[31m  bad"))
    assert capsys.readouterr().err == "error: b[/x].jsonl:\n [31m  bad\n"


@pytest.mark.parametrize(("count", "said"), [(0, "0 rounds"), (1, "1 round"), (2, "2 rounds")])
def test_one_thing_is_not_many(count, said):
    assert counted(count, "round") == said
