"""Jobs on a proof of concept: each site has a policy of its own, and things are killed for real: a site's FLARE
process, a whole site, the server, the lead's job."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tests.integration.poc.deployed import (
    JOB,
    SEED,
    events_of,
    kill,
    of_site,
    poc_run,
    run,
    start,
    start_again,
    submit,
    wait_for_round,
    wait_until,
    workers,
)
from tests.runs import adapter_of, shipped_policy, some_spec, spec_of

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.flare.lead.session import open_kit
from fedrlvr.flare.recipe import PubSwapRecipe
from fedrlvr.launch.experiment import spec_on
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.mechanism import l2_norm
from fedrlvr.shipped import template
from fedrlvr.site.closed_gate import OWN_FILES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
NAMES = ["site-1", "site-2", "site-3"]
LABELS = "data.sites={site-1: [A, D], site-2: [B], site-3: [C]}"  # what dealing the demo's labels over them gives


@pytest.fixture
def policies(poc):
    """Sites' policies may be changed; after the test they are as before."""
    files = {name: poc.deployment.kit(name) / "local" / "policy.yaml" for name in NAMES}
    before = {file: file.read_text() for file in files.values()}
    yield files
    for file, text in before.items():
        file.write_text(text)


def nvflare(poc: Poc, *arguments: object) -> dict:
    """`nvflare --format json ...`, FLARE's own command: what it answers."""
    places = {"HOME": str(poc.folder / "home"), "NVFLARE_POC_WORKSPACE": str(poc.folder / "flare")}
    kit = poc.deployment.kit(poc.deployment.lead)
    command = ["nvflare", "--format", "json", *map(str, arguments), "--startup-kit", str(kit)]
    done = subprocess.run(
        command, env={**os.environ, **places}, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(answers[-1]) if answers else {}


def printed(poc: Poc, where: str, file: str) -> str:
    """What the project's administrator is shown of a file at a site, through the server."""
    session = open_kit(poc.deployment.kit(poc.deployment.admin))()
    try:
        return str(session.cat_target(where, "", file))
    finally:
        session.close()


def misspell(file: Path) -> None:
    file.write_text(file.read_text().replace("private_problems:", "private_problem:"))


def test_a_sites_policy_acts_over_the_network_and_a_job_that_brings_less_is_refused(
    poc, policies, site_files, small_job, tmp_path
):
    """The job is submitted and fetched by FLARE's own commands."""
    _, configs = site_files({"site-1": ("A", "B"), "site-2": ("C",), "site-3": ("D",)})
    for name, config in configs.items():
        config.model_copy(update={"policy": policies[name]}).write(policies[name].with_name("fedrlvr.yaml"))
        policies[name].write_text(template("sealed.yaml"))
    clinical = shipped_policy("clinical") | {"adapters": {"clip_norm": 1e-3}}
    policies["site-1"].write_text(yaml.safe_dump(clinical))
    misspell(policies["site-2"].with_name("fedrlvr.yaml"))
    log = EgressLog(policies["site-1"].parent / "fedrlvr-egress.jsonl")
    earlier = len(list(log.entries()))
    job = small_job(grpo__num_generations=16, federation__aggregator="fedit")
    PubSwapRecipe(spec_of(job, configs)).export(str(tmp_path / "jobs"))
    number = nvflare(poc, "job", "submit", "-j", tmp_path / "jobs" / job.name)["data"]["job_id"]
    nvflare(poc, "job", "wait", number, "--timeout", "300", "--interval", "1")
    nvflare(poc, "job", "download", number, "-o", tmp_path / "results")
    kept = next((tmp_path / "results" / number).rglob("fedrlvr"))

    events = events_of(kept)
    assert events[-1]["event"] == "end"
    why = "this site requires privacy.mode: dp_grpo; the job has privacy.mode: none"
    failures = {(e["site"], e["reason"]) for e in events if e["event"] == "failure"}
    assert failures == {("site-2", OWN_FILES), ("site-3", why)}
    assert "private_problem: unknown setting" in (poc.deployment.kit("site-2") / number / "log.txt").read_text()
    assert {(e["site"], e["kind"]) for e in events if e["event"] == "step"} == {("site-1", "public")}
    final = load_file(kept / "rounds" / "0" / "adapter_model.safetensors")
    first = initial_adapter({name: list(tensor.shape) for name, tensor in sorted(final.items())}, job.seed)
    moved = l2_norm({name: final[name] - first[name] for name in final})
    assert 0.99e-3 < moved < 1.01e-3
    assert {(e["kind"], e["decision"]) for e in list(log.entries())[earlier:]} == {
        (kind, "released") for kind in ("metrics", "responses", "adapter")
    }
    # FLARE's own shell, which would as well print any other file that the site's process may read.
    assert "class_allow_list" in printed(poc, "server", "local/resources.json")
    assert "not a supported shell command" in printed(poc, "site-1", "local/resources.json")


def test_the_flare_script_of_the_page_runs_in_production(poc, policies, site_files, small_job):
    """The lines of jobs/flare_script/README.md, with FLARE's `ProdEnv`."""
    _, configs = site_files({"site-1": ("A", "B"), "site-2": ("C",), "site-3": ("D",)})
    for name, config in configs.items():
        config.model_copy(update={"policy": policies[name]}).write(policies[name].with_name("fedrlvr.yaml"))
    page = (ROOT / "jobs" / "flare_script" / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    kit = poc.deployment.kit(poc.deployment.lead)
    assert poc.deployment.lead == "lead@consortium.org"
    lines = block.replace("CONSORTIUM", str(configs["site-1"].public_problems.parent)).replace("LEAD-KIT", str(kit))
    names = {"Path": Path, "PubSwapRecipe": PubSwapRecipe, "spec_on": spec_on, "JOB": small_job(name="script")}
    exec(lines, names)
    assert events_of(names["kept"])[-1]["event"] == "end"
    final = load_file(names["kept"] / "rounds" / "0" / "adapter_model.safetensors")
    first = initial_adapter({name: list(tensor.shape) for name, tensor in sorted(final.items())}, 0)
    assert l2_norm({name: final[name] - first[name] for name in final}) > 0.01


def test_a_job_with_code_of_its_own_is_let_in_nowhere(poc, small_job, tmp_path):
    job = small_job()
    PubSwapRecipe(some_spec(job)).export(str(tmp_path))
    app = next((tmp_path / job.name).glob("app*"))
    (app / "custom").mkdir()
    (app / "custom" / "smuggled.py").write_text("")
    number = nvflare(poc, "job", "submit", "-j", tmp_path / job.name)["data"]["job_id"]
    with pytest.raises(AssertionError, match="FINISHED:FAILED_TO_RUN"):
        nvflare(poc, "job", "wait", number, "--timeout", "120", "--interval", "1")
    said = (poc.deployment.kit(poc.deployment.server) / "log.txt").read_text()
    assert all(f"{site}: NVFLARE_ERROR: BYOC not permitted" in said for site in NAMES)


def test_a_lead_who_interrupts_ends_the_job_at_the_server_and_gets_what_it_did(poc, lead):
    """Two who watch, by the run's folder and by the job's id, see it end."""
    job, folder = submit(poc, lead, SEED, "federation.rounds=99"), lead / f"demo-pubswap-seed{SEED}"
    number = wait_for_round(poc, folder, 1)
    assert len(workers(poc)) == len(NAMES)
    by_id = [number, "--kit", poc.deployment.kit(poc.deployment.lead)]
    watchers = [start("-m", "fedrlvr.cli", "watch", *target) for target in ([folder], by_id)]
    for watcher in watchers:
        wait_until(watcher, "segment 1/")
    job.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    while workers(poc):
        assert time.monotonic() < deadline, "a site's worker outlives its job"
        time.sleep(0.5)
    said = job.communicate(timeout=120)[0]
    assert job.returncode == 130, said
    assert "aborting job" in said
    assert "error: the run did not finish: interrupted" in said
    events = events_of(folder)
    assert events[0]["event"] == "start"
    assert events[-1] == events[-1] | {"event": "stopped", "reason": "aborted"}
    assert adapter_of(folder)
    for watcher in watchers:
        said = watcher.communicate(timeout=120)[0]
        assert watcher.returncode == 1, said
        assert f"job {number}: FINISHED:ABORTED" in said
        assert "is not finished, and it stopped: aborted" in said


def test_a_run_below_its_quorum_ends_and_one_whose_server_dies_goes_on_to_the_adapter_of_a_calm_one(
    poc, arguments, calm, lead
):
    """One run: a site's FLARE process dies, and it ends naming the site. One command goes on. Then the server dies in
    the middle of a round. Started again, it is where it was, and one command goes on to the end."""
    job, lost = submit(poc, lead, SEED, "federation.min_sites=3"), lead / f"demo-pubswap-seed{SEED}"
    first = wait_for_round(poc, lost, 1)
    kill(of_site(poc, "site-2", "worker_process"))
    out = job.communicate(timeout=400)[0]
    assert job.returncode == 1, out
    assert "site-2" in out.split("error: the run did not finish: ")[1]

    job = start(JOB, "--resume-from", lost)
    wait_for_round(poc, lost, 1, earlier=first)
    kill(of_site(poc, poc.deployment.server))
    wait_until(job, "no connection to the server")
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=300)
    assert run(JOB, "--resume-from", lost)[0] == 2  # what is to run it does not run
    code, out = poc_run("up", *arguments)
    assert (code, "is up" in out) == (0, True), out
    code, out = run(JOB, "--resume-from", lost)
    assert code == 0, out
    events = events_of(lost)
    assert [e["after"] for e in events if e["event"] == "resumed"] == [0]
    assert [e["round"] for e in events if e["event"] == "average"] == [0, 1, 2]
    assert adapter_of(lost) == calm


def test_a_sites_flare_process_and_then_a_whole_other_site_die_and_the_rest_goes_on(poc, calm, lead):
    """The site is killed at work in the only segment of the last round, and started again: FLARE knows it, but its job
    process is missed, long before the deadline."""
    more = ["rounds=4", "segments_per_round=1", "min_sites=1"]
    more = [*(f"federation.{setting}" for setting in more), "exchange.schedule=[0,2]"]
    more.append("evaluation={samples: 1, every_segments: 9}")
    job, folder = submit(poc, lead, SEED, *more), lead / f"demo-pubswap-seed{SEED}"
    wait_for_round(poc, folder, 1)
    kill(of_site(poc, "site-2", "worker_process"))
    wait_for_round(poc, folder, 3)
    kill(of_site(poc, "site-3") + [w for w in workers(poc) if w.parent() in of_site(poc, "site-3")])
    start_again(poc, "site-3")
    out = job.communicate(timeout=400)[0]
    assert job.returncode == 0, out
    events = events_of(folder)
    assert events[-1]["event"] == "end"
    assert "the site is gone" in [e["reason"] for e in events if e["event"] == "failure"][-1]
    assert {e["site"] for e in events if e["event"] == "failure"} == {"site-2", "site-3"}
    averaged = [e["sites"] for e in events if e["event"] == "average"]
    assert averaged == [NAMES, ["site-1", "site-3"], ["site-1", "site-3"], ["site-1"]]
    assert adapter_of(folder) != calm
    assert not workers(poc)
