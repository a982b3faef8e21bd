"""A site whose log and ledger were exchanged for older copies during a run notices by the server's receipt."""

import re

import pytest
from tests.runs import heard, of, run_here, spec_of

from fedrlvr.launch.local import LocalRun
from fedrlvr.privacy.accountant import SiteNoise
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.incidents import incident_lines, incidents
from fedrlvr.settings_file import load_settings

RULES = {"adapters": {"clip_norm": 1.0, "noise_multiplier": 100.0}}


@pytest.fixture
def sites(site_files):
    """Two sites; site-2 adds noise, and so has a log and a ledger."""
    _, configs = site_files({"site-1": ("A",), "site-2": ("B",)})
    config = configs["site-2"]
    SitePolicy(**RULES).write(config.state_dir / "policy.yaml")
    return configs | {"site-2": config.model_copy(update={"policy": config.state_dir / "policy.yaml"})}


def records(sites) -> tuple[EgressLog, Ledger]:
    policy = load_settings(SitePolicy, sites["site-2"].policy)
    return EgressLog(policy.log), Ledger(policy.ledger, "site-2")


def copied(sites) -> dict:
    paths = [path for log in records(sites) for path in (log.path, log.head)]
    return {path: path.read_bytes() if path.exists() else None for path in paths}


def put_back(older: dict) -> None:
    for path, content in older.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)


def kept_back(events: list[dict]) -> list[str]:
    """Why site-2 failed, as the lead is told."""
    lines = incident_lines({**incidents(events), "swap": {"rejected_answers": 0}})
    return [line for line in lines if line.startswith("failed: site-2")]


def test_older_copies_are_noticed_in_the_run_that_wrote_the_newer_ones(small_job, sites, tmp_path):
    kept = []

    def hear(event):
        if event["event"] == "round":
            kept.append(copied(sites))
        if len(kept) == 2 and event["event"] == "evaluation" and event["which"] == "global":
            put_back(kept[0])

    run = LocalRun(tmp_path / "run", spec_of(small_job(federation__rounds=3), sites), sites)
    events = heard(run, hear)
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]] * 2 + [["site-1"]]
    (line,) = kept_back(events)
    assert "the server has a receipt for a line that is missing here, so log and ledger are older copies" in line
    log, ledger = records(sites)
    assert [e["kind"] for e in log.entries() if e["decision"] == "released"].count("adapter") == 1
    (spent,) = ledger.charges(Source(sites["site-2"].model), SiteNoise)
    assert spent.releases == 1  # the site refused, so nothing was spent twice


def test_a_resumed_run_has_the_receipts_and_a_lost_one_can_be_given_up(small_job, sites, tmp_path):
    job, older = small_job(federation__rounds=1), []
    first = LocalRun(tmp_path / "run", spec_of(job, sites), sites)
    heard(first, lambda event: older or older.append(copied(sites)) if event["event"] == "step" else None)
    put_back(older[0])

    def resumed(rounds: int) -> list[dict]:
        more = spec_of(small_job(federation__rounds=rounds), sites, run=first._spec.run, resume=True)
        return run_here(tmp_path / "run", more, sites)[0]

    line = kept_back(resumed(2))[0]
    receipt = re.search(r"lost_receipts in the site's policy: ([0-9a-f]{64})$", line)[1]
    policy = SitePolicy(**RULES, lost_receipts=[receipt])
    policy.write(sites["site-2"].policy)
    events = resumed(3)
    again = next(number for number, event in enumerate(events) if event.get("after") == 1)
    assert kept_back(events[again:]) == []
    assert of(events, "average")[-1]["sites"] == ["site-1", "site-2"]
    # By now the server has a newer receipt, and the older copies are noticed again.
    put_back(older[0])
    assert receipt not in kept_back(resumed(4)[len(events) :])[0]


def test_another_run_begins_without_receipts(small_job, sites, tmp_path):
    older, spec = [], spec_of(small_job(), sites)
    heard(LocalRun(tmp_path / "one", spec, sites), lambda event: older or older.append(copied(sites)))
    put_back(older[0])
    assert kept_back(run_here(tmp_path / "two", spec_of(small_job(), sites), sites)[0]) == []
