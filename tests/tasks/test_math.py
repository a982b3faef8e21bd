"""The mathematics task: which answers equal a gold, which only look like it, and what is never a reward."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.verdicts import verdict

from fedrlvr.config import VerifierSettings
from fedrlvr.tasks import SYNTHETIC, TASKS, task_named
from fedrlvr.tasks.candidate import last_box
from fedrlvr.tasks.latex import normalised
from fedrlvr.tasks.task import GeneratedTask, Incomparable, NotOfThisTask, Verdict
from fedrlvr.tasks.words import is_remark
from fedrlvr.types import Message, Problem

TASK = TASKS["math"]


@pytest.mark.parametrize(
    "gold",
    [
        "\\frac{3}{4}",
        "3\\sqrt{2}",
        "(0,1)",
        "[0,\\infty)",
        "x^2+2x+1",
        "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
        "10\\%",
        "\\$5",
        "90^\\circ",
        "1{,}000",
        "\\text{Evelyn}",
        "11111_2",
        "x=5",
        "5\\text{ cm}",
        "1,2",
        "\\{1,2\\}",
        "1e-7",
        "5/0",
        "\u221a2",
        "4 or 5",
        "$4$",
        "1 2 3",
        "9^9^9^9",
    ],
)
def test_a_gold_is_right_against_itself(gold):
    problem = Problem("x", "?", gold)
    assert TASK.verify(problem, TASK.gold_completion(problem)) == Verdict(1.0, "exact")


@settings(max_examples=300)
@given(st.text("0123456789,./+-*^=(){}[]\\ $xyabcorandtextfracpmsqrt%\u2212\u0664", min_size=1, max_size=30))
def test_any_gold_is_refused_or_right_against_itself(text):
    problem = Problem("x", "?", text)
    if last_box(f"\\boxed{{{text}}}") == text.strip():
        try:
            assert TASK.verify(problem, TASK.gold_completion(problem)).reward == 1.0
        except Incomparable:
            assert is_remark(normalised(text))
    else:
        with pytest.raises(NotOfThisTask, match="braces"):
            TASK.gold_completion(problem)


@given(st.integers(-50, 50), st.integers(1, 12), st.integers(-50, 50), st.integers(1, 12))
def test_fractions_are_right_exactly_when_they_are_equal(p, q, r, s):
    assert verdict(f"{p}/{q}", f"\\frac{{{r}}}{{{s}}}").reward == float(p * s == r * q)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_lists_are_right_in_any_order_but_with_every_part_once(numbers, random):
    shuffled = random.sample(numbers, len(numbers))
    gold = ", ".join(map(str, numbers))
    assert verdict(gold, ",".join(map(str, shuffled))).reward == 1.0
    shuffled[0] += 1
    assert verdict(gold, ",".join(map(str, shuffled))).reward == 0.0
    assert verdict(gold, ",".join(map(str, numbers[1:]))).reward == 0.0


@pytest.mark.parametrize(
    ("gold", "candidate", "reason"),
    [
        ("4", "4", "exact"),
        ("4", "4.0", "equal"),
        ("4", "5", "wrong"),
        ("4", "2+2", "unevaluated"),
        ("1024", "2^{10}", "unevaluated"),
        ("4", "\\sqrt{16}", "unevaluated"),
        ("(4,5)", "(2+2,5)", "unevaluated"),
        ("4,5", "5,2+2", "unevaluated"),
        ("x+1", "1+x", "math-verify"),
        ("(x+1,0.5)", "(1+x,1/2)", "math-verify"),
        ("x^2", "\\int\\ln(\\sin x+x)dx", "timeout"),
        ("4", "4" + "0" * 300, "too long"),
    ],
)
def test_reasons(gold, candidate, reason):
    quick = task_named("math", VerifierSettings(deadline=0.4))
    assert verdict(gold, candidate, quick) == Verdict(float(reason in ("exact", "equal", "math-verify")), reason)


@pytest.mark.parametrize("text", ["2+2", "2^2", "\\sqrt{16}", "\\frac{2^3}{2}", "\\binom{4}{1}", "8\\div2", "2*2"])
def test_expressions_count_where_they_are_allowed(text):
    lenient = task_named("math", VerifierSettings(allow_expressions=True))
    assert verdict("4", text) == Verdict(0.0, "unevaluated")
    assert verdict("4", text, lenient) == Verdict(1.0, "math-verify")
    assert verdict("5", text, lenient) == Verdict(0.0, "wrong")


@pytest.mark.parametrize(
    ("completion", "none", "last_line"),
    [
        ("\\boxed{5} no, \\boxed{4}", "exact", "exact"),
        ("\\boxed{4} no, \\boxed{5}", "wrong", "wrong"),
        ("\\boxed{5}\nAnswer: 4", "wrong", "wrong"),  # a declared answer is only a fallback
        ("2+2\n#### 4", "no box", "exact"),
        ("The answer is $4$.", "no box", "equal"),
        ("The answer is 5", "no box", "wrong"),
        ("4", "no box", "no box"),
        ("", "no box", "no box"),
        ("<think>\\boxed{5}</think>\\boxed{4}", "exact", "exact"),
        ("<think>\\boxed{4}</think>I cannot tell.", "no box", "no box"),
        ("\\boxed{4", "no box", "no box"),
        ("\\boxed{}", "wrong", "wrong"),
    ],
)
def test_where_the_answer_is_looked_for(completion, none, last_line):
    problem = Problem("x", "?", "4")
    assert TASK.verify(problem, completion).reason.replace("equal", "exact") == none
    task = task_named("math", VerifierSettings(fallback="last_line"))
    assert task.verify(problem, completion).reason.replace("equal", "exact") == last_line.replace("equal", "exact")


def test_the_prompt_is_the_question_and_what_to_do_or_the_conversation():
    assert TASK.prompt(Problem("x", "What is 2+2?", "4")) == f"What is 2+2?\n\n{TASK.instruction}"
    assert TASK.instruction == "Please reason step by step, and put your final answer within \\boxed{}."
    turns = (Message("system", "Be brief."), Message("user", "What is 2+2?"))
    assert TASK.prompt(Problem("x", "", "4", messages=turns)) == turns


@pytest.mark.parametrize(
    ("problem", "field"),
    [
        (Problem("x", "?", "\\frac{1}{2"), "answer"),
        (Problem("x", "?", "1}{2"), "answer"),
        (Problem("x", "?", "4}"), "answer"),
        (Problem("x", "?", "\\boxed{4}"), "answer"),
        (Problem("x", "?", "1" * 301), "answer"),
        (Problem("x", "?", "A", choices=("1", "2")), "choices"),
        (Problem("x", "?", "see figure"), "answer"),
        (Problem("x", "?", "\\text{Proof.}"), "answer"),
        (Problem("x", "?", "N/A"), "answer"),
        (Problem("x", "?", "..."), "answer"),
    ],
)
def test_problems_that_do_not_fit_the_task(problem, field):
    with pytest.raises(NotOfThisTask) as caught:
        TASK.gold_completion(problem)
    assert caught.value.field == field
    assert problem.answer not in str(caught.value) or len(problem.answer) == 1


def test_settings_make_another_task_of_the_same_kind():
    strict = VerifierSettings(max_answer_length=3)
    for name in ("math", "arithmetic"):
        task = task_named(name, strict)
        assert type(task) is type(TASKS[name])
        assert verdict("4", "4.00", task).reason == "too long"
        assert verdict("4", "4.00", TASKS[name]).reward == 1.0


def test_dry_runs_use_a_generated_task_that_fits():
    for name, synthetic in SYNTHETIC.items():
        generated = TASKS[synthetic]
        assert isinstance(generated, GeneratedTask)
        assert type(generated).__mro__[1] is type(TASKS[name])
