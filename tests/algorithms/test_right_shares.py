"""What sites tell of their right completions, and the mean of it."""

from fedrlvr.algorithms.right_shares import mean_shares, right_shares
from fedrlvr.types import Completion, Group, Problem


def group(name: str, marks: str) -> Group:
    """1 is right, 0 is wrong, ? was not verified."""
    made = (Completion((1,), None, "", float(m == "1"), verified=m != "?") for m in marks)
    return Group(Problem(name, "?", "1"), tuple(made))


def test_a_share_is_of_what_was_verified():
    groups = [group("p1", "1000"), group("p2", "11?0"), group("p3", "????"), group("p4", "0000")]
    assert right_shares(groups) == {"p1": 0.25, "p2": 2 / 3, "p4": 0.0}


def test_every_site_that_told_of_a_problem_counts_the_same():
    told = [{"p1": 0.25, "p2": 1.0}, {"p1": 0.75}, {}]
    assert mean_shares(told) == {"p1": 0.5, "p2": 1.0}
    assert mean_shares([]) == {}
