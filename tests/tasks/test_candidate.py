"""Finding the one answer of a completion."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.tasks.candidate import declared_answer, last_box


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{4}", "4"),
        ("so \\boxed{ -4 } it is", "-4"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} \\boxed{2}", "2"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("\\boxed{7 \\boxed{3} 8}", "3"),
        ("\\boxed{}", ""),
        ("\\boxed{a}b}", "a"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{\\{1}", "\\{1"),
        ("\\boxed{1} \\boxed{2", "1"),  # the last box that is closed again
        ("\\boxed{1} \\boxed{2} \\boxed{\\boxed{", "2"),
        ("\\boxed{1 \\boxed{2}", "2"),
        ("x \\boxed{1} { \\boxed{2", "1"),
        ("} \\boxed{1} }} \\boxed{", "1"),
        ("\\\\\\boxed{4}", "4"),  # a line break, then a box
        ("\\\\boxed{4}", None),  # a line break, then the word
        ("\\boxed{{1}", None),
        ("\\boxed{1\\}", None),
        ("\\boxed 4", None),
        ("boxed{4}", None),
        ("no box", None),
        ("", None),
    ],
)
def test_the_answer_is_in_the_last_box_that_is_closed(text, content):
    assert last_box(text) == content


@given(st.text(), st.text("ab 1+{}\\", max_size=8), st.text("xyz \n", max_size=20))
def test_a_box_is_found_behind_whatever_comes_before_it(before, content, after):
    if "{" not in content and "}" not in content and not content.endswith("\\"):
        assert last_box(f"{before} \\boxed{{{content}}}{after}") == content.strip()


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 50_000,
        "\\boxed{}" * 50_000 + "\\boxed{",
        "{" * 100_000 + "\\boxed{1",
        "\\boxed{1" + "}" * 100_000,
        "\\" * 100_001 + "boxed{1}",
        "\\boxed{" * 50_000 + "}" * 50_000,
        "Answer: " * 20_000,
        "#" * 100_000,
        " " * 100_000 + "x",
    ],
    ids=lambda text: text[:12],
)
def test_garbage_takes_linear_time(text):
    began = time.process_time()
    last_box(text)
    declared_answer(text)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("6*7=42\n#### 42", "42"),
        ("####42\n\n  \n", "42"),
        ("so\nAnswer: x+1", "x+1"),
        ("The answer is 42.", "42."),
        ("the final answer is: $42$", "$42$"),
        ("ANSWER: B", "B"),
        ("#### 42\nI hope that helps", None),
        ("#### 1\n#### 2", "2"),
        ("I think the answer is 42", None),
        ("Answer:", None),
        ("####", None),
        ("answers: 3", None),
        ("42", None),
        ("", None),
    ],
)
def test_the_last_line_may_declare_an_answer(text, answer):
    assert declared_answer(text) == answer
