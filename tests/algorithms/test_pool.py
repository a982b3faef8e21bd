"""Who gets which public answers, and what a kept pool remembers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as quick
from hypothesis import strategies as st

from fedrlvr.algorithms.pool import ResponsePool, pool_for
from fedrlvr.config import ExchangeSettings
from fedrlvr.streams import stream
from fedrlvr.types import PublicResponse


def offers(*written: str) -> list[PublicResponse]:
    """ "a/p1/text" is site a's answer `text` to problem p1."""
    return [PublicResponse(problem, text, site) for site, problem, text in (line.split("/") for line in written)]


def written(responses) -> list[str]:
    return [f"{r.site}/{r.problem_id}/{r.text}" for r in responses]


def limits(per_site=9, per_prompt=99) -> ExchangeSettings:
    return ExchangeSettings(max_per_site=per_site, max_per_prompt=per_prompt)


def test_a_site_gets_the_others_answers_but_not_its_own():
    pool = offers("a/p/x", "b/p/y", "c/p/z")
    assert written(pool_for("b", pool, limits())) == ["a/p/x", "c/p/z"]


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
    assert pool_for("a", reversed(pool), limits()) == pool_for("a", pool, limits())


@quick(max_examples=50, deadline=None)
@given(
    st.lists(st.builds(PublicResponse, st.sampled_from("pq"), st.sampled_from("uvwxyz"), st.sampled_from("abcd"))),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_a_pool_keeps_every_quota_and_wastes_nothing(given_offers, per_site, per_prompt):
    pool = pool_for("a", given_offers, limits(per_site, per_prompt))
    assert set(pool) <= {offer for offer in given_offers if offer.site != "a"}
    for problem in "pq":
        mine = [offer for offer in pool if offer.problem_id == problem]
        foreign = {offer.text for offer in given_offers if offer.problem_id == problem and offer.site != "a"}
        assert len({offer.text for offer in mine}) == len(mine) <= per_prompt
        assert all(sum(offer.site == site for offer in mine) <= per_site for site in "bcd")
        assert bool(mine) == bool(foreign)
        if per_site >= len(foreign):
            assert len(mine) == min(per_prompt, len(foreign))


def drawn(pool: ResponsePool, problem: str, *names) -> list[str]:
    return [answer.text for answer in pool.draw(problem, stream(0, "draw", *names))]


def test_a_kept_pool_adds_up_over_exchanges():
    pool = ResponsePool(keep=True, max_per_prompt=9)
    pool.add(offers("b/p/1", "b/q/2"))
    pool.add(offers("c/p/3"))
    assert sorted(drawn(pool, "p")) == ["1", "3"]
    assert drawn(pool, "q") == ["2"]
    assert len(pool) == 3


def test_the_newest_answers_push_out_the_oldest():
    pool = ResponsePool(keep=True, max_per_prompt=3)
    pool.add(offers("b/p/1", "b/p/2"))
    pool.add(offers("b/p/3", "b/p/4"))
    assert sorted(drawn(pool, "p")) == ["1", "3", "4"]
    pool.add(offers("b/p/5", "b/p/6", "b/p/7", "b/p/8"))
    assert sorted(drawn(pool, "p")) == ["5", "6", "7"]


def test_an_answer_that_comes_again_is_renewed_not_doubled():
    pool = ResponsePool(keep=True, max_per_prompt=3)
    pool.add(offers("b/p/1", "b/p/2", "b/p/3"))
    pool.add(offers("c/p/3"))
    assert sorted(drawn(pool, "p")) == ["1", "2", "3"]
    pool.add(offers("c/p/4"))
    assert sorted(drawn(pool, "p")) == ["1", "3", "4"]


def test_without_keep_each_exchange_replaces_the_one_before():
    pool = ResponsePool(keep=False, max_per_prompt=9)
    pool.add(offers("b/p/1", "b/q/2"))
    pool.add(offers("c/p/3"))
    assert drawn(pool, "p") == ["3"]
    assert drawn(pool, "q") == []
    pool.add([])
    assert len(pool) == 0


def test_a_draw_is_every_answer_in_an_order_that_only_its_stream_decides():
    pool = ResponsePool(keep=True, max_per_prompt=20)
    pool.add(offers(*(f"b/p/{i:02d}" for i in range(12))))
    first = drawn(pool, "p", "step", 1)
    drawn(pool, "p", "step", 2)
    assert drawn(pool, "p", "step", 1) == first
    assert sorted(first) == [f"{i:02d}" for i in range(12)]
    assert drawn(pool, "p", "step", 2) != first
    assert drawn(pool, "unknown") == []
