"""Asking several sites at once, with a transport whose behaviour is known: who answers, who does not, who is left."""

import re
import threading
import time
from dataclasses import dataclass
from functools import partial

import pytest

from fedrlvr.protocol.answers import Answer, Failure, StepsAnswer
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest
from fedrlvr.server.client_manager import (
    ClientManager,
    Message,
    Patience,
    QuorumLost,
    RealTime,
    RunAborted,
)

HERE = Envelope.here("manifest", 0, 0)
REQUEST = TrainRequest(
    envelope=HERE,
    segments=[Segment(0, 1, ())],
    exchange=False,
    begin_round=True,
    adapter_spec="ab",
)


@dataclass
class Pending:
    fetched: bool = True
    ended: str | None = "answered"
    site_died: bool = False
    answer: Answer | Failure | Refused | None = None

    def reply(self):
        if isinstance(self.answer, Refused):
            raise self.answer
        return None if self.answer is None else (self.answer, None)


class Transport(RealTime):
    """`behaviour` maps a site to a function of its message that says what becomes of its task."""

    aborted = False

    def __init__(self, **behaviour):
        self.behaviour = {name.replace("_", "-"): act for name, act in behaviour.items()}
        self.sites, self.gone, self.timeouts = sorted(self.behaviour), set(), []

    def send(self, site, message, timeout, changed):
        self.timeouts.append((site, timeout))
        return self.behaviour[site](message)

    def withdraw(self, task):
        task.ended = "cancelled"

    def is_gone(self, site):
        return site in self.gone


def answers(message, **changes) -> Pending:
    return Pending(answer=StepsAnswer(**{"envelope": HERE, "seconds": 2.0, "steps": []} | changes))


def fails(message) -> Pending:
    return Pending(answer=Failure.of("disk full"))


def would_not(message) -> Pending:
    return Pending(answer=Failure.of("not this job", would_not=True))


def works_too_long(message) -> Pending:
    return Pending(ended="timeout")


def never_comes(message) -> Pending:
    return Pending(fetched=False, ended=None)


def dies_at_work(message) -> Pending:
    return Pending(ended="client_dead", site_died=True)


def another_round(message) -> Pending:
    return answers(message, envelope=HERE.model_copy(update={"round": 5}))


def nonsense(message) -> Pending:
    return Pending(answer=Refused("the answer to train, steps: Field required"))


def manager(transport: Transport, min_sites=1, pickup=0.2, task=10.0, told=None) -> tuple[ClientManager, list[dict]]:
    """With the failures that it tells, and in `told` everything."""
    failures, told = [], [] if told is None else told

    def tell(event: str, **values) -> None:
        told.append((event, values))
        if event == "failure":
            failures.append(values)

    sites = ClientManager(transport, min_sites, Patience(task, 70.0, pickup), tell)
    sites.begin_round()
    return sites, failures


def ask(sites: ClientManager, check=lambda request, answer, tensors: answer, optional=False):
    return sites.ask({site: Message(REQUEST) for site in sites.names}, check, optional)


def test_good_answers_come_back_in_the_sites_order():
    sites, failures = manager(Transport(site_2=answers, site_1=answers))
    assert list(ask(sites)) == ["site-1", "site-2"]
    assert not failures


def test_a_site_cannot_have_worked_longer_than_it_was_waited_for():
    """It says how long it worked; the lead reads the mean over sites."""
    honest = partial(answers, seconds=1e-9)
    sites, _ = manager(Transport(site_1=honest, site_2=partial(answers, seconds=1e9)))
    ask(sites)
    assert sites.seconds == {"site-1": 1e-9, "site-2": pytest.approx(sites.asking_seconds, abs=1e-3)}
    assert sites.seconds["site-2"] <= sites.asking_seconds


@pytest.mark.parametrize(
    ("behaviour", "reason", "returns"),
    [
        (fails, "disk full", True),
        (would_not, "not this job", False),
        (never_comes, "did not come for the task within 0.2 s; is its job process running", False),
        (works_too_long, r"no answer \(timeout\)", True),
        (dies_at_work, "the site is gone", False),
        (another_round, "round differs: the message says 5, this side has 0", False),
        (nonsense, "steps: Field required", False),
    ],
)
def test_a_site_that_fails_is_out_and_the_others_go_on(behaviour, reason, returns):
    """Until the next segment if it tried, until the next round if it did not."""
    sites, failures = manager(Transport(site_1=behaviour, site_2=answers))
    assert list(ask(sites)) == ["site-2"]
    assert sites.active == ["site-2"]
    assert [(f["site"], f["task"]) for f in failures] == [("site-1", "train")]
    assert re.search(reason, failures[0]["reason"])
    assert sites.begin_segment() == (["site-1"] if returns else [])
    assert sites.active == (["site-1", "site-2"] if returns else ["site-2"])
    assert sites.begin_segment() == []
    sites.begin_round()
    assert sites.active == ["site-1", "site-2"]


def test_a_site_that_may_come_back_counts_until_it_is_needed():
    sites, _ = manager(Transport(site_1=fails, site_2=answers), min_sites=2)
    ask(sites)
    with pytest.raises(QuorumLost, match=r"only 1 of 2 sites are left"):
        sites.check_quorum()
    sites.begin_segment()
    sites.check_quorum()


def test_a_site_has_time_to_start_a_worker_until_it_has_answered_and_after_it_failed():
    broken = set()
    transport = Transport(site_1=answers, site_2=lambda m: fails(m) if broken else answers(m))
    sites, _ = manager(transport)
    for failing in (set(), {"site-2"}, set(), set()):
        broken.clear()
        broken |= failing
        sites.begin_round()
        ask(sites)
    assert [t for site, t in transport.timeouts if site == "site-1"] == [70.0, 10.0, 10.0, 10.0]
    assert [t for site, t in transport.timeouts if site == "site-2"] == [70.0, 10.0, 70.0, 10.0]


def test_an_optional_answer_that_is_missing_keeps_its_site_in_the_round():
    sites, failures = manager(Transport(site_1=answers, site_2=fails))
    assert list(ask(sites, optional=True)) == ["site-1"]
    assert sites.active == ["site-1", "site-2"]
    assert len(failures) == 1


def test_an_answer_that_the_check_refuses_is_a_failure():
    def check(request, answer, tensors):
        raise Refused("not like this")

    sites, _ = manager(Transport(site_1=answers))
    with pytest.raises(
        QuorumLost, match=r"only 0 of 1 sites are left, .*min_sites is 1. site-1 failed in train: not like"
    ):
        ask(sites, check)


def test_an_answer_that_no_check_foresaw_costs_its_site_the_round_and_nobody_else(caplog):
    def check(request, answer, tensors):
        return answer.steps / 0

    sites, failures = manager(Transport(site_1=answers, site_2=fails), min_sites=0)
    ask(sites, check)
    assert "the answer of site-1 to train" in caplog.text  # with where it came from: the fault may be ours
    assert [f["reason"] for f in failures] == ["its answer cannot be read: TypeError", "disk full"]
    assert sites.begin_segment() == ["site-2"]


def test_below_the_quorum_every_failure_is_named():
    sites, _ = manager(Transport(site_1=would_not, site_2=answers, site_3=dies_at_work), min_sites=2)
    with pytest.raises(
        QuorumLost, match=r"only 1 of 3 sites.*min_sites is 2.*site-1 failed in train: not this job; site-3"
    ):
        ask(sites)


def test_below_the_quorum_a_site_that_failed_often_is_named_once():
    """A site that fails at every exchange would otherwise fill the lead's screen."""
    reasons = [f"no {number}" for number in range(50)]
    transport = Transport(site_1=lambda m: Pending(answer=Failure.of(reasons.pop(0))), site_2=answers)
    sites, failures = manager(transport, min_sites=2)
    for _ in range(49):
        ask(sites, optional=True)
    ask(sites)
    with pytest.raises(QuorumLost, match=r"min_sites is 2\. site-1 failed in train: no 49$"):
        sites.check_quorum()
    assert len(failures) == 50


def test_a_site_that_is_gone_is_not_asked():
    transport = Transport(site_1=answers, site_2=never_comes)
    transport.gone = {"site-2"}
    sites, failures = manager(transport)
    assert list(ask(sites)) == ["site-1"]
    assert "FLARE has not heard of its job for too long" in failures[0]["reason"]


def test_a_site_that_did_not_come_is_waited_for_less_until_it_comes():
    comes = []
    sites, failures = manager(
        Transport(site_1=answers, site_2=lambda m: answers(m) if comes else never_comes(m)), pickup=0.6
    )
    for back in ((), (), (1,), (1,), ()):
        comes[:] = back
        sites.begin_round()
        ask(sites)
    waited = [re.search(r"within ([0-9.]+) s", failure["reason"])[1] for failure in failures]
    assert waited == ["0.6", "0.1", "0.6"]


def test_an_answer_that_comes_ends_the_waiting_at_once(monkeypatch):
    """Without being woken, the manager would look again after a minute."""
    monkeypatch.setattr("fedrlvr.server.client_manager.POLL", 60.0)
    transport = Transport(site_1=answers)

    def send(site, message, timeout, changed):
        pending = Pending(ended=None)

        def finish():
            time.sleep(0.1)
            pending.answer, pending.ended = answers(message).answer, "answered"
            changed()

        threading.Thread(target=finish).start()
        return pending

    transport.send = send
    sites, _ = manager(transport)
    assert list(ask(sites)) == ["site-1"]


def test_a_site_at_work_has_no_longer_to_come_than_to_answer():
    """Its task is over after 0.3 s: the reason says how long it was really waited for."""
    came = []

    def comes_once(message):
        came.append(message)
        return answers(message) if len(came) == 1 else never_comes(message)

    sites, failures = manager(Transport(site_1=answers, site_2=comes_once), pickup=0.6, task=0.3)
    ask(sites)
    ask(sites)
    assert [f["reason"].split("within ")[1].split(";")[0] for f in failures] == ["0.3 s"]


def test_an_abort_ends_the_waiting():
    transport = Transport(site_1=never_comes)
    transport.aborted = True
    sites, _ = manager(transport)
    with pytest.raises(RunAborted):
        sites.ask({"site-1": Message(SubmitRequest(envelope=HERE))}, lambda request, answer, tensors: answer)


def test_a_sites_last_receipt_goes_back_to_it_with_every_request():
    given, seen = iter(["1" * 64, "2" * 64, ""]), []

    def with_receipt(message) -> Pending:
        seen.append(message.request.receipt)
        return answers(message, receipt=next(given))

    def without(message) -> Pending:
        assert message.request.receipt == ""
        return fails(message)

    sites, _ = manager(Transport(site_1=with_receipt, site_2=without))
    for _ in range(3):
        ask(sites)
    assert seen == ["", "1" * 64, "2" * 64]
    assert sites.receipts == {"site-1": "2" * 64}  # one that brings none does not take it away
    assert REQUEST.receipt == ""
