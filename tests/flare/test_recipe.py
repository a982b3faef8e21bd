"""The job as FLARE would deploy it: components by name, no code, nothing of any site in it."""

import json

import pytest
from nvflare.recipe import SimEnv
from tests.runs import some_spec

from fedrlvr.flare.recipe import PubSwapRecipe
from fedrlvr.flare.site.site_kit import JOB_CLASSES
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.settings_file import SettingsError


@pytest.fixture
def spec(job) -> RunSpec:
    return some_spec(job, public_ids=["p1", "p2"])


@pytest.fixture
def exported(tmp_path, spec):
    PubSwapRecipe(spec).export(str(tmp_path))
    return tmp_path / "small"


def config(exported, side: str) -> dict:
    return json.loads(next(exported.rglob(f"config_fed_{side}.json")).read_text())


def test_the_server_runs_the_controller_and_sites_the_executor(exported, spec):
    server, client = config(exported, "server"), config(exported, "client")
    (workflow,), (executor,) = server["workflows"], client["executors"]
    assert {workflow["path"], executor["executor"]["path"]} == JOB_CLASSES
    assert sorted(executor["tasks"]) == ["propose", "submit", "swap", "train", "validate"]
    for side in (workflow, executor["executor"]):
        assert RunSpec.model_validate_json(side["args"]["spec"]) == spec


def test_the_server_alone_is_told_of_a_first_adapter_and_the_job_does_not_carry_it(tmp_path, spec):
    PubSwapRecipe(spec, "/adapters/first").export(str(tmp_path))
    assert config(tmp_path / "small", "server")["workflows"][0]["args"]["start_from"] == "/adapters/first"
    assert "/adapters/first" not in json.dumps(config(tmp_path / "small", "client"))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_job_carries_no_code(exported):
    """With the package installed at the sites, a site that forbids foreign code can run it."""
    assert not list(exported.rglob("*.py"))


@pytest.mark.parametrize("sites", [{"clients": ["site-1", "site-2"]}, {"num_clients": 2}])
def test_fewer_sites_than_the_job_needs_are_refused_before_flare_starts(tmp_path, job, sites):
    federation = job.federation.model_copy(update={"min_sites": 3})
    recipe = PubSwapRecipe(some_spec(job.model_copy(update={"federation": federation}), public_ids=["p1"]))
    with pytest.raises(SettingsError, match=r"^federation\.min_sites is 3, but there are only 2 sites$"):
        recipe.execute(SimEnv(**sites, workspace_root=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
