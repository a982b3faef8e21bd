"""`nvflare poc`: a real FLARE server and real clients over a network, whose sites have policies of their own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml
from nvflare.fuel.flare_api.flare_api import new_secure_session
from safetensors.torch import load_file

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.cli import main
from fedrlvr.data.problems import read_problems
from fedrlvr.flare.recipe import PubSwapRecipe
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.mechanism import l2_norm
from fedrlvr.processes import wait_until
from fedrlvr.tasks import TASKS

pytestmark = pytest.mark.slow


class Poc:
    """FLARE's proof-of-concept deployment under `folder`: its command line, its sites' folders, its end."""

    def __init__(self, folder: Path):
        self.folder = folder
        places = {"HOME": str(folder / "home"), "NVFLARE_POC_WORKSPACE": str(folder / "poc")}
        self.environment = {**os.environ, **places, "OMP_NUM_THREADS": "1"}
        (folder / "home").mkdir(parents=True)

    def __call__(self, *arguments: str) -> dict:
        """`nvflare --format json ...`: what it answers. Its `start` goes on as a daemon that holds our pipes."""
        said = self.folder / "said.txt"
        with open(said, "w") as out:
            command = ["nvflare", "--format", "json", *arguments]
            done = subprocess.run(command, env=self.environment, stdout=out, stderr=out, timeout=400, check=False)
        assert done.returncode == 0, said.read_text()
        answers = [line for line in said.read_text().splitlines() if line.startswith("{")]
        return json.loads(answers[-1]) if answers else {}

    def site(self, name: str) -> Path:
        return self.folder / "poc" / "example_project" / "prod_00" / name

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def stop(self) -> list[psutil.Process]:
        """Ends it, by force if need be; what had to be ended so."""
        subprocess.run(["nvflare", "poc", "stop"], env=self.environment, capture_output=True, timeout=120, check=False)
        wait_until(lambda: not self.processes(), 30)
        for process in (left := self.processes()):
            process.kill()
        return left


@pytest.fixture(scope="module")
def poc(tmp_path_factory):
    deployment = Poc(tmp_path_factory.mktemp("flare"))
    deployment("poc", "prepare", "-n", "2", "--force")
    yield deployment
    deployment.stop()


def settle(local: Path, config, name: str, changes: dict) -> None:
    """What the README tells a site to do, with its own paths and a rule of its own."""
    assert main(["site", "init", str(local), "--policy", name]) == 0
    policy = yaml.safe_load((local / "policy.yaml").read_text()) | changes
    (local / "policy.yaml").write_text(yaml.safe_dump(policy))
    (local / "fedrlvr.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json") | {"policy": "policy.yaml"}))


def run_job(poc: Poc, recipe: PubSwapRecipe, name: str) -> Path:
    """Submit it, wait for its end, and fetch what the server keeps."""
    recipe.export(str(poc.folder / "jobs"))
    job = poc("job", "submit", "-j", str(poc.folder / "jobs" / name))["data"]["job_id"]
    poc("job", "wait", job, "--timeout", "300", "--interval", "1")
    poc("job", "download", job, "-o", str(poc.folder / "results"))
    return next((poc.folder / "results" / job).rglob("fedrlvr"))


def printed(poc: Poc, site: str, file: str) -> str:
    """What the project's administrator is shown of a file at a site, through the server."""
    session = new_secure_session("admin@nvidia.com", str(poc.site("admin@nvidia.com")))
    try:
        return str(session.cat_target(site, "", file))
    finally:
        session.close()


def test_a_sites_policy_acts_over_the_network_and_a_job_that_brings_less_is_refused(poc, site_files, small_job):
    manifest, configs = site_files({"site-1": ("A", "B"), "site-2": ("C", "D")})
    settle(poc.site("site-1") / "local", configs["site-1"], "clinical", {"adapters": {"clip_norm": 1e-3}})
    settle(poc.site("site-2") / "local", configs["site-2"], "sealed", {})
    server = poc.site("server") / "local"
    (server / "resources.json").unlink()  # FLARE's own, for this deployment only
    assert main(["site", "init", str(server), "--server"]) == 0
    poc("poc", "start")
    public = [problem.id for problem in read_problems(configs["site-1"].public_problems, TASKS["protocol"])]
    job = small_job(grpo__num_generations=16, federation__aggregator="fedit")
    kept = run_job(poc, PubSwapRecipe(job, public, manifest), job.name)

    events = [json.loads(line) for line in (kept / "metrics.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "end"
    assert {(e["site"], e["reason"]) for e in events if e["event"] == "failure"} == {
        ("site-2", "this site requires privacy.mode: dp_grpo; the job has privacy.mode: none")
    }
    assert {(e["site"], e["kind"]) for e in events if e["event"] == "step"} == {("site-1", "public")}
    final = load_file(kept / "rounds" / "0" / "adapter_model.safetensors")
    start = initial_adapter({name: list(tensor.shape) for name, tensor in sorted(final.items())}, job.seed)
    moved = l2_norm({name: final[name] - start[name] for name in final})
    assert 0.99e-3 < moved < 1.01e-3
    log = list(EgressLog(poc.site("site-1") / "local" / "fedrlvr-egress.jsonl").entries())
    assert {(e["kind"], e["decision"]) for e in log} == {
        (kind, "released") for kind in ("metrics", "responses", "adapter")
    }
    # FLARE's own shell, which would as well print any other file that the site's process may read.
    assert "class_allow_list" in printed(poc, "server", "local/resources.json")
    assert "not a supported shell command" in printed(poc, "site-1", "local/resources.json")
    # The same job with code of its own is let in nowhere.
    app = next((poc.folder / "jobs" / job.name).glob("app*"))
    (app / "custom").mkdir()
    (app / "custom" / "smuggled.py").write_text("")
    smuggled = poc("job", "submit", "-j", str(poc.folder / "jobs" / job.name))["data"]["job_id"]
    with pytest.raises(AssertionError, match="FINISHED:FAILED_TO_RUN"):
        poc("job", "wait", smuggled, "--timeout", "120", "--interval", "1")
    said = (poc.site("server") / "log.txt").read_text()
    assert all(f"{site}: NVFLARE_ERROR: BYOC not permitted" in said for site in ("site-1", "site-2"))
    assert poc.stop() == []
