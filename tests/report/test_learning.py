"""When a run is said to have learnt nothing, from hand-written steps."""

import pytest

from fedrlvr.report.learning import learning, learning_by_site, nothing_learnt, silence_in_words, taught

SILENT = {"optimizer_steps": 0.0, "live_groups": 0.0, "completions": 30.0, "completions/clipped_ratio": 1.0}


def step(site: str = "north", **metrics) -> dict:
    return {"event": "step", "site": site} | SILENT | metrics


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({}, False),
        ({"live_groups": 1.0, "optimizer_steps": 1.0}, True),
        ({"live_groups": 1.0}, False),  # all of it was masked
        ({"optimizer_steps": 1.0}, False),  # a divergence term, or noise
        ({"optimizer_steps": 1.0, "swap/rescued_groups": 1.0}, True),
    ],
)
def test_a_step_teaches_if_it_moved_the_adapter_and_some_rewards_differed(metrics, found):
    assert taught(step(**metrics)) is found


def test_a_site_that_does_not_tell_is_believed():
    assert taught({"event": "step", "site": "north"})
    assert not nothing_learnt(learning_by_site([{"event": "evaluation"}]))


def test_shares_are_of_completions_and_not_of_steps():
    other = step(completions=10.0, **{"completions/clipped_ratio": 0.0, "completions/unanswered_ratio": 0.2})
    found = learning([step(**{"verifier/timeouts": 6.0}), other])
    assert found == {"steps": 2, "taught": 0, "cut_off": 0.75, "unanswered": 0.05, "unverified": 0.15}
    assert silence_in_words("north", found) == (
        "north has learnt nothing in 2 steps: no group had rewards that differ. Of its completions 75% were cut off, "
        "5% had no answer (as no \\boxed{}), 15% could not be verified"
    )


def test_one_site_that_learns_is_enough():
    events = [step("north"), step("south"), step("south", live_groups=1.0, optimizer_steps=2.0)]
    by_site = learning_by_site(events)
    assert {site: found["taught"] for site, found in by_site.items()} == {"north": 0, "south": 1}
    assert not nothing_learnt(by_site)
    assert nothing_learnt(learning_by_site(events[:2]))
