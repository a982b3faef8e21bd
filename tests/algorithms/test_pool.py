"""Who gets which public answers, and what a kept pool remembers."""

from hypothesis import given
from hypothesis import settings as quick
from hypothesis import strategies as st

from fedrlvr.algorithms.pool import ResponsePool, pool_for
from fedrlvr.config import ExchangeSettings
from fedrlvr.protocol.records import PooledResponse, PublicResponse
from fedrlvr.streams import stream
from fedrlvr.types import Completion, Problem

PUBLIC = st.builds(PublicResponse, st.sampled_from("pq"), st.sampled_from("uvwxyz"), st.integers(0, 1))


def offers(*written: str) -> dict[str, list[PublicResponse]]:
    """By site; "a/p1/text" is site a's answer `text` to problem p1."""
    by_site: dict[str, list[PublicResponse]] = {}
    for site, problem, text in (line.split("/") for line in written):
        by_site.setdefault(site, []).append(PublicResponse(problem, text))
    return by_site


def completions(*written: str, variant: int = 0) -> list[Completion]:
    """The same lines as a site's verified completions."""
    return [
        Completion((1,), None, text, 1.0, origin=site, problem=Problem(problem, "?", "1", variant=variant))
        for site, problem, text in (line.split("/") for line in written)
    ]


def written(responses: list[PooledResponse]) -> list[str]:
    return [f"{site}/{r.problem_id}/{r.text}" for site, r in responses]


def limits(per_site=9, per_prompt=99) -> ExchangeSettings:
    return ExchangeSettings(max_per_site=per_site, max_per_prompt=per_prompt)


def test_a_site_gets_the_others_answers_but_not_its_own():
    pool = offers("a/p/x", "b/p/y", "c/p/z")
    got = pool_for("b", pool, limits())
    assert written(got) == ["a/p/x", "c/p/z"]
    assert [answer for _, answer in got] == [pool["a"][0], pool["c"][0]]
    assert got[0][1] is pool["a"][0]  # it goes on as it came


def test_its_own_wording_still_comes_when_another_site_says_it_too():
    assert written(pool_for("a", offers("a/p/x", "b/p/x"), limits())) == ["b/p/x"]


def test_no_text_comes_twice_for_a_prompt_but_may_for_two_prompts():
    pool = offers("b/p/x", "b/p/x", "c/p/x", "c/q/x")
    assert written(pool_for("a", pool, limits())) == ["b/p/x", "c/q/x"]


def test_the_quota_per_site_counts_per_prompt():
    pool = offers("b/p/1", "b/p/2", "b/p/3", "b/q/1", "b/q/2", "b/q/3")
    assert written(pool_for("a", pool, limits(per_site=2))) == ["b/p/1", "b/p/2", "b/q/1", "b/q/2"]


def test_a_repeated_answer_does_not_use_up_its_sites_quota():
    assert written(pool_for("a", offers("b/p/1", "b/p/1", "b/p/2"), limits(per_site=2))) == ["b/p/1", "b/p/2"]


def test_sites_take_turns_so_that_none_fills_a_prompts_quota():
    pool = offers("b/p/b1", "b/p/b2", "b/p/b3", "c/p/c1", "d/p/d1", "d/p/d2")
    assert written(pool_for("a", pool, limits(per_prompt=3))) == ["b/p/b1", "c/p/c1", "d/p/d1"]
    everything = written(pool_for("a", pool, limits()))
    assert everything == ["b/p/b1", "c/p/c1", "d/p/d1", "b/p/b2", "d/p/d2", "b/p/b3"]


def test_which_site_answered_first_does_not_matter():
    pool = offers("b/p/b1", "c/p/c1", "b/q/b2", "d/p/d1")
    assert pool_for("a", dict(reversed(pool.items())), limits()) == pool_for("a", pool, limits())


def test_the_same_text_for_another_presentation_is_another_answer():
    pool = {"b": [PublicResponse("p", "x", 1), PublicResponse("p", "x", 2)], "c": [PublicResponse("p", "x", 2)]}
    assert pool_for("a", pool, limits()) == [("b", pool["b"][0]), ("c", pool["c"][0])]


@quick(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(PUBLIC, max_size=12)),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_a_pool_keeps_every_quota_and_wastes_nothing(given_offers, per_site, per_prompt):
    pool = pool_for("a", given_offers, limits(per_site, per_prompt))
    foreign = {(site, response) for site, offered in given_offers.items() if site != "a" for response in offered}
    assert set(pool) <= foreign
    for problem in "pq":
        mine = [(site, response) for site, response in pool if response.problem_id == problem]
        wanted = {(r.text, r.variant) for _, r in foreign if r.problem_id == problem}
        assert len({(r.text, r.variant) for _, r in mine}) == len(mine) <= per_prompt
        assert all(sum(sender == site for sender, _ in mine) <= per_site for site in "bcd")
        assert bool(mine) == bool(wanted)
        if per_site >= len(wanted):
            assert len(mine) == min(per_prompt, len(wanted))


def drawn(pool: ResponsePool, problem: str, *names) -> list[str]:
    return [completion.text for completion in pool.draw(problem, stream(0, "draw", *names))]


def test_a_kept_pool_adds_up_over_exchanges():
    pool = ResponsePool(keep=True, max_per_prompt=9)
    pool.add(completions("b/p/1", "b/q/2"))
    pool.add(completions("c/p/3"))
    assert sorted(drawn(pool, "p")) == ["1", "3"]
    assert drawn(pool, "q") == ["2"]
    assert len(pool.completions()) == 3


def test_the_newest_answers_push_out_the_oldest():
    pool = ResponsePool(keep=True, max_per_prompt=3)
    pool.add(completions("b/p/1", "b/p/2"))
    pool.add(completions("b/p/3", "b/p/4"))
    assert sorted(drawn(pool, "p")) == ["1", "3", "4"]
    pool.add(completions("b/p/5", "b/p/6", "b/p/7", "b/p/8"))
    assert sorted(drawn(pool, "p")) == ["5", "6", "7"]


def test_an_answer_that_comes_again_is_renewed_not_doubled():
    pool = ResponsePool(keep=True, max_per_prompt=3)
    pool.add(completions("b/p/1", "b/p/2", "b/p/3"))
    pool.add(completions("c/p/3"))
    assert sorted(drawn(pool, "p")) == ["1", "2", "3"]
    pool.add(completions("c/p/4"))
    assert sorted(drawn(pool, "p")) == ["1", "3", "4"]


def test_without_keep_each_exchange_replaces_the_one_before():
    pool = ResponsePool(keep=False, max_per_prompt=9)
    pool.add(completions("b/p/1", "b/q/2"))
    pool.add(completions("c/p/3"))
    assert drawn(pool, "p") == ["3"]
    assert drawn(pool, "q") == []
    pool.add([])
    assert not pool.completions()


def test_a_draw_is_every_answer_in_an_order_that_only_its_stream_decides():
    pool = ResponsePool(keep=True, max_per_prompt=20)
    pool.add(completions(*(f"b/p/{i:02d}" for i in range(12))))
    first = drawn(pool, "p", "step", 1)
    drawn(pool, "p", "step", 2)
    assert drawn(pool, "p", "step", 1) == first
    assert sorted(first) == [f"{i:02d}" for i in range(12)]
    assert drawn(pool, "p", "step", 2) != first
    assert drawn(pool, "unknown") == []


def test_what_comes_for_another_presentation_is_kept_beside():
    pool = ResponsePool(keep=True, max_per_prompt=9)
    pool.add(completions("b/p/x", variant=1))
    pool.add(completions("c/p/x", variant=2))
    assert [(c.origin, c.problem.variant) for c in pool.completions()] == [("c", 2), ("b", 1)]
    pool.add(completions("d/p/x", variant=1))
    assert [(c.origin, c.problem.variant) for c in pool.completions()] == [("d", 1), ("c", 2)]


def test_replacing_a_pool_by_its_own_completions_keeps_their_order():
    pool, other = (ResponsePool(keep=True, max_per_prompt=3) for _ in range(2))
    pool.add(completions("b/p/1", "b/q/2", "c/p/3"))
    pool.add(completions("c/q/4", "c/p/5"))
    other.add(completions("d/p/gone"))
    other.replace(pool.completions())
    assert [c.text for c in other.completions()] == [c.text for c in pool.completions()] == ["5", "1", "3", "4", "2"]
    assert drawn(other, "p", "step", 1) == drawn(pool, "p", "step", 1)
