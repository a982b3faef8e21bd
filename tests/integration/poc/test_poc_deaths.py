"""A run on a proof of concept in which things are killed for real: a site's FLARE process, a whole site, the server."""

from __future__ import annotations

import signal

import pytest
from tests.integration.poc.deployed import (
    JOB,
    NAMES,
    SEED,
    events_of,
    kill,
    of_site,
    poc_run,
    run,
    start,
    submit,
    wait_for_round,
    wait_until,
    workers,
)
from tests.runs import adapter_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_run_below_its_quorum_ends_and_one_whose_server_dies_goes_on_to_the_adapter_of_a_calm_one(
    poc, arguments, calm, lead
):
    """One run: a site's FLARE process dies, and it ends naming the site. One command goes on. Then the server dies in
    the middle of a round. Started again, it is where it was, and one command goes on to the end."""
    job, lost = submit(poc, lead, SEED, "federation.min_sites=3"), lead / f"demo-pubswap-seed{SEED}"
    first = wait_for_round(poc, lost, 1)
    kill(of_site(poc, "site-2", "worker_process"))
    out = job.communicate(timeout=400)[0]
    assert job.returncode == 1, out
    assert "site-2" in out.split("error: the run did not finish: ")[1]

    job = start(JOB, "--resume-from", lost)
    wait_for_round(poc, lost, 1, earlier=first)
    kill(of_site(poc, poc.project.server))
    wait_until(job, "no connection to the server")
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=300)
    assert run(JOB, "--resume-from", lost)[0] == 2  # what is to run it does not run
    code, out = poc_run("up", *arguments)
    assert (code, "is up" in out) == (0, True), out
    code, out = run(JOB, "--resume-from", lost)
    assert code == 0, out
    events = events_of(lost)
    assert [e["after"] for e in events if e["event"] == "resumed"] == [0]
    assert [e["round"] for e in events if e["event"] == "average"] == [0, 1, 2]
    assert adapter_of(lost) == calm


def test_a_sites_flare_process_and_then_a_whole_other_site_die_and_the_rest_goes_on(poc, calm, lead):
    """The site is killed at work in the only segment of the last round: it is waited for no longer than that once."""
    more = ["rounds=4", "segments_per_round=1", "min_sites=1", "step_deadline=8"]
    more = [*(f"federation.{setting}" for setting in more), "exchange.schedule=[0,2]"]
    more.append("evaluation={samples: 1, every_segments: 9}")
    job, folder = submit(poc, lead, SEED, *more), lead / f"demo-pubswap-seed{SEED}"
    wait_for_round(poc, folder, 1)
    kill(of_site(poc, "site-2", "worker_process"))
    wait_for_round(poc, folder, 3)
    kill(of_site(poc, "site-3") + [w for w in workers(poc) if w.parent() in of_site(poc, "site-3")])
    out = job.communicate(timeout=400)[0]
    assert job.returncode == 0, out
    events = events_of(folder)
    assert events[-1]["event"] == "end"
    assert {e["site"] for e in events if e["event"] == "failure"} == {"site-2", "site-3"}
    averaged = [e["sites"] for e in events if e["event"] == "average"]
    assert averaged == [NAMES, ["site-1", "site-3"], ["site-1", "site-3"], ["site-1"]]
    assert adapter_of(folder) != calm
    assert not workers(poc)
