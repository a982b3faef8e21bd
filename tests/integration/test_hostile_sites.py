"""Other sites are untrusted: one real FLARE run in which three of four sites misbehave in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedrlvr.data.problems import read_problems
from fedrlvr.federation.simulator import Simulation
from fedrlvr.report.summary import summarise
from fedrlvr.tasks import TASKS

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PLAN = {
    "site-2/0/submit": "nan",
    "site-2/1/submit": "missing",
    "site-3/0/propose": "unknown_prompt",
    "site-3/1/submit": "extra",
    "site-4/0/propose": "lie",
    "site-4/1/report": "infinite_reward",
}


@pytest.fixture
def events(site_files, small_job, tmp_path):
    job = small_job(
        federation__rounds=2,
        grpo__num_generations=8,
        grpo__prompts_per_step=2,
        federation__segments_per_round=1,
        exchange__prompts_per_step=8,
    )
    manifest, sites = site_files({f"site-{i}": (label,) for i, label in enumerate("ABCD", start=1)})
    public = read_problems(sites["site-1"].public_problems, TASKS["protocol"])
    simulation = Simulation(tmp_path / "run", job, [p.id for p in public], manifest, sites)
    policy = simulation.flare / "local" / "resources.json"
    allowed = json.loads(policy.read_text())
    allowed["class_allow_list"].append("hostile.")
    policy.write_text(json.dumps(allowed))
    done = subprocess.run(
        [sys.executable, str(HERE / "hostile_run.py"), str(simulation.folder), json.dumps(PLAN)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [json.loads(line) for line in (simulation.server_folder / "metrics.jsonl").read_text().splitlines()]


def test_every_trick_is_refused_and_counted_and_the_honest_go_on(events):
    failures = [(e["site"], e["task"], e["reason"]) for e in events if e["event"] == "failure"]
    expected = [
        ("site-3", "propose", "a response to problem 'protocol-Z0000', which was not asked"),
        ("site-2", "submit", "holds values that are not finite"),
        ("site-4", "train", "step metric 'reward' is not a finite number"),
        ("site-2", "submit", "is missing (1 in all)"),
        ("site-3", "submit", "tensor backdoor.lora_A.weight is not part of the adapter"),
    ]
    assert len(failures) == len(expected)
    for (site, task, reason), found in zip(expected, failures, strict=True):
        assert found[:2] == (site, task)
        assert reason in found[2]
    averaged = [e["sites"] for e in events if e["event"] == "average"]
    assert averaged == [["site-1", "site-3", "site-4"], ["site-1"]]
    assert events[-1]["event"] == "end"
    # The lies of site-4 passed the server, which has no verifier; every receiver dropped them, and only them.
    first = [e for e in events if e["event"] == "step" and e["kind"] == "public" and e["segment"] == 0]
    offered = next(e for e in events if e["event"] == "exchange")
    lies = sum(e["exchange/wrong"] for e in first if e["site"] != "site-4")
    assert offered["bytes_up"]["site-4"] > 0
    assert lies > 0
    assert all(e["exchange/wrong"] == 0 for e in first if e["site"] == "site-4")
    assert summarise(events, 1.0)["swap"]["rejected_answers"] >= lies
