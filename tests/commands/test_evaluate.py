"""`fedrlvr evaluate` as it is called: its scores follow from the results, and it continues after any interruption."""

import json
import shutil
import signal
import subprocess
import sys
import time
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fedrlvr.cli import main
from fedrlvr.commands.evaluate_model import _verdict
from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.data.problems import read_problems, write_problems
from fedrlvr.learning.model import load_policy
from fedrlvr.site.private_texts import texts_in
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tasks.protocol import Protocol

TASK = TASKS["protocol"]
SAMPLES = 4
ARITHMETIC = Path(__file__).parents[2] / "app_configs" / "arithmetic.yaml"
GOLDS = 12  # every problem's gold is verified when the file is read


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> Path:
    """Twelve of them, three of each label."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("problems") / "test.jsonl"
    write_problems(path, [TASK.problem(label, random) for _ in range(3) for label in TASK.labels])
    return path


@pytest.fixture
def command(model_path, problems, tmp_path):
    """command(flag, value, ...) -> the arguments, with later flags over earlier ones"""

    def arguments(*flags) -> list[str]:
        given = {"--model": model_path, "--problems": problems, "--task": "protocol", "--samples": SAMPLES}
        given |= {"--k": "1,4", "--max-completion-length": 20, "--batch-size": 2 * SAMPLES, "--out": tmp_path / "out"}
        given |= dict(zip(flags[::2], flags[1::2], strict=True))
        return ["evaluate", *(str(part) for pair in given.items() if pair[1] is not None for part in pair)]

    return arguments


@pytest.fixture
def adapter(model_path, tmp_path) -> Path:
    """An adapter that changes the answers."""
    settings = LocalModel(model_path=model_path)
    policy = load_policy(settings, LoraSettings(), PromptSettings(), torch.device("cpu"))
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    policy.model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def result(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def lines(folder: Path) -> list[dict]:
    """The results, without the line that says what was measured."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()[1:]]


def refusal(capsys, arguments: list[str], out: Path) -> str:
    """The one line of an error with code 2; nothing is measured or written."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert not out.exists()
    return line


def test_the_scores_follow_from_the_results(command, tmp_path, problems, capsys):
    assert main(command()) == 0
    found, results = result(tmp_path / "out"), lines(tmp_path / "out")
    wanted = [json.loads(line) for line in problems.read_text().splitlines()]
    assert [(result["id"], result["label"]) for result in results] == [(p["id"], p["label"]) for p in wanted]
    assert list(found["scores"]) == ["overall", "A", "B", "C", "D"]
    for label, scores in found["scores"].items():
        counts = [result["correct"] for result in results if label in ("overall", result["label"])]
        assert scores["problems"] == len(counts) == (12 if label == "overall" else 3)
        assert scores["reward"] == pytest.approx(sum(counts) / (SAMPLES * len(counts)))
        for k in (1, 4):
            expected = np.mean([1 - comb(SAMPLES - c, k) / comb(SAMPLES, k) for c in counts])
            assert scores[f"pass@{k}"]["mean"] == pytest.approx(expected)
    assert 0 < found["scores"]["overall"]["reward"] < 1
    said = capsys.readouterr().out
    assert f"{found['scores']['overall']['pass@4']['mean']:.3f}" in said
    assert str(tmp_path / "out" / "evaluation.json") in said
    assert (found["task"], found["samples"], found["temperature"], found["adapter"]) == ("protocol", 4, 1.0, None)


def test_completions_are_kept_for_a_policys_public_texts(command, tmp_path, problems):
    kept = tmp_path / "out" / "completions.jsonl"
    assert main(command()) == 0
    written = [json.loads(line) for line in kept.read_text().splitlines()]
    ids = [json.loads(line)["id"] for line in problems.read_text().splitlines()]
    assert [line["problem_id"] for line in written] == [identity for identity in ids for _ in range(SAMPLES)]
    assert [problem.prompt for problem in texts_in(kept)] == [line["text"] for line in written]
    rights = {problem["id"]: 0 for problem in lines(tmp_path / "out")}
    golds = {problem.id: problem for problem in read_problems(problems, TASK)}
    for line in written:
        reward, reason = TASK.verify(golds[line["problem_id"]], line["text"])
        assert (line["reward"], line["reason"]) == (reward, reason)
        rights[line["problem_id"]] += TASK.verify(golds[line["problem_id"]], line["text"]).reward == 1.0
    assert rights == {result["id"]: result["correct"] for result in lines(tmp_path / "out")}


def test_a_second_call_measures_nothing_again(command, tmp_path, monkeypatch, capsys):
    assert main(command()) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(
        "fedrlvr.commands.evaluate_model.load_trained", lambda *_: pytest.fail("the model was loaded again")
    )
    assert main(command()) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_greedy_and_top_p_are_ways_to_measure_and_the_table_says_which(command, tmp_path, capsys):
    greedy = ("--temperature", 0, "--samples", 1, "--k", 1)
    assert main(command(*greedy)) == 0
    assert ", protocol, greedy" in capsys.readouterr().out
    assert main(command(*greedy, "--out", tmp_path / "again", "--seed", 5)) == 0
    names = ("out", "again")
    first, again = ((tmp_path / name / "completions.jsonl").read_bytes() for name in names)
    assert first == again  # whatever the seed
    assert main(command("--top-p", 0.5, "--temperature", 0.9, "--out", tmp_path / "nucleus")) == 0
    assert ", protocol, temperature 0.9, top-p 0.5, samples 4" in " ".join(capsys.readouterr().out.split())
    assert (result(tmp_path / "nucleus")["top_p"], result(tmp_path / "out")["temperature"]) == (0.5, 0)
    assert main(command("--top-p", 0.6, "--temperature", 0.9, "--out", tmp_path / "nucleus")) == 2
    assert "holds a measurement with another top_p" in capsys.readouterr().err


def test_other_ks_of_the_same_samples_need_no_new_measurement(command, tmp_path, monkeypatch, capsys):
    assert main(command()) == 0
    monkeypatch.setattr(
        "fedrlvr.commands.evaluate_model.load_trained", lambda *_: pytest.fail("the model was loaded again")
    )
    assert main(command("--k", "2")) == 0
    assert "pass@2" in result(tmp_path / "out")["scores"]["overall"]


def test_interrupted_in_the_middle_it_says_so_and_the_same_command_ends_as_if_uninterrupted(
    command, tmp_path, monkeypatch, capsys
):
    verify, calls = Protocol.verify, []

    def interrupted(task, problem, completion):
        calls.append(problem.id)
        if len(calls) == GOLDS + 9 * SAMPLES + 2:
            raise KeyboardInterrupt
        return verify(task, problem, completion)

    monkeypatch.setattr(Protocol, "verify", interrupted)
    assert main(command()) == 130
    assert capsys.readouterr().err.endswith("error: interrupted\n")
    assert len(lines(tmp_path / "out")) == 8  # written are four times what is sampled at once; the rest is lost
    assert not (tmp_path / "out" / "evaluation.json").exists()
    calls.clear()
    calls.extend([""] * 1000)
    assert main(command()) == 0
    assert len(calls) - 1000 == GOLDS + (12 - 8) * SAMPLES
    assert main(command("--out", tmp_path / "whole")) == 0
    for name in ("evaluation.json", "results.jsonl", "completions.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_as_if_uninterrupted(command, tmp_path):
    random = np.random.default_rng(1)
    drawn = {problem.id: problem for problem in (TASK.problem(label, random) for label in TASK.labels * 10)}
    write_problems(tmp_path / "many.jsonl", list(drawn.values()))
    flags = ("--problems", tmp_path / "many.jsonl", "--batch-size", 1)
    shell = [sys.executable, "-m", "fedrlvr.cli", *command(*flags)]
    results = tmp_path / "out" / "results.jsonl"
    with subprocess.Popen(shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (results.exists() and results.read_text().count("\n") > 5):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 5 <= len(lines(tmp_path / "out")) < len(drawn)
    subprocess.run(shell, check=True, capture_output=True, timeout=240)
    assert main(command(*flags, "--out", tmp_path / "whole")) == 0
    for name in ("evaluation.json", "results.jsonl", "completions.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_adapter_is_measured_on_top_and_not_into_the_same_folder(command, adapter, tmp_path, capsys):
    assert main(command()) == 0
    assert main(command("--adapter", adapter)) == 2
    assert "holds a measurement with another adapter; choose another folder" in capsys.readouterr().err
    assert main(command("--adapter", adapter, "--out", tmp_path / "adapted", "--batch-size", None)) == 0
    assert result(tmp_path / "adapted")["adapter"] is not None
    assert lines(tmp_path / "adapted") != lines(tmp_path / "out")


def test_an_adapter_of_another_base_model_is_measured_with_a_warning(command, adapter, model_path, capsys):
    (adapter / "fedrlvr.json").write_text('{"base_model": "Org/Model", "fingerprint": "0123456789abcdef"}')
    assert main(command("--adapter", adapter)) == 0
    said = " ".join(capsys.readouterr().err.split())
    whose = "Org/Model with fingerprint 0123456789abcdef"
    assert f"warning: {adapter} was trained on {whose}, but {model_path} has" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--k", "1,5"), "--k 1,5: pass@k needs 1 <= k <= --samples, which is 4"),
        (("--k", "0"), "pass@k needs 1 <= k"),
        (("--k", "many"), "--k many: expected whole numbers separated by commas"),
        (("--k", ""), "expected whole numbers separated by commas"),
        (("--samples", 0), "--samples, which is 0"),
        (("--temperature", "-1"), "temperature: Input should be greater than or equal to 0"),
        (("--temperature", "0"), "--temperature 0: every completion of a problem would be the same"),
        *((("--top-p", value), "top_p: Input should be") for value in (0, 1.1, "nan")),
        *((("--temperature", value), "temperature: Input should be a finite number") for value in ("nan", "inf")),
        *((("--max-completion-length", n), "max_completion_length: Input should be greater than") for n in (0, -5)),
        (("--batch-size", 0), "--batch-size 0: expected 1 or more"),
        (("--show", -1), "--show -1: expected 0 or more"),
        (("--set", "grpo.temperature=0.5"), "--set, --tiny: these change a preset's settings; name it with --config"),
        (("--task", "no_such_task"), "no task is called 'no_such_task'; known: arithmetic"),
        (("--task", None), "does not say which task its problems are for; give --task"),
        (("--problems", "/nonexistent/test.jsonl"), "/nonexistent/test.jsonl"),
        (("--model", "/nonexistent"), "--model: no config.json in /nonexistent"),
        (
            ("--adapter", "/nonexistent"),
            "/nonexistent: no adapter_model.safetensors; expected a PEFT adapter directory",
        ),
        (("--config", "/nonexistent.yaml"), "--config /nonexistent.yaml: no such file, and no preset"),
        (
            ("--config", ARITHMETIC),
            "is for the task arithmetic, and the problems are for protocol",
        ),
        (
            ("--max-completion-length", 507),
            "prompts are too long; the shortest has 6 tokens, and 5 are allowed by grpo.max_prompt_length",
        ),
    ],
)
def test_flags_that_cannot_be_used_end_with_one_line_and_nothing_written(command, tmp_path, capsys, flags, said):
    assert said in refusal(capsys, command(*flags), tmp_path / "out")


def test_an_adapter_directory_with_pickle_weights_only_is_refused(command, adapter, tmp_path, capsys):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "no adapter_model.safetensors" in refusal(capsys, command("--adapter", adapter), tmp_path / "out")


def test_a_file_is_no_folder_for_results(command, problems, capsys):
    before = problems.read_bytes()
    assert main(command("--out", problems)) == 2
    assert f"--out {problems}: is a file; choose a folder" in capsys.readouterr().err
    assert problems.read_bytes() == before


def test_problems_say_their_task_themselves_and_a_preset_the_rest(command, problems, tmp_path, capsys):
    own = tmp_path / "own.jsonl"
    records = [json.loads(line) | {"task": "protocol"} for line in problems.read_text().splitlines()]
    own.write_text("".join(json.dumps(record) + "\n" for record in records))
    preset = tmp_path / "preset.yaml"
    preset.write_text("{task: protocol, model: tiny, grpo: {temperature: 0.5, max_completion_length: 17}}")
    flags = ("--task", None, "--problems", own, "--config", preset)
    assert main(command(*flags, "--max-completion-length", None)) == 0
    found = result(tmp_path / "out")
    assert (found["task"], found["temperature"], found["max_completion_length"]) == ("protocol", 0.5, 17)
    assert main(command(*flags, "--temperature", 0.7, "--out", tmp_path / "warmer")) == 0
    found = result(tmp_path / "warmer")
    assert (found["temperature"], found["max_completion_length"]) == (0.7, 20)
    assert main(command("--task", None, "--config", preset, "--out", tmp_path / "by preset")) == 0  # they do not say it
    assert result(tmp_path / "by preset")["task"] == "protocol"


def test_a_model_that_answers_with_no_numbers_is_an_error_and_not_a_score(command, model_path, tmp_path, capsys):
    broken = shutil.copytree(model_path, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    assert main(command("--model", broken)) == 2
    said = capsys.readouterr().err
    assert f"{broken}: the log-probability of sampled tokens is nan" in " ".join(said.split())
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_presets_tiny_part_and_changed_settings_hold_as_in_training(command, tmp_path):
    preset = tmp_path / "preset.yaml"
    small = "grpo: {temperature: 0.5, max_completion_length: 11}"
    preset.write_text(f"{{task: protocol, model: tiny, grpo: {{temperature: 0.8}}, tiny: {{{small}}}}}")
    flags = ("--config", preset, "--max-completion-length", None, "--set", "grpo.temperature=0.6")
    assert main([*command(*flags), "--tiny"]) == 0
    found = result(tmp_path / "out")
    assert (found["temperature"], found["max_completion_length"]) == (0.6, 11)


def test_completions_are_shown_on_demand_one_of_each_problem_first(command, problems, tmp_path, capsys):
    """Also those of an earlier call; what a model writes cannot steer the terminal."""
    assert main(command()) == 0
    assert "problem:" not in capsys.readouterr().out
    kept = tmp_path / "out" / "completions.jsonl"
    written = [json.loads(line) for line in kept.read_text().splitlines()]
    written[0]["text"] = "\x1b[2J[bold]first"
    kept.write_text("".join(json.dumps(line) + "\n" for line in written))
    assert main(command("--show", 13)) == 0
    said = capsys.readouterr().out
    first = json.loads(problems.read_text().splitlines()[0])
    assert said.count("problem:    ") == said.count("completion: ") == 13
    assert said.count(f"problem:    {first['prompt']}\nanswer:     {first['answer']}\n") == 2
    assert "completion:  [2J[bold]first\n" in said
    assert f"{first['id']}: {_verdict(written[0])} " in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"reward": 1.0, "reason": "right", "truncated": False}, "right"),
        ({"reward": 1.0, "reason": "exact", "truncated": True}, "right (exact, cut off)"),
        ({"reward": 0.5, "reason": "half right", "truncated": False}, "reward 0.5 (half right)"),
        ({"reward": 0.0, "reason": "wrong", "truncated": True}, "wrong (cut off)"),
    ],
)
def test_a_verdict_says_nothing_twice(made, said):
    assert _verdict(made) == said
