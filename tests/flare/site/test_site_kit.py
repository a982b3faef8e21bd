"""What `fedrlvr site init` writes, read by FLARE's own code."""

import json

import pytest
import yaml
from nvflare.fuel.sec.authz import AuthzContext, Person
from nvflare.lighter.utils import load_yaml
from nvflare.security.security import COMMAND_CATEGORIES, FLAuthorizer

from fedrlvr.flare.site.lockdown import check_authorization, check_resources
from fedrlvr.flare.site.site_kit import (
    JOB_CLASSES,
    OF_CODE,
    filled_in,
    followed_live,
    server_kit,
    site_kit,
    without_foreign_code,
    write_new,
)
from fedrlvr.flare.trackers import TRACKERS
from fedrlvr.flare.workarounds import NoRemoteShell
from fedrlvr.protocol.refused import Refused
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.shipped import template
from fedrlvr.site_config import SiteConfig

RIGHTS = {*COMMAND_CATEGORIES, *COMMAND_CATEGORIES.values(), "submit_job", "clone_job", *OF_CODE}


@pytest.fixture(scope="module")
def flare() -> dict:
    """FLARE's own templates for provisioning."""
    import nvflare.lighter.templates as templates

    return load_yaml(f"{templates.__path__[0]}/master_template.yml")


ROLES = ("project_admin", "org_admin", "lead", "member", "stranger")


def decisions(authorization: dict, roles=ROLES, rights=RIGHTS) -> dict:
    """What FLARE decides for users of the site's organisation and of another, for a job that one of them submitted."""
    site = FLAuthorizer("ward", authorization)
    users = [Person(f"{role}@{org}", org, role) for role in roles for org in ("ward", "uni")]
    submitter = Person("lead@uni", "uni", "lead")
    return {
        (user.name, right): site.authorize(AuthzContext(right, user, submitter))[0]
        for user in users
        for right in rights
    }


@pytest.mark.parametrize("name", ["default_authz", "cc_authz"])
def test_nobody_may_bring_code_and_nothing_else_changes(flare, name):
    before = json.loads(flare[name])
    after = without_foreign_code(before)
    decided, changed = decisions(before), decisions(after)
    assert not any(allowed for (_, right), allowed in changed.items() if right in OF_CODE)
    assert decided["project_admin@uni", "byoc"]
    for (user, right), allowed in decided.items():
        if right not in OF_CODE:
            assert changed[user, right] == allowed, (user, right)
    check_authorization(after)
    with pytest.raises(Refused, match=r"lets jobs bring code \(byoc project_admin: any"):
        check_authorization(before)


def test_without_a_default_the_shipped_authorization_is_flares_without_code(flare):
    assert json.loads(template("authorization.json")) == without_foreign_code(json.loads(flare["default_authz"]))


@pytest.mark.parametrize("spelling", ["BYOC", " Byoc ", "byoc"])
def test_a_right_spelt_otherwise_is_the_same_right(spelling):
    policy = {"format_version": "1.0", "permissions": {"lead": {spelling: "any", "view": "o:site"}, "boss": "o:uni"}}
    with pytest.raises(Refused, match=r"byoc lead: any, boss: o:uni"):
        check_authorization(policy)
    after = without_foreign_code(policy)
    check_authorization(after)
    assert not any(allowed for (_, right), allowed in decisions(after, ("lead", "boss")).items() if right == "byoc")
    assert decisions(after, ("boss",))["boss@uni", "submit_job"]
    assert not decisions(after, ("boss",))["boss@ward", "submit_job"]


@pytest.mark.parametrize(
    "said", [None, {}, {"format_version": "1.0", "permissions": []}, {"permissions": {"a": "any"}}]
)
def test_an_authorization_that_flare_would_not_read_is_refused(said):
    with pytest.raises(Refused, match=r"its authorization\.json: "):
        check_authorization(said)


def provisioned(flare: dict, side: str) -> str:
    """FLARE's local_client_resources or local_server_resources, its placeholders filled."""
    text = flare[f"local_{side}_resources"]
    for name, value in (("class_allow_list", '["a.B"]'), ("allow_log_streaming", "true")):
        text = text.replace(f"{{~~{name}~~}}", value)
    return text.replace("{~~num_gpus~~}", "2").replace("{~~gpu_mem~~}", "80")


def test_a_provisioned_sites_resources_keep_what_it_has_and_shut_what_is_open(flare, tmp_path):
    (tmp_path / "resources.json.default").write_text(provisioned(flare, "client"))
    kit = site_kit(tmp_path, "sealed", {})
    before = json.loads(provisioned(flare, "client"))
    resources = json.loads(kit["resources.json"])
    check_resources(resources)
    assert resources["class_allow_list"] == ["fedrlvr.flare.site.executor.SiteExecutor"]
    shell = {"id": "no_remote_shell", "path": f"{NoRemoteShell.__module__}.{NoRemoteShell.__name__}"}
    assert resources["components"] == [*before["components"], shell]
    ours = {"class_allow_list", "allow_log_streaming", "components"}
    assert {k: v for k, v in resources.items() if k not in ours} == {k: v for k, v in before.items() if k not in ours}


def test_a_provisioned_server_runs_our_controller_and_keeps_jobs_in_its_workspace(flare, tmp_path):
    local = tmp_path / "server" / "local"
    local.mkdir(parents=True)
    (local / "resources.json.default").write_text(provisioned(flare, "server"))
    (local / "authorization.json.default").write_text(flare["default_authz"])
    resources = json.loads(server_kit(local)["resources.json"])
    check_resources(resources | {"allow_log_streaming": False, "class_allow_list": []})
    assert set(resources["class_allow_list"]) < {*JOB_CLASSES, TRACKERS["tensorboard"]}
    (manager,) = (part for part in resources["components"] if part["id"] == "job_manager")
    assert manager["args"]["uri_root"] == f"{tmp_path}/server/jobs-storage"
    storage = resources["snapshot_persistor"]["args"]["storage"]["args"]
    assert storage == {"root_dir": f"{tmp_path}/server/snapshot-storage", "uri_root": "/"}
    elsewhere = json.dumps({"servers": [], "uri_root": "/srv/flare/jobs"})
    (local / "resources.json.default").write_text(elsewhere)
    assert json.loads(server_kit(local)["resources.json"])["uri_root"] == "/srv/flare/jobs"


@pytest.mark.parametrize("name", ["default_authz", "cc_authz"])
def test_who_may_submit_a_job_may_follow_it_and_nothing_else_changes(flare, name):
    before = json.loads(flare[name])
    rights = RIGHTS | {"app_command"}  # a server's only
    decided, changed = (decisions(said, rights=rights) for said in (before, followed_live(before)))
    new = {key for key, allowed in changed.items() if allowed != decided[key]}
    assert new <= {("lead@uni", "app_command")}
    assert changed["lead@uni", "app_command"]
    assert not changed["member@uni", "app_command"]
    assert not changed["lead@ward", "app_command"]  # another's job


def test_a_server_without_its_default_and_one_that_is_damaged_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="expected the local/ folder of a FLARE server"):
        server_kit(tmp_path)
    (tmp_path / "resources.json.default").write_text("{")
    with pytest.raises(SettingsError, match=r"resources\.json\.default: not valid JSON"):
        server_kit(tmp_path)
    (tmp_path / "resources.json.default").write_text("{}")
    with pytest.raises(SettingsError, match=r"no authorization\.json\.default; expected the local/ folder of"):
        server_kit(tmp_path)
    (tmp_path / "authorization.json.default").write_text('{"permissions": []}')
    with pytest.raises(SettingsError, match="a mapping of roles to their rights"):
        site_kit(tmp_path, "open", {})
    (tmp_path / "resources.json.default").write_text('{"servers": []}')
    with pytest.raises(SettingsError, match="a mapping of roles to their rights"):
        server_kit(tmp_path)


def test_the_site_files_template_is_a_site_file():
    text = template("fedrlvr.yaml")
    assert validate_settings(SiteConfig, yaml.safe_load(text), "template").worker.launch is None
    uncommented = "\n".join(line.removeprefix("# ") if ": " in line else line for line in text.splitlines()[2:])
    assert validate_settings(SiteConfig, yaml.safe_load(uncommented), "template").worker.launch.startswith("deepspeed ")


@pytest.mark.parametrize(
    "value", ["plain", "with space", "a: b", "x #1", "true", "7", "", "{brace}", "'", '"', "- x", "*a", "~", "Ärzte", 7]
)
def test_any_value_is_read_back_as_it_was_given(value):
    text = filled_in(template("fedrlvr.yaml"), {"model": value, "heldout_problems": "h"})
    values = yaml.safe_load(text)
    assert values["model"] == value
    assert values["heldout_problems"] == "h"
    assert values["policy"] == "policy.yaml"
    assert "# the name by which" in text


def test_a_setting_that_the_template_lacks_is_an_error():
    with pytest.raises(ValueError, match="template has no modle"):
        filled_in(template("fedrlvr.yaml"), {"modle": "x"})


def test_files_are_written_all_or_none(tmp_path):
    (tmp_path / "b").write_text("mine")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=r"has b, c already; nothing was written"):
        write_new(tmp_path, {"a": "1", "b": "2", "c": "3"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    assert (tmp_path / "b").read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        write_new(tmp_path, {"a": "1", "nowhere/d": "4"})
    assert not (tmp_path / "a").exists()
    write_new(tmp_path, {"a": "1"})
    assert (tmp_path / "a").read_text() == "1"
