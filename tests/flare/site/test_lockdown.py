"""A site with a policy refuses every job while FLARE has another way out of it."""

import json
from types import SimpleNamespace

import pytest
from nvflare.apis.fl_constant import FilterKey, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.private.admin_defs import Message
from nvflare.private.fed.client import shell_cmd

from fedrlvr.flare.lead.simulated_sites import RESOURCES
from fedrlvr.flare.site.gate import SiteGate
from fedrlvr.flare.site.lockdown import check_only_way_out
from fedrlvr.flare.workarounds import NoRemoteShell
from fedrlvr.protocol.refused import Refused
from fedrlvr.shipped import template

SHIPPED = template("resources.json")


@pytest.fixture
def site(tmp_path):
    """`site(resources, gates)`: a FLARE context of a site with this resources.json and number of gates."""

    def make(resources, gates: int = 1) -> FLContext:
        path = tmp_path / "site-1" / "local" / "resources.json"
        path.parent.mkdir(parents=True)
        (path.parents[1] / "startup").mkdir()  # without it FLARE does not accept the folder as a workspace
        path.write_text(resources if isinstance(resources, str) else json.dumps(resources))
        context = FLContext()
        workspace = SimpleNamespace(get_site_config_dir=lambda: str(path.parent))
        context.get_engine = lambda: SimpleNamespace(get_workspace=lambda: workspace)
        context.get_identity_name = lambda default="": "site-1"
        context.set_prop(FLContextKey.WORKSPACE_ROOT, str(path.parents[1]), private=True, sticky=True)
        scope = SimpleNamespace(task_result_filters={FilterKey.OUT: [SiteGate()] * gates})
        context.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True, sticky=True)
        return context

    return make


def test_a_site_that_is_set_up_as_shipped_accepts_jobs(site):
    check_only_way_out(site(json.loads(SHIPPED)))


def test_only_a_simulated_site_may_let_a_job_name_trackers(site):
    """They are its server's there."""
    context = site(RESOURCES)
    with pytest.raises(Refused, match="lets a job name more than"):
        check_only_way_out(context)
    context.set_prop(FLContextKey.SIMULATE_MODE, True, private=True, sticky=False)
    check_only_way_out(context)


GOOD = json.loads(SHIPPED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_allow_list": ["fedrlvr."]}, "lets a job name more than"),  # would include our functions
        ({"class_allow_list": ["*"]}, "lets a job name more than"),
        ({"class_allow_list": [*GOOD["class_allow_list"], "nvflare.app_common.ccwf."]}, "lets a job name more than"),
        ({"class_allow_list": None}, "lets a job name more than"),
        ({"class_list_enforcement_mode": "warn"}, "other than enforce"),
        ({"allow_log_streaming": True}, "FLARE would send its logs to the server"),
    ],
)
def test_every_job_is_refused_while_there_is_another_way_out(site, change, said):
    with pytest.raises(Refused, match=said):
        check_only_way_out(site(GOOD | change))


@pytest.mark.parametrize("missing", ["class_allow_list", "allow_log_streaming"])
def test_a_setting_that_flare_allows_by_default_must_be_present(site, missing):
    with pytest.raises(Refused, match="the site's file names a policy, but"):
        check_only_way_out(site({name: value for name, value in GOOD.items() if name != missing}))


def test_without_the_gate_every_job_is_refused(site):
    with pytest.raises(Refused, match="does not switch SiteGate on"):
        check_only_way_out(site(GOOD, gates=0))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_cannot_be_used(site, text):
    with pytest.raises(Refused, match=r"resources\.json"):
        check_only_way_out(site(text))


def test_the_server_has_no_shell_at_a_site_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shell_cmd, "SHELL_CMD_VALIDATORS", dict(shell_cmd.SHELL_CMD_VALIDATORS))
    monkeypatch.setattr("fedrlvr.flare.workarounds.SHELL_CMD_VALIDATORS", shell_cmd.SHELL_CMD_VALIDATORS)
    (tmp_path / "private.jsonl").write_text("Mrs Smith")

    def asked() -> str:
        request = Message(topic="shell", body=f"cat {tmp_path / 'private.jsonl'}")
        return shell_cmd.ShellCommandProcessor().process(request, None).body

    assert "Mrs Smith" in asked()
    NoRemoteShell()
    assert "Mrs Smith" not in asked()
    assert "not a supported shell command" in asked()
