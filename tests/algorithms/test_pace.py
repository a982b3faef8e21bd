"""Who has time for another segment, by hand."""

from fedrlvr.algorithms.pace import Paces


def walk(slowness: dict[str, float], segments: int) -> dict[str, int]:
    """How many segments each site does: the site that is free first asks first."""
    paces, free, done = Paces(segments, list(slowness)), dict.fromkeys(slowness, 0.0), dict.fromkeys(slowness, 0)
    for site in slowness:
        paces.begin(site, 0.0)
    while free:
        site = min(free, key=free.get)
        if done[site] < segments and paces.has_time(site, free[site]):
            free[site] += slowness[site]
            done[site] += 1
            paces.done(site, free[site])
        else:
            del free[site]
    return done


def test_equal_sites_do_equally_much():
    assert walk({"a": 1.0, "b": 1.0, "c": 1.0}, 8) == {"a": 8, "b": 8, "c": 8}


def test_sites_that_are_nearly_equal_do_equally_much():
    """The slowest is 5% behind: after eight segments less than half of one."""
    assert walk({"a": 1.0, "b": 1.02, "c": 1.05, "d": 0.97}, 8) == {"a": 8, "b": 8, "c": 8, "d": 8}


def test_a_site_four_times_slower_does_a_quarter():
    assert walk({"a": 1.0, "b": 1.0, "c": 1.0, "d": 4.0}, 8) == {"a": 8, "b": 8, "c": 8, "d": 2}


def test_of_two_the_faster_one_decides():
    assert walk({"a": 1.0, "b": 3.0}, 6) == {"a": 6, "b": 2}


def test_a_fast_site_does_not_hurry_the_others():
    assert walk({"a": 0.25, "b": 1.0, "c": 1.0}, 4) == {"a": 4, "b": 4, "c": 4}


def test_the_first_segment_has_time_always():
    paces = Paces(4, ["a", "b"])
    for site in ("a", "b"):
        paces.begin(site, 0.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        paces.done("a", now)
    assert paces.has_time("b", 100.0)
    paces.done("b", 101.0)
    assert not paces.has_time("b", 101.0)


def test_nobody_goes_by_the_pace_of_a_site_that_is_out():
    """The fast one of two dies after its first segment; the other has time for all of its own."""
    paces = Paces(4, ["a", "b"])
    for site in ("a", "b"):
        paces.begin(site, 0.0)
    paces.done("a", 1.0)
    paces.done("b", 4.0)
    assert not paces.has_time("b", 4.0)
    paces.out("a")
    assert paces.has_time("b", 4.0)


def test_work_is_what_was_trained_and_at_least_one_segment():
    paces = Paces(4, ["a", "b"])
    for site in ("a", "b"):
        paces.begin(site, 0.0)
    paces.trained("a")
    paces.done("a", 1.0)
    paces.trained("a")  # and then it failed
    assert (paces.work_of("a"), paces.work_of("b")) == (2, 1)
