"""What is read of the sites, in a simulation and in a proof of concept."""

import json

import pytest
from tests.runs import some_spec

from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.peft_folder import ORIGIN
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.page.content import page_of
from fedrlvr.report.page.folder import read_run


def line(run: str, segment: int, **more) -> str:
    own = {"problem_id": "p", "text": "5", "reward": 0.0, "reason": "wrong", "truncated": False}
    place = {"run": run, "round": 0, "segment": segment, "task": "swap"}
    return json.dumps(place | own | more) + "\n"


def swap(run: str, segment: int) -> str:
    own = {"problem_id": "p", "text": "5", "reward": 0.0, "reason": "wrong", "truncated": False}
    return line(run, segment, text="4", reward=1.0, reason="exact", origin="south", instead_of=own)


@pytest.fixture
def prepared(folder, events, site_files, small_job, tmp_path):
    """prepared(environment, state, name) -> a run with one site, whose state is in the folder `state`."""

    def make(environment: str, state, name: str = "north") -> PreparedRun:
        _, sites = site_files({"site-1": ("A",)})
        config = sites["site-1"].model_copy(update={"state_dir": state})
        about = {"spec": some_spec(small_job()), "base_model": "m", "environment": environment}
        made = PreparedRun(folder=folder(events), sites={name: config}, **about)
        made.save()
        return made

    return make


def test_swaps_of_this_run_are_read_oldest_first_and_what_is_cut_is_left_out(prepared):
    run = prepared("sim", "nowhere")
    state = run.folder / "sites" / "north"
    state.mkdir(parents=True)
    ours = run.spec.run
    (state / "completions.jsonl.1").write_text(line(ours, 0) + swap(ours, 1) + swap("0123456789abcdef", 2))
    (state / "completions.jsonl").write_text(swap(ours, 3) + line(ours, 3, text='"origin"') + swap(ours, 4)[:-9])
    (found,) = read_run(run.folder).sites.values()
    assert [(one.segment, one.receiver, one.origin) for one in found.swaps] == [
        (1, "north", "south"),
        (3, "north", "south"),
    ]
    assert found.swaps[0].instead_of.text == "5"
    assert (found.has_log, found.sent, found.why) == (True, None, "it has no policy, and so no log of what left it")


def test_of_a_proof_of_concept_the_sites_own_folders_are_read_and_only_this_job(prepared, tmp_path):
    kit = tmp_path / "kit" / "local"
    run = prepared("poc", kit / "state" / "run")
    (kit / "state" / "run").mkdir(parents=True)
    SitePolicy(log="sent.jsonl").write(kit / "policy.yaml")
    for job in ("earlier", "ours", "ours"):
        with EgressLog(kit / "sent.jsonl").written(job=job, kind="metrics") as entry:
            entry |= {"count": 1, "bytes": 9, "rules": {}}
    (run.folder / "job_id").write_text("ours")
    (found,) = read_run(run.folder).sites.values()
    assert [entry["job"] for entry in found.sent] == ["ours", "ours"]
    assert (found.has_log, found.spent) == (False, [])


@pytest.mark.parametrize("name", ["..", "a/b", "/etc", ""])
def test_a_sites_name_leads_nowhere_else(prepared, name):
    run = prepared("local", "nowhere", name)
    assert read_run(run.folder).sites == {}


def test_in_production_nothing_of_any_site_is_read(prepared):
    run = prepared("prod", "nowhere").model_copy(update={"sites": {}})
    run.save()
    found = read_run(run.folder)
    assert (found.sites, found.public, found.notes) == ({}, {}, [])
    assert found.prepared.environment == "prod"


def test_the_base_models_fingerprint_is_what_stands_beside_the_adapter(prepared):
    """Where the job named none."""
    run = prepared("prod", "nowhere").model_copy(update={"sites": {}})
    assert read_run(run.folder).fingerprint is None
    (run.folder / "adapter").mkdir()
    (run.folder / "adapter" / ORIGIN).write_text('{"base_model": "m", "fingerprint": "abc"}')
    files = read_run(run.folder)
    assert files.fingerprint == "abc"
    assert "fingerprint abc" in dict(page_of(files).facts)["model"]
