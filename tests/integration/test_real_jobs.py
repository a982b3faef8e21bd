"""jobs/math and jobs/medical as their users meet them first: a dry run, on generated problems and on their own."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedrlvr.cli import main

ROOT = Path(__file__).parents[2]
QUICK = ["--set", "base_model.steps=60", "--seed", "3"]

pytestmark = pytest.mark.slow


def run_job(job: str, workspace: Path, *arguments: str) -> tuple[Path, dict]:
    """The run's folder and its summary."""
    command = [
        sys.executable,
        str(ROOT / "jobs" / job / "job.py"),
        "--env",
        "local",
        "--workspace",
        str(workspace),
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = workspace.glob("*-tiny-*")
    return folder, json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """dry_run(job): the folder and the summary of its dry run on generated problems, which is made once."""
    return cache(lambda job: run_job(job, tmp_path_factory.mktemp(job), "--tiny", *QUICK))


def steps_of(folder: Path) -> list[dict]:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "step"]


def model_of(folder: Path) -> tuple[AutoModelForCausalLM, Path]:
    path = Path(json.loads((folder / "run.json").read_text())["base_model"])
    return AutoModelForCausalLM.from_pretrained(path), path


@pytest.mark.parametrize(
    ("job", "family", "labels"),
    [
        ("math", "qwen3", {"add", "take", "times", "share"}),
        ("medical", "llama", {"cardiology", "oncology", "pediatrics", "surgery"}),
    ],
)
def test_a_dry_run_goes_from_nothing_to_an_adapter(dry_run, job, family, labels):
    folder, summary = dry_run(job)
    assert summary["finished"]
    assert summary["failures"] == []
    assert set(summary["final"]["test"]) == {"overall", *labels}
    assert summary["verifier"] == {"timeouts": 0}
    steps = steps_of(folder)
    assert len(steps) == 3 * 3 * 2  # sites, segments, a private and a public step each
    assert all(step["optimizer_steps"] > 0 for step in steps)
    base, path = model_of(folder)
    assert base.config.model_type == family
    for name in ("adapter/README.md", "adapter/adapter_config.json", "adapter/fedrlvr.json", "report.html"):
        assert "tiny stand-in for" in (folder / name).read_text(), name
    for name in ("adapter/README.md", "report.html"):
        assert "This was a dry run" in (folder / name).read_text(), name
    assert AutoTokenizer.from_pretrained(path).chat_template
    adapted = PeftModel.from_pretrained(base, folder / "adapter")
    assert any(
        "down_proj.lora_A" in name for name, _ in adapted.named_parameters()
    )  # all linear layers, as in the preset


def test_answers_to_shuffled_options_are_exchanged_and_hold_at_their_receivers(dry_run):
    """Every site draws its own order of options, so a letter that is right at the sender is often another one's at the
    receiver: what is received is right only in the order that it was given for."""
    folder, summary = dry_run("medical")
    public = [step for step in steps_of(folder) if step["kind"] == "public"]
    assert sum(step.get("exchange/received", 0) for step in public) >= 5
    assert sum(step.get("exchange/wrong", 0) for step in public) == 0
    assert sum(step["swap/completions"] for step in public) > 0
    assert summary["bytes"]["responses"]["down"] > 0


def test_a_dry_run_of_ones_own_set_up_uses_ones_own_problems_tokenizer_and_architecture(dry_run, tmp_path):
    _, model = model_of(dry_run("math")[0])
    kinds = ("Algebra", "Geometry", "Precalculus")
    rows = [
        {
            "problem": f"{kind} {i}: what is ${i}+{j}$?",
            "level": "Level 1",
            "type": kind,
            "solution": rf"\boxed{{{i + j}}}",
        }
        for j, kind in enumerate(kinds)
        for i in range(30)
    ]
    for split in ("train", "test"):
        shown = [row | {"problem": f"{split} {row['problem']}"} for row in rows]
        Dataset.from_list(shown).to_parquet(tmp_path / "source" / f"{split}-00000-of-00001.parquet")
    counts = ["--sites", "3", "--partition", "label", "--public", "12", "--test", "24", "--overlap", "1"]
    data = tmp_path / "prepared"
    assert (
        main(["prepare", "--dataset", "math", "--source", str(tmp_path / "source"), *counts, "--out", str(data)]) == 0
    )
    folder, summary = run_job("math", tmp_path / "own", "--tiny", "--data", str(data), "--model", str(model))
    assert summary["finished"]
    assert set(summary["final"]["test"]) == {"overall", *kinds}
    private = (folder / "data" / "site-1.jsonl").read_text().splitlines()
    assert len(private) == 24  # as many as the preset's tiny part says
    assert set(private) <= set((data / "site-1.jsonl").read_text().splitlines())
    small, path = model_of(folder)
    assert small.config.model_type == "qwen3"
    assert small.num_parameters() < 300_000
    assert (path / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
