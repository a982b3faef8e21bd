"""Whole runs in which each site works at its own pace, by a clock that counts work."""

import pytest
from tests.runs import of, run_here, spec_of

from fedrlvr.comparison.clock import ClockedTransport

SITES = {"site-1": ("A",), "site-2": ("B",), "site-3": ("A",), "site-4": ("B",)}
ROUNDS = {"federation__rounds": 2, "federation__segments_per_round": 8, "federation__min_sites": 4}


@pytest.fixture
def sites(site_files):
    return site_files(SITES)[1]


def run_clocked(folder, job, sites, **slow) -> list[dict]:
    slowness = {name.replace("_", "-"): times for name, times in slow.items()}
    return run_here(folder, spec_of(job, sites), sites, new_transport=lambda a: ClockedTransport(a, slowness))[0]


def segments_of(events) -> dict[str, int]:
    """How many public steps each site took."""
    public = [e["site"] for e in of(events, "step") if e["kind"] == "public"]
    return {site: public.count(site) for site in SITES}


def test_together_everybody_waits_and_at_its_own_pace_nobody_does(small_job, sites, tmp_path):
    """A segment is two batches, so a round of eight takes 16 units; with a site that is four times slower, 64."""
    clocks = {}
    for pace in ("together", "own"):
        job = small_job(federation__pace=pace, **ROUNDS)
        events = run_clocked(tmp_path / pace, job, sites, site_4=4)
        assert not of(events, "failure")
        clocks[pace] = [event["seconds"] for event in of(events, "round")]
        if pace == "own":
            assert segments_of(events) == {"site-1": 16, "site-2": 16, "site-3": 16, "site-4": 4}
            assert all(event["sites"] == list(SITES) for event in of(events, "average"))
    assert clocks == {"together": [64.0, 64.0], "own": [16.0, 16.0]}


def test_equal_sites_do_all_and_learn_from_each_other(small_job, sites, tmp_path):
    job = small_job(federation__pace="own", grpo__num_generations=8, **ROUNDS)
    events = run_clocked(tmp_path, job, sites)
    assert segments_of(events) == dict.fromkeys(SITES, 16)
    assert sum(e["swap/completions"] for e in of(events, "step") if e["kind"] == "public") > 0
    received = sum(e["exchange/received"] for e in of(events, "step") if e["kind"] == "public")
    assert received > 0
    assert len(of(events, "exchange")) == 4 * 16


def test_curves_are_measured_at_each_sites_own_time(small_job, sites, tmp_path):
    job = small_job(federation__pace="own", evaluation__every_segments=4, **ROUNDS)
    local = [e for e in of(run_clocked(tmp_path, job, sites, site_2=4), "evaluation") if e["which"] == "local"]
    assert [(e["segment"], len(e["scores"])) for e in local] == [(3, 3), (7, 4), (11, 3), (15, 4)]
