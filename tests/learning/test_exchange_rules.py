"""What a site does with others' answers: how many, which first, and how they count; with the real engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.learning.test_trainer import gold_answers, public_segment
from tests.tensors import same

from fedrlvr.protocol.records import PooledResponse
from fedrlvr.types import Completion, Group

RATIO = {"swap__off_policy": "ratio"}


def with_logprobs(trainer, answers, value=-0.5) -> list[PooledResponse]:
    tokens = trainer.rollouts.tokens_of
    return [(site, replace(a, logprobs=(value,) * len(tokens(a.text)))) for site, a in answers]


def all_wrong(trainer, segment) -> list[Group]:
    """Groups of four wrong completions, kept as if they had been proposed."""
    groups, entropy = trainer._sample_public(segment)
    wrong = [replace(g, completions=tuple(replace(c, reward=0.0) for c in g.completions)) for g in groups]
    trainer._proposed = (segment.index, wrong, entropy)
    return wrong


def test_shares_are_told_where_the_job_asks_for_them(make_trainer, small_job):
    segment_of = public_segment
    trainer = make_trainer(small_job())
    assert trainer.propose(segment_of(trainer))[1] is None
    trainer = make_trainer(small_job(swap__rule="match_global", grpo__num_generations=16))
    segment = segment_of(trainer)
    _, shares = trainer.propose(segment)
    assert shares == {g.problem.id: g.num_correct / 16 for g in trainer._proposed[1]}
    assert set(shares) == {*segment.public_ids}
    assert any(shares.values())


def test_match_global_swaps_to_the_target_of_each_problem(make_trainer, small_job):
    trainer = make_trainer(small_job(swap__rule="match_global"))
    segment = public_segment(trainer)
    all_wrong(trainer, segment)
    targets = dict(zip(segment.public_ids, (0.25, 0.5, 1.0), strict=False))  # of the last one nobody told
    metrics = trainer.swap(segment, gold_answers(trainer, segment), targets).metrics
    assert metrics["swap/completions"] == 1 + 2 + 3 + 0  # one wrong one stays
    assert metrics["swap/rescued_groups"] == 3


def test_at_steps_from_the_kept_pool_the_last_target_counts_also_after_a_restart(make_trainer, small_job):
    trainer = make_trainer(small_job(swap__rule="match_global", exchange__schedule=[0]))
    segment = public_segment(trainer)
    answers = gold_answers(trainer, segment)
    trainer.swap(segment, answers, dict.fromkeys(segment.public_ids, 0.0))
    trainer.swap(segment, answers, {segment.public_ids[0]: 0.75})
    again = make_trainer(trainer.job)
    again.restore(trainer.state())
    swapped = []
    for one in (trainer, again):
        mixed = one._swapped(segment, all_wrong(one, segment))
        swapped.append([sum(bool(c.origin) for c in group.completions) for group in mixed])
    assert swapped == [[3, 0, 0, 0]] * 2


def test_the_likeliest_pooled_answer_goes_first(make_trainer, small_job):
    """By the receiver's mean log-probability of a token, not by the sum, which would favour the short one."""
    trainer = make_trainer(small_job(swap__prefer="likely", swap__repeat=False, swap__max_swaps=1))
    segment = public_segment(trainer)
    gold = gold_answers(trainer, segment)
    short = [("site-8", replace(answer, text=answer.text[-3:])) for _, answer in gold]  # "#07" alone
    trainer.pool.add(trainer._verified(short + gold)[0])
    for group in trainer._swapped(segment, all_wrong(trainer, segment)):
        (swapped,) = (c for c in group.completions if c.origin)
        pooled = trainer.pool._completions[group.problem.id]
        assert len(pooled) == 2
        rows = [trainer.step.row(group.problem, c) for c in pooled]
        means = [np.mean(logprobs) for logprobs in trainer.step.score(rows)]
        assert abs(means[0] - means[1]) > 0.1
        assert swapped.text == pooled[int(np.argmax(means))].text
        assert swapped.logprobs == pytest.approx(
            trainer.step.score([trainer.step.row(group.problem, swapped)])[0], abs=1e-5
        )
    assert all(completion.logprobs is None for completion in trainer.pool.completions())  # the policy will change


def test_a_sender_scores_what_the_receiver_will_have(make_trainer, small_job):
    sender = make_trainer(small_job(grpo__num_generations=16, grpo__temperature=0.7, **RATIO))
    segment = public_segment(sender, count=8)
    offers, _ = sender.propose(segment)
    assert offers
    for offer in offers:
        problem = sender.problems.public[offer.problem_id]
        got = sender.rollouts.received(problem, "site-2", offer, with_logprobs=True)
        assert got.sender_logprobs == offer.logprobs
        model = sender.engine.policy.model
        prompt = sender.engine.policy.encode_prompt(sender.rollouts.task.prompt(problem))
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + got.token_ids])).logits[0] / 0.7
        expected = torch.log_softmax(logits, -1)[range(len(prompt) - 1, logits.shape[0] - 1), list(got.token_ids)]
        assert offer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_with_propose_from_global_answers_shares_and_log_probabilities_are_of_the_servers_adapter(
    make_trainer, small_job
):
    """However far the site's own adapter has moved."""
    job = small_job(grpo__num_generations=16, swap__rule="match_global", **RATIO)
    told = []
    for shift in (0.0, 0.05):
        trainer = replace(make_trainer(job), propose_from="global")
        adapter = trainer.engine.adapter()
        trainer.begin_round(adapter, 0)
        trainer.engine.load_adapter({name: tensor + shift for name, tensor in adapter.items()})
        told.append(trainer.propose(public_segment(trainer, count=8)))
        assert trainer._proposed is None
    assert told[0] == told[1]
    assert [offer.logprobs for offer in told[0][0]] == [offer.logprobs for offer in told[1][0]]


@pytest.mark.parametrize("change", [lambda logprobs: logprobs[1:], lambda logprobs: (*logprobs, 0.0), lambda _: ()])
def test_an_answer_whose_log_probabilities_do_not_fit_its_tokens_is_dropped_and_counted(
    make_trainer, small_job, change
):
    trainer = make_trainer(small_job(**RATIO))
    segment = public_segment(trainer)
    answers = with_logprobs(trainer, gold_answers(trainer, segment))
    site, first = answers[0]
    metrics = trainer.swap(segment, [(site, replace(first, logprobs=change(first.logprobs))), *answers[1:]]).metrics
    assert metrics["exchange/wrong"] == 1
    assert len(trainer.pool.completions()) == 3


def test_log_probabilities_are_kept_over_a_restart(make_trainer, small_job):
    trainer = make_trainer(small_job(**RATIO))
    segment = public_segment(trainer)
    trainer.swap(segment, with_logprobs(trainer, gold_answers(trainer, segment)))
    again = make_trainer(trainer.job)
    again.restore(trainer.state())
    assert again.pool.completions() == trainer.pool.completions()
    assert all(c.sender_logprobs == (-0.5,) * len(c.token_ids) for c in again.pool.completions())


def mixed_group(trainer) -> Group:
    """One right answer of another site and one wrong own one: advantages 1/2 and -1/2 without scaling."""
    segment = public_segment(trainer, count=1)
    answers = with_logprobs(trainer, gold_answers(trainer, segment), value=-3.0)
    (swapped,) = trainer._verified(answers)[0]
    own = Completion((5, 6, 7), None, "", 0.0)
    return Group(trainer.problems.public[segment.public_ids[0]], (swapped, own))


@pytest.mark.parametrize(
    "changes",
    [{"swap__off_policy": "shaped", "swap__shaping_gamma": 0.2}, RATIO | {"swap__ratio_cap": 1.5}],
    ids=["shaped", "ratio"],
)
def test_the_loss_of_a_mixed_group_by_hand(make_trainer, small_job, changes):
    """The own completion's tokens count as ever: at ratio 1, each -A."""
    trainer = make_trainer(small_job(grpo__num_generations=2, grpo__scale_rewards="none", **changes))
    group, random = mixed_group(trainer), np.random.default_rng(0)
    row = trainer.step.row(group.problem, group.completions[0])
    p = np.exp(trainer.step.score([row])[0])
    terms = p / (p + 0.2) if "swap__shaping_gamma" in changes else np.minimum(p / np.exp(-3.0), 1.5)
    assert terms.min() < 1.4  # some tokens are below the cap, and some above it
    assert "swap__shaping_gamma" in changes or terms.max() == 1.5
    expected = -(0.5 * terms.sum() - 0.5 * 3) / (2 * 20)  # rows x max length
    metrics = trainer.step([group], random)
    assert metrics["loss"] == pytest.approx(expected, abs=1e-6)
    assert metrics["clip_ratio/region_mean"] == 0.0
    assert metrics["swap/ratio_mean"] == metrics["swap/ratio_max"] == 1.0  # to the receiver's own policy, as ever


def test_each_treatment_is_a_step_of_its_own_and_changes_nothing_without_swapped_tokens(make_trainer, small_job):
    ends, alone = {}, []
    for treatment in ("receiver", "ratio", "shaped"):
        trainer = make_trainer(small_job(swap__off_policy=treatment, grpo__num_iterations=2))
        trainer.step([mixed_group(trainer)], np.random.default_rng(0))
        ends[treatment] = trainer.engine.adapter()
        trainer = make_trainer(trainer.job)
        trainer.step(trainer.rollouts.groups(trainer.problems.private[:4], 4, seed=0)[0], np.random.default_rng(0))
        alone.append(trainer.engine.adapter())
    assert not same(ends["receiver"], ends["ratio"])
    assert not same(ends["receiver"], ends["shaped"])
    assert not same(ends["ratio"], ends["shaped"])
    assert same(alone[0], alone[1])
    assert same(alone[0], alone[2])
