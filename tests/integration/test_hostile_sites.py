"""Other sites are untrusted: in a real FLARE run one of three misbehaves in every exchange and round, each time in
another way. All of it is refused, counted and shown, and the others end where they end without that site."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import simulation_of

from fedrlvr.flare.lead.simulator import Simulation
from fedrlvr.report.incidents import incident_lines
from fedrlvr.report.summary import summarise

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROUNDS = 8
# The task, its round (a proposal's segment), the trick, and what the server says to it.
TRICKS = [
    ("validate", 0, "other_shapes", " at most sites, [1, 1] at this one"),
    ("propose", 0, "ten_thousand", "10000 responses, at most 32 are allowed"),
    ("propose", 1, "giant_text", "a response of 20000000 characters, at most 100000 are allowed"),
    ("submit", 0, "nan", "holds values that are not finite"),
    ("propose", 2, "unknown_prompt", "a response to problem 'protocol-Z0000', which was not asked"),
    ("propose", 3, "no_mapping", "the answer to propose holds list, expected a mapping"),
    ("submit", 1, "huge", "L2 norm 3e+38 is beyond what a model computes with"),
    ("propose", 4, "stale", "round differs: the message says 1, this side has 2"),
    ("submit", 2, "wrong_shape", "expected ["),
    ("submit", 3, "stale", "round differs: the message says 2, this side has 3"),
    ("submit", 4, "giant", "has shape [4096, 4096], expected ["),
    ("train", 5, "infinite_reward", "step metric 'reward' is not a finite number"),
    ("train", 6, "journals_word", "step metric 'round' has a name that the server's event log uses itself"),
    ("validate", 7, "better_than_all", "'pass@1' is not a pass@k between 0 and 1"),
]


def run(simulation: Simulation, plan: dict) -> list[dict]:
    policy = simulation.flare / "local" / "resources.json"
    allowed = json.loads(policy.read_text())
    allowed["class_allow_list"].append("hostile.")
    policy.write_text(json.dumps(allowed))
    done = subprocess.run(
        [sys.executable, str(HERE / "hostile_run.py"), str(simulation.folder), "site-3", json.dumps(plan)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [json.loads(line) for line in (simulation.server_folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def runs(site_files, small_job, tmp_path):
    """(simulation, its event log) with the hostile site, and without it."""
    job = small_job(
        federation__rounds=ROUNDS,
        federation__segments_per_round=2,
        federation__min_sites=2,
        grpo__num_generations=8,
        grpo__prompts_per_step=2,
        exchange__prompts_per_step=8,
    )
    manifest, sites = site_files({f"site-{i}": (label,) for i, label in enumerate("ABC", start=1)})
    found = []
    for folder, names in (("with", sites), ("without", ["site-1", "site-2"])):
        simulation = simulation_of(tmp_path / folder, job, manifest, {name: sites[name] for name in names})
        plan = {f"{task}/{number}": trick for task, number, trick, _ in TRICKS}
        found.append((simulation, run(simulation, plan | {"swap/0": "eternity"})))
    return found


def adapters(simulation: Simulation) -> list[bytes]:
    folders = sorted((simulation.server_folder / "rounds").iterdir(), key=lambda path: int(path.name))
    return [(folder / "adapter_model.safetensors").read_bytes() for folder in folders]


def of(events: list[dict], kind: str) -> list[dict]:
    return [event for event in events if event["event"] == kind]


def test_every_trick_is_refused_counted_and_shown_and_the_honest_end_as_without_it(runs):
    (hostile, events), (alone, calm) = runs
    assert len(adapters(alone)) == ROUNDS
    assert adapters(hostile) == adapters(alone)
    assert events[-1]["event"] == calm[-1]["event"] == "end"
    assert not of(calm, "failure")
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]] * ROUNDS

    failures = [(e["site"], e["task"], e["reason"]) for e in of(events, "failure")]
    assert len(failures) == len(TRICKS)
    for (task, _, _, reason), found in zip(TRICKS, failures, strict=True):
        assert found[:2] == ("site-3", task)
        assert reason in found[2]

    # The lies passed the server, which has no verifier; every receiver dropped them, and only them.
    public = [e for e in of(events, "step") if e["kind"] == "public" and e["site"] != "site-3"]
    lied = {e["segment"] for e in of(events, "exchange") if e["bytes_up"].get("site-3")}
    assert lied == {5, 6, 7, 8, 9, 14, 15}  # all that no other trick spoiled
    assert all((e["exchange/wrong"] > 0) == (e["segment"] in lied) for e in public)
    assert sum(e["swap/completions"] for e in public) > 0  # the honest do learn from each other

    summary = summarise(events, 1.0)
    assert summary["swap"]["rejected_answers"] == sum(e["exchange/wrong"] for e in of(events, "step")
                                                      if e["kind"] == "public")  # fmt: skip
    shown = incident_lines(summary)
    assert sum(line.startswith("failed: site-3 in ") for line in shown) > 2
    assert any(line.startswith("rejected: ") for line in shown)
    assert events[-1]["site_seconds"]["site-3"] < float("inf")
