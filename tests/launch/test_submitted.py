"""A preset's labels and quorum are fitted to the connected sites; a job names its base model."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from fedrlvr.data.manifest import MANIFEST, SHARED_SETS, Manifest, SetManifest
from fedrlvr.data.problems import read_problems
from fedrlvr.flare.lead import simulator
from fedrlvr.flare.recipe import PubSwapRecipe
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.launch.simulated import prepare_here
from fedrlvr.launch.stages import start
from fedrlvr.launch.submitted import deal_labels, prepare_for_production
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.generated import write_generated

PRESETS = Path(__file__).parents[2] / "app_configs"


@pytest.mark.parametrize(
    ("preset", "count", "dealt", "said"),
    [
        ("demo", 4, [("A",), ("B",), ("C",), ("D",)], 0),
        ("demo", 3, [("A", "D"), ("B",), ("C",)], 2),
        ("demo", 6, [("A",), ("B",), ("C",), ("D",), ("A",), ("B",)], 1),
        ("arithmetic", 3, [("add", "times"), ("take",), ("times", "share")], 0),
        ("arithmetic", 2, [("add", "take"), ("times", "share")], 2),
    ],
)
def test_labels_are_dealt_in_turn_and_every_change_is_printed(preset, count, dealt, said):
    experiment = load_experiment(PRESETS / f"{preset}.yaml")
    least, notes = experiment.federation.min_sites, []
    sites = [f"clinic-{number}" for number in range(count)]
    changed = deal_labels(experiment, sites, notes.append)
    assert changed.data.sites == dict(zip(sites, dealt, strict=True))
    assert changed.federation.min_sites == min(least, count)
    assert len(notes) == said
    assert experiment.federation.min_sites == least


@pytest.fixture
def in_production(tmp_path):
    """`in_production(model)`: the fingerprint in the job that a lead who has `model` would submit, and the run."""
    kit, consortium = tmp_path / "lead", tmp_path / "consortium"
    (kit / "startup").mkdir(parents=True)
    (kit / "startup" / "fed_admin.json").write_text('{"admin": {"username": "lead@consortium.org"}}')
    experiment = load_experiment(PRESETS / "demo.yaml")
    write_generated(experiment.data, TASKS["protocol"], 0, consortium)
    problems = {name: read_problems(consortium / f"{name}.jsonl", TASKS["protocol"]) for name in SHARED_SETS}
    sets = {name: SetManifest.of(shared) for name, shared in problems.items()}
    about = {"dataset": "generated", "source": "fedrlvr", "task": "protocol", "seed": 0}
    manifest = Manifest(**about, **sets, counts={}, removed={}, versions={})
    (consortium / MANIFEST).write_text(manifest.model_dump_json())

    def submit(model: Path | None) -> tuple[str | None, PreparedRun]:
        given = {"kit": kit, "data": consortium, "model": model, "policy": None, "workspace": tmp_path / "runs"}
        prepared = prepare_for_production(experiment, Namespace(env="prod", **given), print)
        submission = start(prepared, print)
        submission.close()
        assert "federation.step_deadline" in submission.log_path.read_text()
        return named_in(submission.job_folder), prepared

    return submit


def named_in(job: Path) -> str | None:
    """The base model that sites must have, in an exported job."""
    config = json.loads(next(job.rglob("config_fed_client.json")).read_text())
    return RunSpec.model_validate_json(config["executors"][0]["executor"]["args"]["spec"]).base_model


def test_a_lead_who_has_the_model_names_it_and_one_who_has_not_leaves_it_to_the_sites(in_production, model_path):
    fingerprint, prepared = in_production(model_path)
    assert fingerprint == prepared.spec.base_model == model_fingerprint(model_path)
    assert prepared.base_model == str(model_path)
    fingerprint, prepared = in_production(None)
    assert fingerprint is prepared.spec.base_model is None
    assert prepared.base_model == "demo-protocol"


def test_a_folder_without_a_model_is_bad_input(in_production, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--model: no config\.json in"):
        in_production(tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_simulation_names_the_model_that_its_sites_are_given(model_path, tmp_path, monkeypatch):
    def execute(recipe, where):
        recipe.export(str(tmp_path / "job"))
        assert where.num_threads == 4

    monkeypatch.setattr(PubSwapRecipe, "execute", execute)
    monkeypatch.setattr(simulator, "die_with", lambda **how: None)
    experiment = load_experiment(PRESETS / "demo.yaml", ["policy=null"])
    given = {"data": None, "policy": None, "tiny": False, "rebuild_model": False, "config": PRESETS / "demo.yaml"}
    prepared = prepare_here(experiment, Namespace(env="sim", model=model_path, workspace=tmp_path, **given), print)
    simulation = start(prepared, print)
    assert prepared.spec.base_model == model_fingerprint(model_path)
    assert json.loads((simulation.folder / "job.json").read_text())["spec"]["base_model"] == prepared.spec.base_model
    simulator.main(simulation.folder)
    assert named_in(tmp_path / "job") == prepared.spec.base_model
