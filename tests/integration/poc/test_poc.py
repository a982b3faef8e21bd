"""`poc/run.py`: FLARE's server and sites as processes of their own, over a network. They run the job that the simulator
runs too, and each site has a policy of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

import pytest
import yaml
from safetensors.torch import load_file
from tests.integration.poc.deployed import (
    JOB,
    NAMES,
    SEED,
    cut_short,
    events_of,
    listens_at,
    nothing_left,
    poc_run,
    run,
    settings,
    submit,
    wait_for_round,
    workers,
)
from tests.runs import adapter_of, spec_of

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.flare.deploy.poc import Poc, PocError, write_site_file
from fedrlvr.flare.lead.session import open_kit
from fedrlvr.flare.recipe import PubSwapRecipe
from fedrlvr.flare.site.site_kit import template
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.mechanism import l2_norm
from fedrlvr.protocol.run_spec import RunSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_start_that_is_killed_is_no_start_and_the_next_one_begins_anew(folder, arguments):
    cut_short(folder, signal.SIGKILL, *arguments)
    with pytest.raises(PocError, match="does not run"):
        Poc(folder).running()
    code, out = poc_run("up", *arguments)
    assert (code, "proof of concept is up" in out) == (0, True), out
    Poc(folder).running()


def test_one_that_is_up_is_left_alone_and_listens_on_this_machine_only(poc, arguments, port):
    code, out = poc_run("up", *arguments)
    assert (code, "was up already" in out) == (0, True)
    code, out = poc_run("up", "--sites", 2, "--workspace", poc.folder)
    assert (code, f"was made with sites {NAMES}, not ['site-1', 'site-2']" in out) == (2, True)
    code, out = poc_run("up", *arguments, "--policy", "sealed")
    assert (code, "have another than sealed, and none of their files is written over" in out) == (2, True)
    assert listens_at(port) == {"127.0.0.1"}


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
    kit = poc.deployment.kit(poc.project.lead)
    command = ["nvflare", "--format", "json", *map(str, arguments), "--startup-kit", str(kit)]
    done = subprocess.run(
        command, env={**os.environ, **places}, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(answers[-1]) if answers else {}


def printed(poc: Poc, where: str, file: str) -> str:
    """What the project's administrator is shown of a file at a site, through the server."""
    session = open_kit(poc.deployment.kit(poc.project.admin))()
    try:
        return str(session.cat_target(where, "", file))
    finally:
        session.close()


def test_a_sites_policy_acts_over_the_network_and_a_job_that_brings_less_is_refused(
    poc, policies, site_files, small_job, tmp_path
):
    """The job is submitted and fetched by FLARE's own commands."""
    _, configs = site_files({"site-1": ("A", "B"), "site-2": ("C",), "site-3": ("D",)})
    for name, config in configs.items():
        write_site_file(policies[name].parent, config)
        policies[name].write_text(template("sealed.yaml"))
    clinical = yaml.safe_load(template("clinical.yaml")) | {"adapters": {"clip_norm": 1e-3}}
    policies["site-1"].write_text(yaml.safe_dump(clinical))
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
    assert {(e["site"], e["reason"]) for e in events if e["event"] == "failure"} == {("site-2", why), ("site-3", why)}
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


def test_a_job_with_code_of_its_own_is_let_in_nowhere(poc, small_job, tmp_path):
    job = small_job()
    PubSwapRecipe(RunSpec(job=job, public_ids=["p1"], public_sha256="hash")).export(str(tmp_path))
    app = next((tmp_path / job.name).glob("app*"))
    (app / "custom").mkdir()
    (app / "custom" / "smuggled.py").write_text("")
    number = nvflare(poc, "job", "submit", "-j", tmp_path / job.name)["data"]["job_id"]
    with pytest.raises(AssertionError, match="FINISHED:FAILED_TO_RUN"):
        nvflare(poc, "job", "wait", number, "--timeout", "120", "--interval", "1")
    said = (poc.deployment.kit(poc.project.server) / "log.txt").read_text()
    assert all(f"{site}: NVFLARE_ERROR: BYOC not permitted" in said for site in NAMES)


def test_a_lead_who_interrupts_ends_the_job_at_the_server_and_gets_what_it_did(poc, lead):
    job, folder = submit(poc, lead, SEED), lead / f"demo-pubswap-seed{SEED}"
    wait_for_round(poc, folder, 1)
    assert len(workers(poc)) == len(NAMES)
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


def test_it_goes_down_and_a_start_that_is_interrupted_takes_everything_down_with_it(folder, arguments, port):
    if not folder.exists():
        assert poc_run("up", *arguments)[0] == 0
    assert poc_run("down", "--workspace", folder) == (0, "proof of concept is down\n")
    assert nothing_left(folder, port)
    code, out = run(JOB, "--env", "poc", "--workspace", folder.parent)
    assert (code, "does not run; start it: python poc/run.py up" in out) == (2, True)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        code, out = poc_run("up", *arguments)
        assert (code, f"port {port} is taken" in out) == (2, True)
    assert cut_short(folder, signal.SIGINT, *arguments) == (130, "error: interrupted\n")
    assert nothing_left(folder, port)
    cut_short(folder, signal.SIGKILL, *arguments)
    code, out = poc_run("down", "--workspace", folder)
    assert (code, "proof of concept is down" in out) == (0, True), out
    assert nothing_left(folder, port)


def test_the_demo_in_one_command_ends_in_the_same_adapter_and_leaves_nothing_behind(folder, arguments, port, calm):
    logs = [folder / "flare" / "fedrlvr" / "prod_00" / name / "local" / "fedrlvr-egress.jsonl" for name in NAMES]
    earlier = [log.read_bytes() if log.exists() else b"" for log in logs]
    code, out = poc_run("demo", *arguments, *settings(), "--seed", SEED)
    assert code == 0, out
    assert "labels dealt: site-1 A, D; site-2 B; site-3 C" in out
    assert out.index("proof of concept is up") < out.index("round 1/3") < out.index("proof of concept is down")
    assert nothing_left(folder, port)
    result = folder.parent / f"demo-pubswap-seed{SEED}"
    assert json.loads((result / "summary.json").read_text())["finished"]
    assert adapter_of(result) == calm
    for log, before in zip(logs, earlier, strict=True):
        assert log.read_bytes().startswith(before)  # what left the house is not forgotten over a start
        entries = list(EgressLog(log).entries())[before.count(b"\n") :]
        assert {entry["decision"] for entry in entries} == {"released"}
