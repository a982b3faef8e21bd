"""`fedrlvr score`: rewards added to lines, everything else untouched, errors that say where."""

import json
from pathlib import Path

import pytest

from fedrlvr.cli import main
from fedrlvr.tasks import math_verify_client

MATH = [
    {"answer": "1/2", "completion": "so \\boxed{0.5}", "id": "a", "meta": {"deep": [1, None]}},
    {"answer": "4", "completion": "\\boxed{2+2}"},
    {"answer": "4", "completion": "The answer is 4"},
    {"answer": "x+1", "completion": "\\boxed{1+x}", "text": "Gr\u00f6\u00dfe \u2028"},
]


def lines_file(folder: Path, *lines: object) -> Path:
    path = folder / "in.jsonl"
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def score(path: Path, *options: str, task: str = "math") -> int:
    return main(["score", "--task", task, "--input", str(path), *options])


def results(text: str) -> list[tuple[float, str]]:
    records = [json.loads(line) for line in text.splitlines()]
    return [(record["reward"], record["reason"]) for record in records]


def test_lines_come_out_in_order_with_reward_and_reason_added(tmp_path, capsys):
    assert score(lines_file(tmp_path, *MATH)) == 0
    out, err = capsys.readouterr()
    added = [(1.0, "equal"), (0.0, "unevaluated"), (0.0, "no box"), (1.0, "math-verify")]
    assert [json.loads(line) for line in out.split("\n")[:-1]] == [
        record | {"reward": reward, "reason": reason} for record, (reward, reason) in zip(MATH, added, strict=True)
    ]
    assert err == "4 completions, mean reward 0.5000: equal 1, unevaluated 1, no box 1, math-verify 1\n"


def test_the_options_reach_the_verifier(tmp_path, capsys):
    assert score(lines_file(tmp_path, *MATH[:3]), "--fallback", "last_line", "--allow-expressions") == 0
    assert results(capsys.readouterr().out) == [(1.0, "equal"), (1.0, "math-verify"), (1.0, "exact")]


def test_an_output_file_gets_the_lines(tmp_path, capsys):
    target = tmp_path / "out.jsonl"
    assert score(lines_file(tmp_path, MATH[0], b"", b"  ", MATH[1]), "--output", str(target)) == 0
    assert results(target.read_text()) == [(1.0, "equal"), (0.0, "unevaluated")]
    assert capsys.readouterr().out == ""


def test_choices_are_scored_by_letter(tmp_path, capsys):
    line = {"answer": "B", "choices": ["yes", "no"]}
    texts = ["\\boxed{B}", "\\boxed{no}", "\\boxed{A}", "\\boxed{B} \\boxed{B}"]
    assert score(lines_file(tmp_path, *(line | {"completion": text} for text in texts)), task="choice") == 0
    assert results(capsys.readouterr().out) == [(1.0, "exact"), (1.0, "equal"), (0.0, "wrong"), (0.0, "several boxes")]


def test_other_tasks_have_answers_too(tmp_path, capsys):
    assert score(lines_file(tmp_path, {"answer": "07", "completion": "#07"}), task="protocol") == 0
    assert results(capsys.readouterr().out) == [(1.0, "exact")]


def test_an_answer_that_nothing_can_be_compared_with_pays_nothing(tmp_path, capsys):
    lines = [{"answer": gold, "completion": f"\\boxed{{{gold}}}"} for gold in ("see figure", "N/A", "even")]
    assert score(lines_file(tmp_path, *lines)) == 0
    out, err = capsys.readouterr()
    assert results(out) == [(0.0, "no gold"), (0.0, "no gold"), (1.0, "exact")]
    assert "no gold 2" in err


def test_an_empty_file_has_no_mean(tmp_path, capsys):
    assert score(lines_file(tmp_path)) == 0
    assert capsys.readouterr() == ("", "0 completions\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2: not valid JSON"),
        (b"[1]", "line 2: expected a JSON object, found list"),
        (b"\xff", "line 2: cannot be read as UTF-8 (byte 1 is 0xff)"),
        (b"[" * 100_000, "line 2: JSON that cannot be read"),
        (b'{"completion": "x", "answer": ' + b"9" * 5000 + b"}", "line 2: JSON that cannot be read"),
        ({"completion": "x"}, "line 2, field answer: missing"),
        ({"answer": "4"}, "line 2, field completion: missing"),
        ({"answer": 4, "completion": "x"}, "line 2, field answer: expected text, found int"),
        ({"answer": " ", "completion": "x"}, "line 2, field answer: empty"),
        ({"answer": "4", "completion": None}, "line 2, field completion: expected text, found NoneType"),
        ({"answer": "\ud800", "completion": "x"}, "line 2, field answer: holds half a surrogate pair"),
        ({"answer": "\\frac{1", "completion": "x"}, "line 2, field answer: not for the task math: braces"),
        ({"answer": "A", "choices": "AB", "completion": "x"}, "line 2, field choices: expected a list"),
        ({"answer": "A", "choices": ["a", "b"], "completion": "x"}, "line 2, field choices: not for the task math"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_line_is_named_and_the_lines_before_it_are_written(tmp_path, capsys, line, message):
    path, target = lines_file(tmp_path, MATH[0], line, MATH[1]), tmp_path / "out.jsonl"
    assert score(path, "--output", str(target)) == 2
    assert f"error: {path}, {message}" in capsys.readouterr().err
    assert results(target.read_text()) == [(1.0, "equal")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"answer": "A", "completion": "x"}, "line 1, field choices: not for the task choice"),
        ({"answer": "C", "choices": ["a", "b"], "completion": "x"}, "line 1, field answer: not for the task choice"),
        ({"answer": "A", "choices": ["a", 1], "completion": "x"}, "line 1, field choices, option 2: expected text"),
    ],
)
def test_a_bad_choice_is_named(tmp_path, capsys, line, message):
    assert score(lines_file(tmp_path, line), task="choice") == 2
    assert message in capsys.readouterr().err


def test_half_a_surrogate_pair_in_completion_or_elsewhere_is_only_text(tmp_path, capsys):
    line = b'{"answer": "4", "completion": "\\ud800 \\\\boxed{4}", "note": "\\udfff"}'
    assert score(lines_file(tmp_path, line)) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["reward"], record["note"]) == (1.0, "\udfff")


def test_an_unknown_task_and_a_missing_file_are_named(tmp_path, capsys):
    path = lines_file(tmp_path, MATH[0])
    assert score(path, task="maths") == 2
    assert "no task is called 'maths'" in capsys.readouterr().err
    assert score(tmp_path / "none.jsonl") == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_an_earlier_output_is_kept_where_the_input_is_no_file(tmp_path, capsys):
    kept = tmp_path / "out.jsonl"
    kept.write_text("kept")
    assert main(["score", "--task", "math", "--input", str(tmp_path), "--output", str(kept)]) == 2
    assert capsys.readouterr().err == f"error: --input: no such file: {tmp_path}\n"
    assert kept.read_text() == "kept"


def test_the_input_is_never_overwritten(tmp_path, capsys):
    path = lines_file(tmp_path, *MATH)
    before = path.read_bytes()
    assert score(path, "--output", str(path)) == 2
    assert "would be lost" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_broken_math_verify_is_no_reward(tmp_path, capsys, monkeypatch):
    def broken(*limits):
        raise math_verify_client.VerifierFault("math-verify does not work here")

    monkeypatch.setattr(math_verify_client.MathVerifyClient, "compare", broken)
    target = tmp_path / "out.jsonl"
    assert score(lines_file(tmp_path, MATH[0], MATH[3]), "--output", str(target)) == 1
    assert "error: math-verify does not work here" in capsys.readouterr().err
    assert results(target.read_text()) == [(1.0, "equal")]
