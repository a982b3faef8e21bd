"""The adapter filter at sites that run FLARE's own FedAvg on somebody's plain PyTorch script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedrlvr.privacy.egress_log import EgressLog

pytestmark = pytest.mark.slow

TRAIN = """
import os
import torch
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

flare.init()
while flare.is_running():
    received = flare.receive()
    start = {name: torch.as_tensor(value) for name, value in received.params.items()}
    if not os.path.exists(os.environ["START"]):  # FLARE draws the first weights at the server
        torch.save(start, os.environ["START"])
    params = {name: value + 5.0 for name, value in start.items()}
    flare.send(FLModel(params=params, params_type=ParamsType.FULL, meta={"NUM_STEPS_CURRENT_ROUND": 3}))
"""
JOB = """
import sys
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv

# Given as an object, FLARE would take the model's source along: half a minute for all of torch.
model, rounds = {"class_path": "torch.nn.Linear", "args": {"in_features": 3, "out_features": 2}}, int(sys.argv[1])
recipe = FedAvgRecipe(name="stock", min_clients=2, num_rounds=rounds, model=model, train_script="train.py")
recipe.execute(SimEnv(num_clients=2, workspace_root="ws"))
"""


@pytest.fixture
def stock(tmp_path):
    """Run FLARE's FedAvg for some rounds at two sites with this filter; returns (final - initial weights, logs)."""

    def run(rounds: int, **rules):
        named = {"path": "fedrlvr.flare.site.adapter_filter.AdapterFilter", "args": {"model": "linear", **rules}}
        scope = {"name": "site", "task_data_filters": [named | {"direction": "in"}]}
        scope["task_result_filters"] = [named | {"direction": "out"}]
        simulated = {"id": "site", "path": "fedrlvr.flare.workarounds.SimulatedSite"}
        local = tmp_path / "ws" / "stock" / "local"
        local.mkdir(parents=True)
        policy = {"scopes": [scope], "default_scope": "site", "components": [simulated]}
        (local / "privacy.json").write_text(json.dumps(policy))
        (tmp_path / "train.py").write_text(TRAIN)
        (tmp_path / "job.py").write_text(JOB)
        done = subprocess.run(
            [sys.executable, "job.py", str(rounds)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "START": str(tmp_path / "start.pt")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        sites = {name: tmp_path / "ws" / "stock" / name / "local" for name in ("site-1", "site-2")}
        return done, {name: list(EgressLog(p / "fedrlvr-egress.jsonl").entries()) for name, p in sites.items()}

    return run


def moved(folder: Path) -> float:
    """L2 distance between FLARE's final global model and the one it began with."""
    final = torch.load(next((folder / "ws" / "stock").rglob("FL_global_model.pt")), weights_only=True)["model"]
    start = torch.load(folder / "start.pt", weights_only=True)
    return float(sum((final[name] - start[name]).double().square().sum() for name in start) ** 0.5)


def test_flares_own_fedavg_moves_by_no_more_than_the_sites_allow(stock, tmp_path):
    done, logs = stock(2, clip_norm=0.25)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # Both sites push by 5 in all eight numbers; two rounds, each clipped to 0.25 at each site.
    assert moved(tmp_path) == pytest.approx(0.5, rel=1e-5)
    for log in logs.values():
        assert [(e["decision"], e["round"]) for e in log] == [("released", 0), ("released", 1)]
        assert [e["rules"]["norm"] for e in log] == [pytest.approx(5 * 8**0.5, rel=1e-5)] * 2


def test_a_job_that_plans_more_rounds_than_the_budget_has_gets_nothing(stock, tmp_path):
    done, logs = stock(5, clip_norm=0.25, noise_multiplier=2.0, max_epsilon=4.4)
    assert done.returncode != 0
    assert logs == {"site-1": [], "site-2": []}
    assert not (tmp_path / "start.pt").exists()  # nobody trained
    said = [(tmp_path / "ws" / "stock" / site / "log.txt").read_text() for site in logs]
    # The first site to refuse ends the job, perhaps before the other one was asked.
    assert any("this job's plan would bring the site to epsilon 4.983" in text for text in said)


def test_a_misspelt_rule_ends_the_job_at_its_start(stock):
    done, logs = stock(1, clip_norm=0.25, noise_multiplyer=2.0)
    assert "noise_multiplyer" in done.stdout + done.stderr
    assert logs == {"site-1": [], "site-2": []}
