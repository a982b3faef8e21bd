"""The multiple-choice task: exactly one boxed letter, and options that can be put into other orders."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.config import VerifierSettings
from fedrlvr.tasks import TASKS, task_named
from fedrlvr.tasks.task import NotOfThisTask, Verdict
from fedrlvr.types import VARIANTS, Message, Problem

TASK = TASKS["choice"]
DRUGS = ("Aspirin", "Atropine", "Vitamin K", "Heparin sodium")
ASKED = Problem("q1", "Which reverses warfarin?", "C", choices=DRUGS)


def test_the_prompt_letters_the_options_or_is_the_conversation():
    assert TASK.prompt(ASKED) == (
        "Which reverses warfarin?\nA) Aspirin\nB) Atropine\nC) Vitamin K\nD) Heparin sodium\n\n"
        "Please reason step by step, and put only the letter of the right option within \\boxed{}."
    )
    turns = (Message("user", "Which? A) yes B) no"),)
    assert TASK.prompt(Problem("x", "", "A", choices=("yes", "no"), messages=turns)) == turns
    assert "\\boxed{}" in TASK.instruction


@pytest.mark.parametrize(
    "content",
    [
        "C",
        " C ",
        "(C)",
        "\\text{C}",
        "\\text{(C)}",
        "C)",
        "C.",
        "\\text{ C }",
        "\\textbf{C}",
        "\\mathbf{(C)}",
        "$C$",
        "\\mathrm{C}",
        "\\textbf{\\text{C}}",
        "**C**",
        "Option C",
        "Answer: C",
    ],
)
def test_the_letter_counts_in_every_notation(content):
    assert TASK.verify(ASKED, f"A or B? No: \\boxed{{{content}}}.") == Verdict(1.0, "exact")


@pytest.mark.parametrize(
    "content",
    [
        "Vitamin K",
        "vitamin  k",
        "\\text{Vitamin K}",
        " VITAMIN K ",
        "Vitamin K.",
        "\\textit{Vitamin~K}",
        "C) Vitamin K",
        "(C) vitamin K.",
        "C. Vitamin K",
        "C: Vitamin K",
        "C, Vitamin K",
        "C Vitamin K",
        "C - Vitamin K",
        "C \u2013 Vitamin K",
        "C (Vitamin K)",
        "Vitamin K (C)",
        "\\text{C) }\\text{Vitamin K}",
        "C\\text{. Vitamin K}",
        "\\textbf{C) Vitamin K}",
    ],
)
def test_the_text_of_exactly_one_option_counts(content):
    assert TASK.verify(ASKED, f"\\boxed{{{content}}}") == Verdict(1.0, "equal")


def test_a_text_that_two_options_share_is_no_answer():
    twice = Problem("x", "?", "A", choices=("5 mg", "5  MG", "6 mg"))
    assert TASK.verify(twice, "\\boxed{5 mg}") == Verdict(0.0, "no option")
    assert TASK.verify(twice, "\\boxed{6 mg}") == Verdict(0.0, "wrong")


@pytest.mark.parametrize(
    ("content", "letter"),
    [
        ("50\\%", "A"),
        ("50%", "A"),
        ("\\alpha\\text{-amylase}", "B"),
        ("\u03b1-amylase", "B"),
        ("$\\alpha$-amylase", "B"),
        ("a fever", "C"),
        ("A fever", "C"),
        ("$x^2$", "D"),
        ("B \\alpha\\text{-amylase}", "B"),
        ("B) \u03b1\u2013amylase", "B"),
        ("E. Graves\u2019 disease", "E"),
    ],
)
def test_an_option_may_be_set_in_latex_or_begin_like_a_letter(content, letter):
    asked = Problem("x", "?", letter, choices=("50%", "\u03b1-amylase", "A fever", "$x^2$", "Graves' disease"))
    assert TASK.verify(asked, f"\\boxed{{{content}}}") == Verdict(1.0, "equal")


@pytest.mark.parametrize(
    "completion",
    [
        "The letter goes within \\boxed{}: \\boxed{C}",
        "\\boxed{...} \\boxed{C}",
        "\\boxed{C} and also \\boxed{",
        "<think>Is it \\boxed{A}? No.</think>\\boxed{C}",
        "<think>\\boxed{A} \\boxed{B}</think>\n\n\\boxed{C}",
    ],
)
def test_a_box_that_holds_nothing_or_belongs_to_the_thinking_does_not_count(completion):
    assert TASK.verify(ASKED, completion) == Verdict(1.0, "exact")


def test_a_box_in_the_thinking_alone_is_no_answer():
    assert TASK.verify(ASKED, "<think>\\boxed{C}</think>I do not know.") == Verdict(0.0, "no box")


def test_a_letter_wins_over_an_option_with_that_text():
    crossed = Problem("x", "?", "A", choices=("B", "A"))
    assert TASK.verify(crossed, "\\boxed{A}").reward == 1.0
    assert TASK.verify(crossed, "\\boxed{B}").reward == 0.0


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("\\boxed{A}", "wrong"),
        ("\\boxed{Aspirin}", "wrong"),
        ("\\boxed{E}", "no option"),
        ("\\boxed{C or D}", "no option"),
        ("\\boxed{A, B, C, D}", "no option"),
        ("\\boxed{ABCD}", "no option"),
        ("\\boxed{A/C}", "no option"),
        ("\\boxed{C D}", "no option"),
        ("\\boxed{c}", "no option"),
        ("\\boxed{(C}", "no option"),
        ("\\boxed{\\text{C}", "no box"),
        ("\\boxed{C) Heparin sodium}", "no option"),
        ("\\boxed{C: Aspirin}", "no option"),
        ("\\boxed{A. Vitamin K}", "no option"),
        ("\\boxed{Aspirin (C)}", "no option"),
        ("\\boxed{C (not D)}", "no option"),
        ("\\boxed{C Vitamin}", "no option"),
        ("\\boxed{C:}", "no option"),
        ("\\boxed{C-reactive protein}", "no option"),
        ("\\boxed{\\mathbb{C}}", "no option"),
        ("\\boxed{Vitamin K or Aspirin}", "no option"),
        ("\\boxed{Vitamin}", "no option"),
        ("\\boxed{not C}", "no option"),
        ("\\boxed{}", "no box"),
        ("\\boxed{\\text{}}", "no option"),
        ("\\boxed{\uff23}", "no option"),
        ("\\boxed{\u0421}", "no option"),  # a Cyrillic letter
        ("\\boxed{C\x00}", "no option"),
        ("\\boxed{C" + " " * 1000 + "x}", "too long"),
        ("\\boxed{C} \\boxed{C}", "several boxes"),
        ("\\boxed{A}\\boxed{B}\\boxed{C}\\boxed{D}", "several boxes"),
        ("\\boxed{\\boxed{C}}", "several boxes"),
        ("\\boxed{C", "no box"),
        ("The answer is C", "no box"),
        ("A patient needs C", "no box"),
        ("", "no box"),
        ("\\boxed{" * 20_000, "no box"),
        ("\\boxed{C" * 20_000 + "}" * 20_000, "several boxes"),
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_anything_else_scores_zero(completion, reason):
    assert TASK.verify(ASKED, completion) == Verdict(0.0, reason)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("I think of A.\nAnswer: C", "exact"),
        ("The answer is C.", "exact"),
        ("the final answer is: (C)", "exact"),
        ("#### C) Vitamin K", "equal"),
        ("The answer is Vitamin K.", "equal"),
        ("Put it within \\boxed{}.\nAnswer: C", "exact"),  # the instruction, quoted
        ("Answer: B", "wrong"),
        ("Answer: A; B; C; D", "no option"),
        ("The answer is C (B)", "no option"),
        ("The answer is a patient", "no option"),
        ("C", "no box"),
        ("Answer: C\nIs that so?", "no box"),
        ("\\boxed{B}\nAnswer: C", "wrong"),
        ("\\boxed{B} \\boxed{C}\nAnswer: C", "several boxes"),
        ("<think>\nAnswer: C</think>", "no box"),
    ],
)
def test_a_declared_last_line_counts_where_there_is_no_box_and_the_job_lets_it(completion, reason):
    verdict = task_named("choice", VerifierSettings(fallback="last_line")).verify(ASKED, completion)
    assert verdict == Verdict(float(reason in ("exact", "equal")), reason)
    if "boxed{B}" not in completion:
        assert TASK.verify(ASKED, completion) == Verdict(0.0, "no box")


@given(st.text(max_size=40), st.text("ABCD(), {}\\boxed", max_size=20))
def test_any_text_scores_without_an_error(text, content):
    for completion in (text, f"\\boxed{{{text}}}", f"\\boxed{{{content}}}"):
        assert TASK.verify(ASKED, completion).reward in (0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"choices": ()}, "choices"),
        ({"choices": ("one",)}, "choices"),
        ({"answer": "E"}, "answer"),
        ({"answer": "c"}, "answer"),
        ({"answer": "AB"}, "answer"),
        ({"answer": "Vitamin K"}, "answer"),
        ({"answer": ""}, "answer"),
    ],
)
def test_problems_that_do_not_fit_the_task(changes, field):
    with pytest.raises(NotOfThisTask) as caught:
        TASK.gold_completion(dataclasses.replace(ASKED, **changes))
    assert caught.value.field == field


@pytest.mark.parametrize("number", range(VARIANTS))
def test_a_variant_has_the_same_options_and_the_same_right_one(number):
    shown = TASK.variant(ASKED, number)
    assert sorted(shown.choices) == sorted(DRUGS)
    assert shown.choices["ABCD".index(shown.answer)] == "Vitamin K"
    assert (shown.id, shown.prompt, shown.variant) == (ASKED.id, ASKED.prompt, number)
    assert shown == TASK.variant(ASKED, number)
    assert TASK.verify(shown, TASK.gold_completion(shown)).reward == 1.0


def test_variant_zero_is_the_file_and_the_others_spread_over_the_orders():
    assert TASK.variant(ASKED, 0) is ASKED
    problems = [dataclasses.replace(ASKED, id=f"q{n}") for n in range(50)]
    shown = [TASK.variant(problem, number) for problem, number in itertools.product(problems, range(1, VARIANTS))]
    assert len({problem.choices for problem in shown}) == 24
    for letter in "ABCD":
        assert sum(problem.answer == letter for problem in shown) / len(shown) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize(
    "option",
    [
        "All of the above",
        "none of the above",
        "None of these",
        "Both A and B",
        "A and C",
        "a & b",
        "A, B and C",
        "(A) or (B)",
        "Neither A nor B",
        "Only A",
        "B only",
        "A + C",
        "All of these options",
        "Either of the other answers",
        "A/B",
        "the above",
        "any two of the above",
        "Option B",
        "All except D",
        "both",
        "ALL THE ABOVE",
        "a,b",
        "All of the\u00a0above",
        "All\u2009of the  above.",
        "\\text{None of the above}",
        "**all** of the options",
        "A to C",
        "(a) through (c)",
        "A-C",
        "A \u2013 D",
        "$B$ and $D$",
        "\\(A\\) and \\(B\\)",
        "\uff21 and \uff22",
        "A but not C",
        "C alone",
        "First two",
        "only the last three",
        "the first and the third",
        "the other two",
        "Second option",
        "options 1 and 3",
        "All are correct",
        "None",
        "all three",
    ],
)
def test_options_that_refer_to_others_keep_the_order(option):
    problem = dataclasses.replace(ASKED, choices=(*DRUGS[:3], option))
    assert all(TASK.variant(problem, number) is problem for number in range(1, 5))


@pytest.mark.parametrize(
    "option",
    [
        "Aspirin and atropine",
        "5 mg/day",
        "Both kidneys",
        "a fever",
        "Hepatitis B",
        "pH above 7",
        "Vitamin A",
        "Slower A-V conduction",
        "not a risk factor",
        "First rib",
        "All-trans retinoic acid",
        "Type I and type II",
        "above the knee",
        "three times a day",
    ],
)
def test_ordinary_options_are_reordered(option):
    problem = dataclasses.replace(ASKED, choices=(option, "w", "xx", "yy"), answer="A")
    assert {TASK.variant(problem, number).variant for number in range(1, 5)} == {1, 2, 3, 4}


def test_a_conversation_keeps_its_order():
    problem = dataclasses.replace(ASKED, prompt="", messages=(Message("user", "Which? A) ... D) ..."),))
    assert TASK.variant(problem, 7) is problem
