"""Doctor's checks of a site's privacy files: everything that would let data out, or let nothing out."""

import json
from pathlib import Path

import pytest
import yaml

from fedrlvr.flare.site.site_checks import check_privacy
from fedrlvr.privacy.accountant import SiteNoise
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import template


@pytest.fixture
def site(site_files, tmp_path):
    """`site()` -> {check: finding}, of a site set up with the shipped clinical files; `site.local` is their folder."""
    local = tmp_path / "local"
    local.mkdir()
    for name in ("privacy.json", "resources.json", "authorization.json", "clinical.yaml"):
        (local / name).write_text(template(name))
    _, configs = site_files({"site-1": ("A",)})

    def found(policy: str | None = "clinical.yaml") -> dict:
        config = configs["site-1"].model_copy(update={"policy": local / policy if policy else None})
        return {finding.about: finding for finding in check_privacy(local / "fedrlvr.yaml", config)}

    found.local = local
    found.log, found.ledger = (
        EgressLog(local / "fedrlvr-egress.jsonl"),
        Ledger(local / "fedrlvr-ledger.jsonl", "ward-7"),
    )
    return found


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_site_that_is_set_up_as_shipped(site):
    findings = site()
    assert {about: finding.status for about, finding in findings.items()} == {
        "policy": "ok", "records": "ok", "delta": "ok", "switch": "ok", "other ways": "ok", "byoc": "ok",
    }  # fmt: skip
    assert findings["policy"].text.endswith(
        "adapters clipped to 10, answers shared, none with 5 private words in a row, "
        "none with 3 rare words of a private problem, none with 7 kinds of personal data"
    )
    assert findings["records"].text.startswith("0 messages in ")
    assert not site.log.path.exists()


def test_a_site_where_jobs_may_bring_code_gets_a_warning(site):
    (site.local / "authorization.json").rename(site.local / "authorization.json.default")
    assert site()["byoc"].status == "ok"
    edit(site.local / "authorization.json.default", permissions={"lead": {"view": "any", "byoc": "o:site"}})
    finding = site()["byoc"]
    assert finding.status == "warning"
    assert finding.text == "its authorization.json lets jobs bring code (byoc lead: o:site)"
    (site.local / "authorization.json.default").unlink()
    assert site()["byoc"].text == f"{site.local} has no authorization.json"
    (site.local / "authorization.json").write_text("{")
    assert site()["byoc"].text.endswith("authorization.json: cannot be read")


def test_no_policy_is_a_warning(site):
    (finding,) = site(policy=None).values()
    assert (finding.status, finding.about) == ("warning", "policy")


def test_a_misspelt_rule_is_named(site):
    (site.local / "clinical.yaml").write_text(yaml.safe_dump({"responses": {"max_lenght": 3}}))
    with pytest.raises(SettingsError, match=r"did you mean responses\.max_length\?"):
        site()


def test_records_that_do_not_fit_together(site):
    site.ledger.charge(Source("tiny"), "job-1", SiteNoise(2.0), 1e-5, None)
    with site.log.written(site="ward-7", job="job-1", kind="adapter", ledger=site.ledger.last_hash()) as entry:
        entry["count"] = 1
    assert site()["records"].text.startswith("1 messages in ")
    for path in site.local.glob("fedrlvr-ledger*"):
        path.unlink()
    finding = site()["records"]
    assert finding.status == "failed"
    assert "lines are missing that the egress log has seen" in finding.text


@pytest.mark.parametrize(("delta", "status"), [(0.0624, "ok"), (0.0625, "warning"), (0.5, "warning")])
def test_a_delta_that_would_allow_to_publish_one_of_16_problems(site, delta, status):
    (site.local / "clinical.yaml").write_text(yaml.safe_dump({"training": {"delta": delta}}))
    finding = site()["delta"]
    assert finding.status == status
    assert f"{delta:g} is {'below' if status == 'ok' else 'not below'} 1 / 16 private problems" in finding.text


def test_a_log_that_cannot_be_written(site):
    (site.local / "file").touch()
    (site.local / "clinical.yaml").write_text(yaml.safe_dump({"log": "file/egress.jsonl"}))
    finding = site()["records"]
    assert finding.status == "failed"
    assert "egress.jsonl cannot be written" in finding.text


@pytest.mark.parametrize(
    "switch",
    [
        None,
        "{",
        {"scopes": []},
        {"scopes": [{"name": "fedrlvr", "task_result_filter": []}]},
        {"default_scope": "open"},
        {"scopes": [{"name": "fedrlvr", "task_result_filters": [{"path": "fedrlvr.SiteGate", "direction": "out"}]}]},
        {"scopes": [*json.loads(template("privacy.json"))["scopes"], {"name": "none"}]},
    ],
)
def test_a_gate_that_is_not_on(site, switch):
    path = site.local / "privacy.json"
    if isinstance(switch, dict):
        edit(path, **switch)
    elif switch:
        path.write_text(switch)
    else:
        path.unlink()
    finding = site()["switch"]
    told = (
        f"{path} does not put SiteGate on every job" if switch else f"{path} is missing: it puts SiteGate on every job"
    )
    assert (finding.status, finding.text) == ("failed", told)


def test_flares_own_ways_out(site):
    edit(site.local / "resources.json", components=[])
    assert site()["shell"].status == "warning"
    edit(site.local / "resources.json", allow_log_streaming=True)
    assert site()["other ways"].status == "failed"
    (site.local / "resources.json").write_text("{")
    assert "resources.json: cannot be read" in site()["other ways"].text
    (site.local / "resources.json").unlink()
    assert site()["other ways"].text == f"{site.local} has no resources.json"


def test_a_site_as_provisioned_learns_what_flares_defaults_leave_open(site):
    for name in ("privacy.json", "resources.json", "authorization.json"):
        (site.local / name).unlink()
    default = {"class_allow_list": ["nvflare.app_common.np.np_trainer.NPTrainer"], "allow_log_streaming": True}
    (site.local / "resources.json.default").write_text(json.dumps(default))
    (site.local / "authorization.json.default").write_text('{"format_version": "1.0", "permissions": {"lead": "any"}}')
    found = site()
    assert {about: finding.status for about, finding in found.items()} == {
        "policy": "ok", "records": "ok", "delta": "ok", "switch": "failed", "other ways": "failed", "byoc": "warning",
    }  # fmt: skip
    assert "its resources.json lets a job name more than class_allow_list" in found["other ways"].text
    assert found["byoc"].text == "its authorization.json lets jobs bring code (byoc lead: any)"
    assert all("`fedrlvr site init` writes it" in found[about].remedy for about in ("switch", "other ways", "byoc"))
