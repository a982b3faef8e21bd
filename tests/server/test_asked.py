"""What the client manager tells of whom it asks, as that happens."""

from dataclasses import dataclass

import pytest
from tests.server.test_client_manager import Pending, Transport, answers, ask, fails, manager, nonsense, would_not


@dataclass
class Slow(Pending):
    """Answers when it was looked at so many times."""

    looks: int = 3

    @property
    def ended(self):
        self.looks -= 1
        return "answered" if self.looks < 0 else None

    @ended.setter
    def ended(self, value):
        pass


def test_it_tells_who_is_asked_and_whose_task_is_over_as_that_happens():
    """The first site needs a while, and the second has answered long before."""
    told = []
    sites, _ = manager(
        Transport(site_1=lambda message: Slow(answer=answers(message).answer), site_2=answers), told=told
    )
    ask(sites)
    place = {"task": "train", "round": 0, "segment": 0}
    assert told == [
        ("asked", {"site": "site-1"} | place),
        ("asked", {"site": "site-2"} | place),
        ("answered", {"site": "site-2", "task": "train"}),
        ("answered", {"site": "site-1", "task": "train"}),
    ]


@pytest.mark.parametrize(
    ("behaviour", "optional", "out_of"),
    [(fails, False, "segment"), (would_not, False, "round"), (nonsense, False, "round"), (would_not, True, None)],
)
def test_of_a_failure_it_tells_for_how_long_the_site_is_out(behaviour, optional, out_of):
    sites, failures = manager(Transport(site_1=behaviour, site_2=answers))
    ask(sites, optional=optional)
    assert [failure["out_of"] for failure in failures] == [out_of]


def test_a_site_that_is_gone_is_not_told_to_be_asked():
    transport, told = Transport(site_1=answers, site_2=answers), []
    transport.gone.add("site-1")
    sites, _ = manager(transport, told=told)
    ask(sites)
    assert [(event, values["site"]) for event, values in told] == [
        ("asked", "site-2"),
        ("answered", "site-2"),
        ("failure", "site-1"),
    ]
