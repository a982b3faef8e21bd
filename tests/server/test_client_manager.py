"""Asking several sites at once, with a transport whose behaviour is known: who answers, who does not, who is left."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from nvflare.apis.controller_spec import TaskCompletionStatus
from nvflare.apis.shareable import Shareable

from fedrlvr.flare.messages import answer, envelope, error_answer, request
from fedrlvr.privacy.guards import Refused
from fedrlvr.server.client_manager import QuorumLost, RunAborted, Sites

HERE = envelope("manifest", 0, 0)


class Transport:
    """Stands for FLARE's communicator: `behaviour` maps a site to a function of (its task, its request)."""

    def __init__(self, **behaviour):
        self.behaviour = {name.replace("_", "-"): act for name, act in behaviour.items()}

    def send(self, task, fl_ctx, targets):
        self.behaviour[targets[0]](task, task.data)

    def cancel_task(self, task, fl_ctx):
        task.completion_status = TaskCompletionStatus.CANCELLED


def answers(task, message: Shareable, reply: Shareable | None = None) -> None:
    reply = reply or answer("train", message, {"metrics": []}, None, seconds=2.0)
    client_task = SimpleNamespace(id=f"id {id(task)}", result=reply)
    task.after_task_sent_cb(client_task, None)
    task.result_received_cb(client_task, None)
    task.completion_status = TaskCompletionStatus.OK


def fails(task, message) -> None:
    answers(task, message, error_answer("disk full"))


def would_not(task, message) -> None:
    answers(task, message, error_answer("not this job", refusal=True))


def works_too_long(task, message) -> None:
    task.after_task_sent_cb(SimpleNamespace(id="too long"), None)
    task.completion_status = TaskCompletionStatus.TIMEOUT


def never_comes(task, message) -> None:
    pass


def dies_at_work(task, message) -> None:
    task.after_task_sent_cb(SimpleNamespace(id="dead"), None)
    task.completion_status = TaskCompletionStatus.CLIENT_DEAD


def ask(transport: Transport, min_sites=1, check=lambda data: data, optional=False, triggered=False, **more):
    failures = []
    sites = Sites(
        transport, None, SimpleNamespace(triggered=triggered), sorted(transport.behaviour), min_sites,
        first_deadline=70.0, on_failure=lambda **failure: failures.append(failure),
        **{"deadline": 10.0, "pickup_deadline": 0.2} | more,
    )  # fmt: skip
    sites.begin_round()
    result = sites.ask("train", {site: request(HERE, {}) for site in sites.names}, check, optional)
    return sites, result, failures


def test_good_answers_come_back_in_the_sites_order():
    sites, result, failures = ask(Transport(site_2=answers, site_1=answers))
    assert list(result) == ["site-1", "site-2"]
    assert sites.seconds == {"site-1": 2.0, "site-2": 2.0}
    assert not failures


@pytest.mark.parametrize(
    ("behaviour", "reason", "returns"),
    [
        (fails, "disk full", True),
        (would_not, "not this job", False),
        (never_comes, "did not come for the task within 0.2 s; is its job process running", False),
        (works_too_long, r"no answer \(timeout\)", True),
        (dies_at_work, "the site is gone", False),
    ],
)
def test_a_site_that_fails_is_out_and_the_others_go_on(behaviour, reason, returns):
    """Until the next segment if it tried, until the next round if it did not."""
    sites, result, failures = ask(Transport(site_1=behaviour, site_2=answers))
    assert list(result) == ["site-2"]
    assert sites.active == ["site-2"]
    assert [(f["site"], f["task"]) for f in failures] == [("site-1", "train")]
    assert re.search(reason, failures[0]["reason"])
    assert sites.begin_segment() == (["site-1"] if returns else [])
    assert sites.active == (["site-1", "site-2"] if returns else ["site-2"])
    assert sites.begin_segment() == []
    sites.begin_round()
    assert sites.active == ["site-1", "site-2"]


def test_what_was_fetched_and_not_answered_is_known_by_its_id():
    """By it a late answer is told from any other that nobody asked for."""
    sites, _, _ = ask(Transport(site_1=works_too_long, site_2=answers, site_3=never_comes, site_4=fails))
    assert sites.unanswered == {"too long": ("site-1", "train")}


def test_a_site_that_may_come_back_counts_until_it_is_needed():
    sites, _, _ = ask(Transport(site_1=fails, site_2=answers), min_sites=2)
    with pytest.raises(QuorumLost, match=r"only 1 of 2 sites are left"):
        sites.check_quorum()
    sites.begin_segment()
    sites.check_quorum()


def test_a_site_has_time_to_start_a_worker_until_it_has_answered_and_after_it_failed():
    timeouts = {"site-1": [], "site-2": []}
    broken = set()

    def act(site):
        def behave(task, message):
            timeouts[site].append(task.timeout)
            (fails if site in broken else answers)(task, message)

        return behave

    sites, _, _ = ask(Transport(site_1=act("site-1"), site_2=act("site-2")))
    for failing in ({"site-2"}, set(), set()):
        broken |= failing
        broken &= failing
        sites.begin_round()
        sites.ask("train", {site: request(HERE, {}) for site in sites.names}, lambda data: data)
    assert timeouts == {"site-1": [70, 10, 10, 10], "site-2": [70, 10, 70, 10]}


def test_an_optional_answer_that_is_missing_keeps_its_site_in_the_round():
    sites, result, failures = ask(Transport(site_1=answers, site_2=fails), optional=True)
    assert list(result) == ["site-1"]
    assert sites.active == ["site-1", "site-2"]
    assert len(failures) == 1


def test_an_answer_that_the_check_refuses_is_a_failure():
    def check(data):
        raise Refused("not like this")

    with pytest.raises(
        QuorumLost, match=r"only 0 of 1 sites are left, .*min_sites is 1. site-1 failed in train: not like"
    ):
        ask(Transport(site_1=answers), check=check)


def test_an_answer_that_no_check_foresaw_costs_its_site_the_round_and_nobody_else(caplog):
    def check(data):
        return data["metrics"] / 0

    sites, _, failures = ask(Transport(site_1=answers, site_2=fails), check=check, min_sites=0)
    assert "the answer of site-1 to train" in caplog.text  # with where it came from: the fault may be ours
    assert [f["reason"] for f in failures] == ["its answer cannot be read: TypeError", "disk full"]
    assert sites.begin_segment() == ["site-2"]


def test_below_the_quorum_every_failure_is_named():
    with pytest.raises(
        QuorumLost, match=r"only 1 of 3 sites.*min_sites is 2.*site-1 failed in train: not this job; site-3"
    ):
        ask(Transport(site_1=would_not, site_2=answers, site_3=dies_at_work), min_sites=2)


def test_a_site_that_is_gone_is_not_asked():
    transport = Transport(site_1=answers, site_2=never_comes)
    _, result, failures = ask(transport, is_gone=lambda site: site == "site-2")
    assert list(result) == ["site-1"]
    assert "FLARE has not heard of its job for too long" in failures[0]["reason"]


def test_a_site_that_did_not_come_is_waited_for_less_until_it_comes():
    comes = []

    def behave(task, message):
        if comes:
            answers(task, message)

    sites, _, failures = ask(Transport(site_1=answers, site_2=behave), pickup_deadline=0.6)
    for back in ((), (1,), (1,), ()):
        comes[:] = back
        sites.begin_round()
        sites.ask("train", {site: request(HERE, {}) for site in sites.names}, lambda data: data)
    waited = [re.search(r"within ([0-9.]+) s", failure["reason"])[1] for failure in failures]
    assert waited == ["0.6", "0.1", "0.6"]


def test_a_site_at_work_has_no_longer_to_come_than_to_answer():
    """Its task is over at `deadline`, 0.3 s: what is told is how long it was really waited for."""
    came = []

    def behave(task, message):
        if not came:
            came.append(task)
            answers(task, message)

    sites, _, failures = ask(Transport(site_1=answers, site_2=behave), deadline=0.3, pickup_deadline=0.6)
    sites.ask("train", {site: request(HERE, {}) for site in sites.names}, lambda data: data)
    assert [f["reason"].split("within ")[1].split(";")[0] for f in failures] == ["0.3 s"]


def test_an_abort_ends_the_waiting():
    with pytest.raises(RunAborted):
        ask(Transport(site_1=never_comes), triggered=True)
