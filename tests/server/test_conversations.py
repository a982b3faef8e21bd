"""Conversations: each site at its own pace, with a transport whose behaviour is known."""

import pytest
from tests.server.test_client_manager import (
    HERE,
    REQUEST,
    Pending,
    Transport,
    answers,
    fails,
    manager,
    never_comes,
    would_not,
)

from fedrlvr.protocol.answers import StepsAnswer
from fedrlvr.server.client_manager import Asked, Message, QuorumLost


class Slow(Pending):
    """Over after so many looks."""

    def __init__(self, looks, answer):
        super().__init__(ended=None, answer=answer)
        self._looks, self._end = looks, answer

    @property
    def ended(self):
        self._looks -= 1
        return "answered" if self._looks < 0 else None

    @ended.setter
    def ended(self, value):
        pass


def talk(heard: list, site: str, count: int):
    for number in range(count):
        answer = yield Asked(Message(REQUEST), lambda request, answer, tensors: answer.seconds)
        heard.append((site, number, answer))
        if answer is None:
            return


def test_conversations_go_on_at_their_own_pace():
    """site-2 looks busy for longer; site-1 is through with all its questions before."""
    slow = StepsAnswer(envelope=HERE, seconds=0.0, steps=[])
    heard, (sites, failures) = [], manager(Transport(site_1=answers, site_2=lambda message: Slow(12, slow)))
    sites.converse({site: talk(heard, site, 3) for site in ("site-1", "site-2")})
    assert [(site, number) for site, number, _ in heard[:3]] == [("site-1", 0), ("site-1", 1), ("site-1", 2)]
    assert [(site, number) for site, number, _ in heard[3:]] == [("site-2", 0), ("site-2", 1), ("site-2", 2)]
    assert not failures


def test_a_failure_ends_one_conversation_and_no_other():
    heard, (sites, failures) = [], manager(Transport(site_1=fails, site_2=answers, site_3=never_comes))
    sites.converse({site: talk(heard, site, 2) for site in ("site-1", "site-2", "site-3")})
    assert ("site-1", 0, None) in heard
    assert ("site-3", 0, None) in heard
    assert [number for site, number, answer in heard if site == "site-2" and answer is not None] == [0, 1]
    assert {failure["site"] for failure in failures} == {"site-1", "site-3"}
    assert (sites.active, sites.returning) == (["site-2"], ["site-1"])


def test_conversations_end_where_too_few_sites_are_left():
    heard, (sites, _) = [], manager(Transport(site_1=would_not, site_2=would_not, site_3=answers), min_sites=2)
    with pytest.raises(QuorumLost, match="only 1 of 3"):
        sites.converse({site: talk(heard, site, 50) for site in ("site-1", "site-2", "site-3")})


def test_a_site_that_may_return_can_be_taken_back():
    sites, _ = manager(Transport(site_1=fails, site_2=would_not, site_3=answers))
    heard = []
    sites.converse({site: talk(heard, site, 1) for site in ("site-1", "site-2", "site-3")})
    assert (sites.active, sites.returning) == (["site-3"], ["site-1"])
    assert sites.take_back("site-1")
    assert (sites.active, sites.returning) == (["site-1", "site-3"], [])
    assert not sites.take_back("site-2")
    assert not sites.take_back("site-3")
