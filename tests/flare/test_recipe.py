"""The job as FLARE would deploy it: components by name, no code, nothing of any site in it."""

from __future__ import annotations

import json

import pytest

from fedrlvr.config import JobConfig
from fedrlvr.flare.recipe import TASKS, PubSwapRecipe


@pytest.fixture
def exported(tmp_path, job):
    PubSwapRecipe(job, ["p1", "p2"], "hash").export(str(tmp_path))
    return tmp_path / "small"


def config(exported, side: str) -> dict:
    return json.loads(next(exported.rglob(f"config_fed_{side}.json")).read_text())


def test_the_server_runs_the_controller_and_sites_the_executor(exported, job):
    server, client = config(exported, "server"), config(exported, "client")
    assert [w["path"] for w in server["workflows"]] == ["fedrlvr.flare.server.controller.PubSwapController"]
    assert server["workflows"][0]["args"]["public_ids"] == ["p1", "p2"]
    (executor,) = client["executors"]
    assert executor["executor"]["path"] == "fedrlvr.flare.site.executor.SiteExecutor"
    assert sorted(executor["tasks"]) == sorted(TASKS)
    for side in (server["workflows"][0], executor["executor"]):
        assert JobConfig.model_validate_json(side["args"]["job"]) == job
        assert side["args"]["manifest"] == "hash"


def test_the_job_carries_no_code(exported):
    """With the package installed at the sites, a site that forbids foreign code can run it."""
    assert not list(exported.rglob("*.py"))


def test_small_tasks_are_not_slowed_down_by_polling(exported):
    assert config(exported, "server")["server"]["task_request_interval"] == 0.2
