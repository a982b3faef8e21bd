"""The one-step problems that `jobs/word_problems/problems.py` takes from ASDiv."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "jobs" / "word_problems" / "problems.py"
ROW = {
    "body": "Ana has 9 figs. ",
    "question": "She eats 4. How many are left?",
    "formula": "9-4=5",
    "answer": "5 (figs)",
}


@pytest.fixture
def problems(tmp_path, monkeypatch):
    """Run the script on rows of ASDiv; returns what it wrote."""

    def run(*rows: dict) -> list[dict]:
        source, out = tmp_path / "rows.jsonl", tmp_path / "out" / "problems.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr(sys, "argv", ["problems.py", str(out), "--source", str(source)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return [json.loads(line) for line in out.read_text().splitlines()]

    return run


def test_a_step_is_labelled_with_its_operation_and_keeps_its_place(problems):
    hours = {"body": "A trip takes 8 hours.", "question": "How many minutes are 60 times as many?"}
    with_units = hours | {"formula": "8 (hour)*60 (min/hour)=480 (min)", "answer": "480 (min)"}
    assert problems(ROW, with_units) == [
        {
            "id": "asdiv-0",
            "prompt": "Ana has 9 figs. She eats 4. How many are left?",
            "answer": "5",
            "task": "math",
            "label": "subtraction",
        },
        {
            "id": "asdiv-1",
            "prompt": "A trip takes 8 hours. How many minutes are 60 times as many?",
            "answer": "480",
            "task": "math",
            "label": "multiplication",
        },
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"formula": "9-4-1=4"},
        {"formula": "9-4=5", "question": "She eats four. How many are left?"},
        {"body": "Ana, who is 7, has 9 figs."},
        {"answer": "6 (figs)"},
    ],
    ids=["two steps", "a number in words", "a number too many", "another answer"],
)
def test_other_problems_are_left_out(problems, change):
    assert [problem["id"] for problem in problems(ROW | change, ROW)] == ["asdiv-1"]


def test_a_file_without_the_columns_is_bad_input(problems, capsys):
    with pytest.raises(SystemExit) as ended:
        problems({"body": "Ana has 9 figs."})
    assert ended.value.code == 2
    assert "no column question" in capsys.readouterr().err
