"""The job of word problems: what it takes from ASDiv, and a short run with the real model, which `.ci/run` makes:

pip install -c app_configs/constraints.txt -e '.[test]'
python jobs/word_problems/model.py models/SmolLM2-135M-Instruct
FEDRLVR_SMOLLM2=models/SmolLM2-135M-Instruct pytest tests/test_word_problems.py
"""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fedrlvr.cli import main

JOB = Path(__file__).parents[1] / "jobs" / "word_problems"
SMOLLM2 = os.environ.get("FEDRLVR_SMOLLM2")
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
        runpy.run_path(str(JOB / "problems.py"), run_name="__main__")
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


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"body": "Ana has 9 figs."}, "no column question"),
        (ROW | {"answer": 5}, "rows.jsonl, line 1, column answer: expected text, found int"),
        (ROW | {"answer": " "}, "rows.jsonl, line 1, column answer: empty"),
        (ROW | {"body": None}, "rows.jsonl, line 1, column body: empty"),
        (ROW | {"formula": "9-4-1=4"}, "none of 1 problems has one step"),
    ],
)
def test_what_cannot_be_used_is_bad_input(problems, tmp_path, capsys, row, said):
    with pytest.raises(SystemExit) as ended:
        problems(row)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_file_is_replaced(problems, tmp_path, capsys):
    problems(ROW)
    with pytest.raises(SystemExit):
        problems(ROW, ROW)
    assert "exists; choose another file" in capsys.readouterr().err
    assert len((tmp_path / "out" / "problems.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(SMOLLM2 is None, reason="FEDRLVR_SMOLLM2 is not set: see this file's first lines")
def test_the_pretrained_model_solves_some_and_is_trained_on_them(tmp_path):
    prepare = ["prepare", "--dataset", "jsonl", "--source", str(JOB / "ours.jsonl"), "--sites", "2"]
    prepare += ["--partition", "label", "--public", "4", "--test", "4", "--out", str(tmp_path / "data")]
    assert main(prepare) == 0
    small = ["federation.rounds=1", "federation.segments_per_round=1", "grpo.prompts_per_step=4"]
    small += ["exchange.prompts_per_step=4", "evaluation.every_segments=1"]
    job = [sys.executable, JOB / "job.py", "--data", tmp_path / "data", "--model", SMOLLM2, "--workspace", tmp_path]
    job += [word for setting in small for word in ("--set", setting)]
    done = subprocess.run(job, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("word-problems-*")
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == 4
    assert sum(step["reward"] for step in steps) > 0
    received, wrong = (sum(step.get(f"exchange/{name}", 0) for step in steps) for name in ("received", "wrong"))
    assert received > wrong == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert any(site["taught"] > 0 for site in summary["learning"].values())
    assert summary["final"]["unanswered"] < summary["base"]["unanswered"] < 0.9
