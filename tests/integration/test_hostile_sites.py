"""Other sites are untrusted: one of three misbehaves in every exchange and round, each time in another way. All of it
is refused, counted and shown, and the others end where they end without that site."""

from functools import partial

import pytest
from tests.integration.hostile import Spoil, SpoilingTransport
from tests.runs import of, round_adapters, run_here, spec_of

from fedrlvr.report.incidents import incident_lines
from fedrlvr.report.summary import summarise

pytestmark = pytest.mark.slow

ROUNDS = 12
# The task, its round (a proposal's segment), the trick, and what the server says to it.
TRICKS = [
    ("validate", 0, "other_shapes", " at most sites, [1, 1] at this one"),
    ("propose", 0, "ten_thousand", "10000 responses, at most 32 are allowed"),
    ("propose", 1, "giant_text", "responses.0.text: String should have at most 100000 characters"),
    ("submit", 0, "nan", "holds values that are not finite"),
    ("propose", 2, "unknown_prompt", "a response to problem 'protocol-Z0000', which was not asked"),
    ("propose", 3, "no_mapping", "the answer to propose holds list, expected a mapping"),
    ("submit", 1, "huge", "L2 norm 3e+38 is beyond what a model computes with"),
    ("propose", 4, "stale", "round differs: the message says 1, this side has 2"),
    ("submit", 2, "wrong_shape", "expected ["),
    ("submit", 3, "stale", "round differs: the message says 2, this side has 3"),
    ("submit", 4, "giant", "has shape [4096, 4096], expected ["),
    ("train", 5, "infinite_reward", "steps.0.metrics.reward: Input should be a finite number"),
    ("train", 6, "an_events_word", "steps.0.metrics: a metric's name must be plain"),
    ("validate", 7, "better_than_all", "a label's scores must be pass@k between 0 and 1"),
    ("swap", 8, "eternity", "seconds: Input should be a finite number"),
    ("validate", 9, "a_million_problems", "the test scores are of 1000000 problems with label "),
    ("validate", 10, "a_moving_label", "scores.test. [2J[/x]: character 1 is a control"),
    ("train", 11, "more_steps", "3 private steps of segment 22, 1 were asked for"),
]


@pytest.fixture
def runs(site_files, small_job, tmp_path):
    """(the run, its events) with the hostile site, and without it."""
    job = small_job(
        federation__rounds=ROUNDS,
        federation__segments_per_round=2,
        federation__min_sites=2,
        grpo__num_generations=8,
        grpo__prompts_per_step=2,
        exchange__prompts_per_step=8,
    )
    _, sites = site_files({f"site-{i}": (label,) for i, label in enumerate("ABC", start=1)})
    spec, found = spec_of(job, sites), []
    plan = {f"{task}/{number}": trick for task, number, trick, _ in TRICKS}
    spoil = Spoil("site-3", plan, list(spec.public_ids))
    for folder, names in (("with", list(sites)), ("without", ["site-1", "site-2"])):
        members = {name: sites[name] for name in names}
        transport = partial(SpoilingTransport, spoil=spoil)
        found.append(run_here(tmp_path / folder, spec, members, new_transport=transport)[::-1])
    return found


def test_every_trick_is_refused_counted_and_shown_and_the_honest_end_as_without_it(runs):
    (hostile, events), (alone, calm) = runs
    assert len(round_adapters(alone)) == ROUNDS
    assert round_adapters(hostile) == round_adapters(alone)
    assert events[-1]["event"] == calm[-1]["event"] == "end"
    assert not of(calm, "failure")
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]] * ROUNDS

    failures = [(e["site"], e["task"], e["reason"]) for e in of(events, "failure")]
    assert len(failures) == len(TRICKS)
    for (task, _, _, reason), found in zip(TRICKS, failures, strict=True):
        assert found[:2] == ("site-3", task)
        assert reason in found[2]

    # The lies passed the server, which has no verifier; every receiver dropped them, and only them.
    public = [e for e in of(events, "step") if e["kind"] == "public" and e["site"] != "site-3"]
    lied = {e["segment"] for e in of(events, "exchange") if e["bytes_up"].get("site-3")}
    assert lied == {5, 6, 7, 8, 9, 14, 15, 16, 18, 19, 20, 21}  # all that no other trick spoiled
    assert all((e["exchange/wrong"] > 0) == (e["segment"] in lied) for e in public)
    assert sum(e["swap/completions"] for e in public) > 0  # the honest do learn from each other

    summary = summarise(events, 1.0)
    assert summary["swap"]["rejected_answers"] == sum(e["exchange/wrong"] for e in of(events, "step")
                                                      if e["kind"] == "public")  # fmt: skip
    shown = incident_lines(summary)
    assert sum(line.startswith("failed: site-3 in ") for line in shown) > 2
    assert any(line.startswith("rejected: ") for line in shown)
