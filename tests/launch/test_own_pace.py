"""Whole runs in which each site works at its own pace, by a clock that counts work."""

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests.runs import of, run_here, spec_of

from fedrlvr.comparison.clock import ClockedTransport
from fedrlvr.config import ExchangeSettings
from fedrlvr.launch.local import LocalTask
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.server.own_pace import RoundsAtOwnPace

SITES = {"site-1": ("A",), "site-2": ("B",), "site-3": ("A",), "site-4": ("B",)}
ALL = dict.fromkeys(SITES, 8)  # segments of a round
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
            assert [event["work"] for event in of(events, "average")] == [ALL | {"site-4": 2}] * 2
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


def test_a_failure_costs_a_segment_and_no_more(small_job, sites, tmp_path):
    """site-2 fails once while it trains; it goes on with its next segment, and is there at the average."""
    failed = []

    class Failing(ClockedTransport):
        def send(self, site, message, timeout, changed):
            task = super().send(site, message, timeout, changed)
            if (site, message.request.task) == ("site-2", "train") and message.request.envelope.segment == 2:
                failed.append(site)
                return replace(task, done=LocalTask(lambda: (Failure.of("disk full"), None)))
            return task

    job = small_job(federation__pace="own", **ROUNDS)
    events = run_here(tmp_path, spec_of(job, sites), sites, new_transport=lambda a: Failing(a, {}))[0]
    assert failed == ["site-2"]
    assert [(e["site"], e["task"]) for e in of(events, "failure")] == [("site-2", "train")]
    assert segments_of(events) == dict.fromkeys(SITES, 16) | {"site-2": 15}
    assert [event["work"] for event in of(events, "average")] == [ALL | {"site-2": 7}, ALL]


def test_a_site_that_cannot_be_measured_on_the_way_goes_on(small_job, sites, tmp_path):
    class Blind(ClockedTransport):
        def send(self, site, message, timeout, changed):
            task = super().send(site, message, timeout, changed)
            blind = site == "site-3" and getattr(message.request, "name", "") == "local 3"
            return replace(task, done=LocalTask(lambda: (Failure.of("out of memory"), None))) if blind else task

    job = small_job(federation__pace="own", evaluation__every_segments=4, **ROUNDS)
    events = run_here(tmp_path, spec_of(job, sites), sites, new_transport=lambda a: Blind(a, {}))[0]
    assert len(of(events, "failure")) == 1
    assert segments_of(events) == dict.fromkeys(SITES, 16)
    assert [event["work"] for event in of(events, "average")] == [ALL, ALL]


def test_the_newest_answers_go_first():
    rounds = object.__new__(RoundsAtOwnPace)
    rounds.config = SimpleNamespace(exchange=ExchangeSettings(max_per_site=2))
    rounds._offered, rounds._read = [("site-2", PublicResponse("p", f"#{n}")) for n in range(4)], defaultdict(int)
    assert [response.text for _, response in rounds._news("site-1")] == ["#3", "#2"]
    assert rounds._news("site-1") == []


def test_sites_that_take_turns_have_no_pace(small_job, sites, tmp_path):
    with pytest.raises(ValueError, match=r"federation\.pace: own needs sites that work side by side"):
        run_here(tmp_path, spec_of(small_job(federation__pace="own"), sites), sites)
