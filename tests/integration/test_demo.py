"""The demo's command, for real and small, in one process. FLARE's simulator, with a worker process at each of two
sites, ends in the same bytes."""

import json
import math
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.reached import reached
from tests.runs import adapter_of, shipped_policy
from transformers import AutoModelForCausalLM

from fedrlvr.report.summary import merged_test

pytestmark = pytest.mark.slow
ASKED = ("asked", "answered")


def folder_of(out: str) -> Path:
    return Path(next(line.split()[-1] for line in out.splitlines() if line.startswith("summary.json"))).parent


@pytest.fixture(scope="module")
def clinical(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("policy") / "clinical.yaml"
    path.write_text(yaml.safe_dump(shipped_policy("clinical")))
    return str(path)


@pytest.fixture(scope="module")
def pubswap(run_demo, clinical) -> Path:
    """The folder of one finished run that several tests look at."""
    code, out, err = run_demo("--env", "local", "--seed", "1", "--policy", clinical)
    assert code == 0, err
    assert "test, type A" in out
    assert out.splitlines()[-1].split() == ["report.html:", str(folder_of(out) / "report.html")]
    return folder_of(out)


def test_a_run_leaves_its_report(pubswap):
    folder = pubswap
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finished"]
    assert (summary["method"], summary["seed"], summary["rounds"]) == ("pubswap", 1, 2)
    assert summary["sites"] == ["site-1", "site-2"]
    for when in ("base", "final"):
        assert set(summary[when]["test"]) == {"overall", "A", "B", "C", "D"}
        assert summary[when]["test"]["overall"]["problems"] == 16
        assert set(summary[when]["heldout"]) == {"site-1", "site-2"}
    assert set(summary["before_averaging"][-1]["pass@1"]) == {"site-1", "site-2"}
    adapter_size = sum(t.numel() * 4 for t in load_file(folder / "adapter" / "adapter_model.safetensors").values())
    assert summary["bytes"]["adapter"]["up"] == 2 * 2 * adapter_size  # two sites, two rounds
    assert summary["bytes"]["adapter"]["down"] == 3 * 2 * adapter_size  # to begin with, and each average once
    assert summary["bytes"]["responses"]["up"] > 0
    assert summary["swap"]["public_steps"] == 8
    seconds = summary["seconds"]
    assert math.isclose(seconds["wall"], seconds["compute"] + seconds["waiting"] + seconds["start_and_stop"])
    assert summary["versions"]["deepspeed"]
    assert (folder / "pass_at_1.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    swapped = sum(event.get("swap/completions", 0) for event in events)
    assert f"{swapped:,.0f} of the {swapped:,.0f} swaps" in page
    assert "own egress logs, verified" in page
    assert (folder / "local.log").exists()


def test_the_final_adapter_loads_with_peft_and_changes_the_model(pubswap):
    folder = pubswap
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "demo-protocol"
    base = json.loads((folder / "run.json").read_text())["base_model"]
    plain = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = plain(ids).logits
        after = PeftModel.from_pretrained(plain, folder / "adapter")(ids).logits
    assert not torch.allclose(before, after)


def test_flares_simulator_ends_in_the_same_bytes_by_the_same_events(run_demo, pubswap, clinical):
    """Under a policy, so that the gate is a FLARE filter there. Its `secret_draws` are none in a simulation."""
    with reached(lambda: [psutil.Process()]) as ports:
        code, out, err = run_demo("--env", "sim", "--seed", "1", "--policy", clinical, "--track", "tensorboard")
    assert code == 0, err
    assert ports == set()
    folder = folder_of(out)
    assert folder != pubswap  # an earlier run's results are not overwritten
    assert adapter_of(folder) == adapter_of(pubswap)
    assert (folder / "flare.log").stat().st_size > 0
    assert happened(folder) == happened(pubswap)
    assert asked(folder) == asked(pubswap)
    assert_is_tracked(folder, ["site-1", "site-2"])
    for site in ("site-1", "site-2"):
        assert for_others(folder / "sites" / site) == {"policy.yaml"}  # which the lead wrote
        logs = [(place / "sites" / site / "egress.jsonl").read_text().splitlines() for place in (folder, pubswap)]
        here, there = ([json.loads(line) for line in log] for log in logs)
        assert [(e["kind"], e["decision"]) for e in here] == [(e["kind"], e["decision"]) for e in there]
        same = [(a["sha256"], b["sha256"]) for a, b in zip(here, there, strict=True) if a["kind"] != "metrics"]
        assert same
        assert all(one == other for one, other in same)  # metrics hold how long steps took


def asked(folder: Path) -> Counter:
    """Who was asked for what, and answered it. In one process a site has answered before the next one is asked."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return Counter((e["event"], e["site"], e["task"]) for e in events if e["event"] in ASKED)


def assert_is_tracked(folder: Path, sites: list[str]) -> None:
    """FLARE's TensorBoard receiver was handed what the sites let out, and under `clinical` nothing of private steps."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    averages = [e for e in events if e["event"] == "evaluation" and e["which"] == "global"]
    for site in sites:
        shown = EventAccumulator(str(folder / "tb_events" / site))
        shown.Reload()
        steps = [e for e in events if e["event"] == "step" and e["site"] == site and "reward" in e]
        assert [round(scalar.value, 5) for scalar in shown.Scalars("public/reward")] == [
            round(e["reward"], 5) for e in steps
        ]
        assert "reward" not in shown.Tags()["scalars"]
        assert [scalar.step for scalar in shown.Scalars("eval/averaged/pass@1")] == [0, 4, 8]
        last = merged_test(averages[-1])["overall"]["pass@1"]
        assert shown.Scalars("eval/averaged/pass@1")[-1].value == pytest.approx(last)


def for_others(folder: Path) -> set[str]:
    """What in the folder is not for its owner only."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.stat().st_mode & 0o077}


def happened(folder: Path) -> list[dict]:
    """A run's events, without what the clock or a random name decides."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    events = [event for event in events if event["event"] not in ASKED]
    clocks = {"time", "seconds", "step_time", "asking_seconds", "site_seconds", "run"}
    return [{name: value for name, value in event.items() if name not in clocks} for event in events]


@pytest.mark.parametrize(("method", "sites"), [("local", ["site-1", "site-2"]), ("centralised", ["pooled"])])
def test_methods_without_a_federation_run(run_demo, method, sites):
    code, out, err = run_demo("--env", "local", "--method", method, "--seed", "1", "--set", "federation.min_sites=1")
    assert code == 0, err
    steps = [event for event in happened(folder_of(out)) if event["event"] == "step"]
    assert {site: sum(e["site"] == site for e in steps) for site in sites} == dict.fromkeys(sites, 8)
    assert sum(e["completions"] for e in steps) == 8 * 4 * 4 * 2  # as the others, in all
    adapters = [line.split()[-1] for line in out.splitlines() if line.startswith("adapter:")]
    assert len(adapters) == (2 if method == "local" else 1)


def test_arithmetic_runs_with_math_verify_in_the_loop(run_demo):
    settings = ["task=arithmetic", "grpo.max_completion_length=32", "data.sites={site-1: [add], site-2: [times]}"]
    code, out, err = run_demo("--env", "local", *(part for setting in settings for part in ("--set", setting)))
    assert code == 0, err
    summary = json.loads((folder_of(out) / "summary.json").read_text())
    assert set(summary["final"]["test"]) == {"overall", "add", "share", "take", "times"}
