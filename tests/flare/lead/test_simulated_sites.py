"""What a FLARE script gets from `simulated_workspace`, and what it refuses before FLARE starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedrlvr.flare.lead.simulated_sites import quiet_log, server_folder, simulated_workspace
from fedrlvr.flare.site.site_kit import JOB_CLASSES
from fedrlvr.server.round_store import runs_folder
from fedrlvr.settings_file import load_settings
from fedrlvr.site_config import SiteConfig


@pytest.fixture
def sites(site_files) -> dict[str, SiteConfig]:
    return site_files({"site-1": ("A",), "site-2": ("B",)})[1]


def test_each_site_has_its_file_and_a_job_may_name_our_classes(sites, tmp_path):
    workspace = simulated_workspace(tmp_path / "flare", "mine", sites)
    assert workspace == tmp_path / "flare" / "mine"
    for name, config in sites.items():
        assert load_settings(SiteConfig, workspace / "local" / f"fedrlvr.{name}.yaml") == config
    resources = json.loads((workspace / "local" / "resources.json").read_text())
    assert set(resources["class_allow_list"]) >= JOB_CLASSES
    assert not (workspace / "local" / "privacy.json").exists()
    assert runs_folder(workspace) == workspace / "fedrlvr"
    assert server_folder(workspace).is_relative_to(workspace)


def test_paths_from_the_current_folder_lead_to_the_same_files_at_the_site(sites, tmp_path, monkeypatch):
    """A site's file takes relative paths from its own folder."""
    monkeypatch.chdir(tmp_path)
    relative = {
        name: config.model_copy(update={"private_problems": config.private_problems.relative_to(tmp_path)})
        for name, config in sites.items()
    }
    assert relative["site-1"].private_problems == Path("data/site-1.jsonl")
    workspace = simulated_workspace(Path("flare"), "mine", relative)
    assert workspace == tmp_path / "flare" / "mine"
    read = load_settings(SiteConfig, workspace / "local" / "fedrlvr.site-1.yaml")
    assert read == sites["site-1"]


def test_a_sites_policy_has_flare_apply_it_and_the_server_may_keep_its_rounds_elsewhere(sites, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("{}")
    sites["site-2"] = sites["site-2"].model_copy(update={"policy": policy})
    workspace = simulated_workspace(tmp_path / "flare", "mine", sites, tmp_path / "kept")
    privacy = json.loads((workspace / "local" / "privacy.json").read_text())
    assert privacy["components"][0]["path"].endswith(".SimulatedSite")
    assert privacy["scopes"]
    assert runs_folder(workspace) == tmp_path / "kept"


def test_what_cannot_work_is_said_before_flare_starts(sites, tmp_path):
    lost = sites | {"site-2": sites["site-2"].model_copy(update={"public_problems": tmp_path / "none.jsonl"})}
    with pytest.raises(FileNotFoundError, match=r"^site-2: public_problems: no such file: .*none\.jsonl$"):
        simulated_workspace(tmp_path / "flare", "mine", lost)
    with pytest.raises(ValueError, match=r"^sites: expected at least one"):
        simulated_workspace(tmp_path / "flare", "mine", {})
    with pytest.raises(ValueError, match=r"^workspace_root: FLARE cannot work under a path with a space in it"):
        simulated_workspace(tmp_path / "my flare", "mine", sites)


def test_a_quiet_log_has_flare_write_all_to_its_files_and_show_only_warnings(sites, tmp_path):
    workspace = simulated_workspace(tmp_path / "flare", "mine", sites)
    said = "import sys, logging; from nvflare.fuel.utils.log_utils import dynamic_log_config as configure;"
    said += "configure(*sys.argv[1:3], ''); log = logging.getLogger('nvflare.app_common.x');"
    said += "log.info('some chatter'); log.warning('a worry')"
    command = [sys.executable, "-c", said, quiet_log(workspace), str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "a worry" in shown
    assert "chatter" not in shown
    assert "some chatter" in (tmp_path / "log.txt").read_text()
