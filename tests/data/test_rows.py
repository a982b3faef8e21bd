"""Gold answers from solutions, labels from topics."""

import pytest

from fedrlvr.data import rows
from fedrlvr.types import Problem


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so $\boxed{5}$.", "5"),
        (r"$\boxed{1}$, no: $\boxed{\frac{1}{\sqrt{2}}}$", r"\frac{1}{\sqrt{2}}"),
        (r"$\boxed{\{1,2\}}$", r"\{1,2\}"),
        (r"$\boxed{[0,\}}$ ", r"[0,\}"),  # a brace that TeX prints
        (r"$\boxed 7$.", "7"),
        (r"$x = \boxed  7$, of course", "7"),
        (r"$\fbox{9}$", "9"),
        (r"$\boxed {3}$", "3"),
        (r"$\boxed{ 4 }$", "4"),
    ],
)
def test_the_last_box_is_the_answer(solution, answer):
    assert rows.boxed_answers(solution)[-1] == answer


@pytest.mark.parametrize(
    "solution", ["so 5.", "", r"\boxed", r"$\boxed{5$", r"$\mbox{5}$", r"$\boxed{1}$ $\boxed{\{2$"]
)
def test_a_solution_without_a_closed_box_has_no_answer(solution):
    with pytest.raises(rows.RowError, match=r"^column solution: "):
        rows.boxed_answers(solution)


@pytest.mark.parametrize(
    ("topic", "label"),
    [
        ("Mathematics -> Algebra -> Intermediate Algebra -> Complex Numbers", "Algebra"),
        ("Mathematics -> Geometry", "Geometry"),
        ("Mathematics", "Mathematics"),
        ("Logic -> Proofs", "Logic"),
    ],
)
def test_a_topics_first_part_is_the_label(topic, label):
    row = {"question": "q", "final_answer": "1", "topic": topic, "difficulty": 5.5}
    assert rows.deepmath(row)["label"] == label
    assert rows.deepmath(row)["meta"] == {"topic": topic, "difficulty": 5.5}


def test_thousands_commas_are_no_part_of_a_number():
    assert rows.gsm8k({"question": "q", "answer": "20 * 100 = <<20*100=2000>>\n#### 2,000"})["golds"] == ["2000"]
    with pytest.raises(rows.RowError, match="####"):
        rows.gsm8k({"question": "q", "answer": "2000"})


def test_an_id_depends_on_question_and_options_alone():
    one = Problem("x", "p", "A", "l", choices=("a", "b"))
    name = rows.problem_id("medqa", one)
    assert name == rows.problem_id("medqa", Problem("y", "p", "B", "k", choices=("a", "b")))
    assert name.startswith("medqa-")
    assert len(name) == len("medqa-") + 12
    assert len({name, *(rows.problem_id("medqa", Problem("x", "p", "A", choices=c)) for c in ((), ("b", "a")))}) == 3
