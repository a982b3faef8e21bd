"""A site's part of a round, with the real engine, sampler and verifier."""

import logging
from dataclasses import replace

import pytest
import torch
from tests.tensors import same

from fedrlvr.protocol.records import MAX_TEXT, PooledResponse, PublicResponse, Segment
from fedrlvr.streams import epoch_batch, seed_of, stream
from fedrlvr.tasks import TASKS


def public_segment(trainer, index=0, count=4) -> Segment:
    return Segment(index, 1, tuple(list(trainer.problems.public)[:count]))


def gold_answers(trainer, segment, site="site-9") -> list[PooledResponse]:
    task = trainer.rollouts.task
    problems = [trainer.problems.public[i] for i in segment.public_ids]
    return [(site, PublicResponse(p.id, task.gold_completion(p))) for p in problems]


def test_only_verified_correct_answers_are_offered_and_each_text_once(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__num_generations=16))
    segment = public_segment(trainer, count=8)
    offers, _ = trainer.propose(segment)
    assert offers
    for offer in offers:
        assert type(offer) is PublicResponse
        assert trainer.rollouts.task.verify(trainer.problems.public[offer.problem_id], offer.text).reward == 1.0
    assert len({(o.problem_id, o.text) for o in offers}) == len(offers)


def test_an_answer_too_long_for_a_record_is_not_offered_and_costs_the_others_nothing(make_trainer, job, monkeypatch):
    trainer = make_trainer(job)
    segment = public_segment(trainer, count=1)
    ((group,), entropy) = trainer._sample_public(segment)
    texts = ["#" * (MAX_TEXT + 1), "#" * MAX_TEXT, "#07"]
    right = [replace(group.completions[0], text=text, reward=1.0, truncated=False) for text in texts]
    monkeypatch.setattr(trainer, "_sample_public", lambda *_: ([replace(group, completions=tuple(right))], entropy))
    assert [offer.text for offer in trainer.propose(segment)[0]] == texts[1:]


def test_a_site_offers_no_more_than_its_quota(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__num_generations=16, exchange__max_per_site=1))
    ids = [offer.problem_id for offer in trainer.propose(public_segment(trainer, count=8))[0]]
    assert ids
    assert len(set(ids)) == len(ids)


def test_the_swap_uses_the_groups_that_were_proposed(make_trainer, job):
    trainer = make_trainer(job)
    segment = public_segment(trainer)
    trainer.propose(segment)
    proposed = trainer._proposed[1]
    step = trainer.swap(segment, gold_answers(trainer, segment))
    assert (step.kind, step.segment) == ("public", 0)
    metrics = step.metrics
    wrong = [sum(not c.correct for c in group.completions) for group in proposed]
    assert metrics["swap/completions"] == sum(max(0, w - 1) for w in wrong)  # keep_incorrect = 1, answers repeat
    assert metrics["swap/rescued_groups"] == metrics["swap/all_wrong_groups"] == sum(w == 4 for w in wrong)


def test_swapped_answers_become_likelier(make_trainer, job):
    trainer = make_trainer(job)
    segment = public_segment(trainer)
    answers = gold_answers(trainer, segment)

    def likelihood():
        rows = [
            trainer.step.row(p, trainer.rollouts.received(p, site, a))
            for site, a in answers
            for p in [trainer.problems.public[a.problem_id]]
        ]
        return sum(map(sum, trainer.step.score(rows)))

    before = likelihood()
    for index in range(3):
        trainer.propose(public_segment(trainer, index))
        trainer.swap(public_segment(trainer, index), answers)
    assert likelihood() > before


def test_an_answer_that_claims_to_be_right_and_is_not_is_dropped_and_counted(make_trainer, job):
    trainer = make_trainer(job)
    segment = public_segment(trainer)
    problem = trainer.problems.public[segment.public_ids[0]]
    wrong = f"p1,1=1;1,1=1#{(int(problem.answer) + 1) % 100:02d}"
    lies = [
        ("site-2", PublicResponse(problem.id, wrong)),
        ("site-2", PublicResponse(problem.id, "")),
        ("site-2", PublicResponse(problem.id, trainer.rollouts.task.gold_completion(problem) + "#" * 50)),
    ]
    trainer.propose(segment)
    metrics = trainer.swap(segment, lies).metrics
    assert metrics["exchange/wrong"] == 3
    assert metrics["swap/completions"] == 0
    assert not trainer.pool.completions()


def test_a_right_answer_too_long_for_the_completion_length_is_dropped(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__max_completion_length=10))
    segment = public_segment(trainer)
    trainer.propose(segment)
    assert trainer.swap(segment, gold_answers(trainer, segment)).metrics["exchange/wrong"] == 4


def test_an_answer_to_an_unknown_problem_is_dropped_and_counted(make_trainer, job):
    trainer = make_trainer(job)
    segment = public_segment(trainer)
    trainer.propose(segment)
    metrics = trainer.swap(segment, [("site-2", PublicResponse("protocol-Z9999", "p#00"))]).metrics
    assert metrics["exchange/unknown_prompt"] == 1
    assert not trainer.pool.completions()


def test_the_kept_pool_serves_later_public_steps(make_trainer, small_job):
    trainer = make_trainer(small_job(exchange__schedule=[0]))
    first = public_segment(trainer, 0)
    trainer.propose(first)
    trainer.swap(first, gold_answers(trainer, first))
    later = trainer.train([public_segment(trainer, 1)], exchange=False)[-1]
    assert later.kind == "public"
    assert later.metrics["swap/completions"] > 0


@pytest.fixture
def verified(monkeypatch):
    """(problem, text) of every call of the verifier."""
    kind, calls = type(TASKS["protocol"]), []
    verify = kind.verify
    monkeypatch.setattr(
        kind, "verify", lambda task, problem, text: calls.append((problem.id, text)) or verify(task, problem, text)
    )
    return calls


def test_a_received_answer_is_verified_once_however_often_it_is_used(make_trainer, small_job, verified):
    trainer = make_trainer(small_job(exchange__schedule=[0]))
    segments = [public_segment(trainer, index) for index in range(3)]
    answers = gold_answers(trainer, segments[0])
    trainer.propose(segments[0])
    verified.clear()
    trainer.swap(segments[0], answers)
    assert verified == [(answer.problem_id, answer.text) for _, answer in answers]
    verified.clear()
    steps = trainer.train(segments[1:], exchange=False)
    public = [step.metrics for step in steps if step.kind == "public"]
    assert len(public) == 2
    assert all(metrics["swap/completions"] > 0 for metrics in public)
    assert len(verified) == sum(step.metrics["completions"] for step in steps)  # own completions, and nothing else


def test_a_restored_pool_is_in_its_old_order_and_was_verified_once(make_trainer, small_job, verified):
    """Two exchanges, so that every prompt has an older and a newer answer; the newer one stands first."""
    trainer = make_trainer(small_job(exchange__schedule=[0, 1]))
    segments = [public_segment(trainer, index) for index in (0, 1)]
    long = gold_answers(trainer, segments[0], "site-8")
    short = [("site-9", replace(answer, text=answer.text[-3:])) for _, answer in reversed(long)]  # "#07" alone
    for segment, answers in zip(segments, (long, short), strict=True):
        trainer.swap(segment, answers)
    state, kept = trainer.state(), trainer.pool.completions()
    assert state.pool == [
        answer for older in long for answer in (*(n for n in short if n[1].problem_id == older[1].problem_id), older)
    ]
    other = make_trainer(small_job(exchange__schedule=[0, 1]))
    verified.clear()
    other.restore(state)
    assert verified == [(answer.problem_id, answer.text) for _, answer in state.pool]
    assert other.pool.completions() == kept
    assert other.state().pool == state.pool
    for _, answer in long:
        drawn = [t.pool.draw(answer.problem_id, stream(0, "draw", answer.problem_id)) for t in (trainer, other)]
        assert drawn[0] == drawn[1]
        assert len(drawn[0]) == 2


def test_an_answer_that_is_not_right_any_more_is_not_restored(make_trainer, job):
    trainer = make_trainer(job)
    segment = public_segment(trainer)
    trainer.swap(segment, gold_answers(trainer, segment))
    state = trainer.state()
    (site, first), (other, second) = state.pool[:2]
    first, unknown = (site, replace(first, text="#xx")), (other, replace(second, problem_id="protocol-Z9999"))
    trainer.restore(replace(state, pool=[first, unknown, *state.pool[2:]]))
    assert trainer.state().pool == state.pool[2:]


def test_without_answers_pubswap_is_plain_grpo(make_trainer, small_job):
    """Swap off is no other code path: an empty pool gives bit for bit what fedavg+public does on the same groups."""
    adapters = []
    for method in ("pubswap", "fedavg+public"):
        trainer = make_trainer(small_job(method=method))
        segment = public_segment(trainer)
        if method == "pubswap":
            trainer.train([segment], exchange=True)
            trainer.propose(segment)
            trainer.swap(segment, [])
        else:
            trainer.train([segment], exchange=False)
        adapters.append(trainer.engine.adapter())
    assert same(*adapters)


def test_a_round_repeats_byte_for_byte(make_trainer, job):
    deltas = []
    for _ in range(2):
        trainer = make_trainer(job)
        segments = [public_segment(trainer, 0), public_segment(trainer, 1)]
        trainer.train(segments, exchange=True)
        trainer.propose(segments[-1])
        trainer.swap(segments[-1], gold_answers(trainer, segments[-1]))
        deltas.append(trainer.submit())
    assert any(bool(tensor.any()) for tensor in deltas[0].values())
    assert same(*deltas)


def a_segment_of(trainer) -> dict[str, torch.Tensor]:
    segment = public_segment(trainer)
    trainer.train([segment], exchange=True)
    trainer.propose(segment)
    trainer.swap(segment, gold_answers(trainer, segment))
    return trainer.submit()


def test_with_a_key_a_sites_steps_repeat_at_the_site_alone(make_trainer, job):
    other, plain, mine, again = (
        a_segment_of(replace(make_trainer(job), draws_key=key)) for key in ("other", "", "mine", "mine")
    )
    assert same(mine, again)
    assert not same(mine, other)
    assert not same(mine, plain)


def test_with_a_key_no_draw_of_the_site_follows_from_the_jobs_seed_alone(make_trainer, job, monkeypatch):
    drawn = []  # (seed, names)

    def spied(draw):
        def spy(*arguments):
            first = arguments[3:] if draw is epoch_batch else arguments
            drawn.append((first[0], first[1:]))
            return draw(*arguments)

        return spy

    trainer = replace(make_trainer(job), draws_key="mine")
    for draw in (seed_of, stream, epoch_batch):
        monkeypatch.setattr(f"fedrlvr.learning.trainer.{draw.__name__}", spied(draw))
    a_segment_of(trainer)
    trainer.validate(None, samples=1, share=(0, 1), name="global 1")
    by_the_job = [names for seed, names in drawn if seed == job.seed]
    assert by_the_job == [("evaluation", "global 1", 0, 1)]  # of the test set, which all sites share
    assert {"private", "private rollout", "public rollout", "public update", "global 1"} <= {
        name for _, names in drawn for name in names
    }


def test_a_measurement_tells_how_many_answers_there_were_and_shows_one_in_the_sites_log(
    make_trainer, small_job, caplog
):
    """No answer to a case fits into five tokens."""
    caplog.set_level(logging.INFO, "fedrlvr")
    scores = make_trainer(small_job(grpo__max_completion_length=5)).validate(None, 2, (0, 1), "base 0")
    assert (scores.unanswered, scores.cut_off, scores.test["A"]["pass@1"]) == (1.0, 1.0, 0.0)
    (said,) = (record.getMessage() for record in caplog.records if record.name == "fedrlvr.learning.trainer")
    assert said.startswith("measured base 0: ")
    assert "'reason': 'no answer'" in said
    scores = make_trainer(small_job()).validate(None, 2, (0, 1), "base 0")
    assert scores.unanswered < 0.5
    assert scores.cut_off < 0.5


def test_validation_leaves_adapter_and_optimizer_as_they_were(make_trainer, job):
    """With and without a validation in between, training ends in the same place."""
    ends = []
    for validate in (False, True):
        trainer = make_trainer(job)
        trainer.train([public_segment(trainer, 0)], exchange=False)
        if validate:
            other = {name: tensor + 0.1 for name, tensor in trainer.engine.adapter().items()}
            trainer.validate(other, samples=1, share=(0, 1), name="somewhere")
        trainer.train([public_segment(trainer, 1)], exchange=False)
        ends.append(trainer.engine.adapter())
    assert same(*ends)


def test_sites_that_share_the_test_set_cover_it_once(make_trainer, job):
    trainer = make_trainer(job)
    whole = trainer.validate(None, 1, None, "x").test
    parts = [trainer.validate(None, 1, (i, 3), "x").test for i in range(3)]
    assert {label: sum(p[label]["problems"] for p in parts if label in p) for label in whole} == {
        label: scores["problems"] for label, scores in whole.items()
    }


def test_a_site_measures_its_own_adapter_on_so_many_test_problems_of_every_label(make_trainer, job):
    trainer = make_trainer(job)
    whole = trainer.validate(None, 1, None, "x").test
    part = trainer.validate(None, 1, None, "x", problems=len(whole)).test
    assert {label: scores["problems"] for label, scores in part.items()} == dict.fromkeys(whole, 1)


def test_a_new_round_starts_from_the_averaged_adapter(make_trainer, job):
    trainer = make_trainer(job)
    trainer.train([public_segment(trainer)], exchange=False)
    averaged = {name: tensor * 0.5 for name, tensor in trainer.engine.adapter().items()}
    trainer.begin_round(averaged, 1)
    assert same(trainer.engine.adapter(), averaged)
    assert not any(bool(tensor.any()) for tensor in trainer.submit().values())


def test_what_is_submitted_has_the_steps_that_bfloat16_cannot_hold(make_trainer, small_job):
    job = small_job(grpo__num_generations=32, optimizer__learning_rate=1e-6)
    trainer = make_trainer(job, dtype="bfloat16")
    (step,) = trainer.train([Segment(0, 1, ())], exchange=False)
    assert step.metrics["optimizer_steps"] == 1
    for name, tensor in trainer.submit().items():
        if "lora_B" in name:  # A has no gradient while B is 0
            assert float((tensor != 0).float().mean()) > 0.9, name
    trainer.train([Segment(1, 1, ())], exchange=False)
    moved = [float((tensor != 0).float().mean()) for name, tensor in trainer.submit().items() if "lora_A" in name]
    assert min(moved) > 0.5


@pytest.mark.parametrize("stage", [0, 2])
def test_a_site_of_fewer_ranks_leaves_the_others_as_they_came(make_trainer, small_job, stage):
    trainer = make_trainer(small_job(lora__r=8), stage=stage, lora_rank=3)
    trainer.begin_round({n: t + 0.01 for n, t in trainer.engine.adapter().items()}, 1)
    for index in range(2):
        trainer.train([public_segment(trainer, index)], exchange=False)
    for name, tensor in trainer.submit().items():
        ranks = tensor if "lora_A" in name else tensor.T
        assert bool(ranks[:3].any(1).all())
        assert not bool(ranks[3:].any())


def test_rolora_trains_b_then_a_and_the_rest_is_as_it_was(make_trainer, small_job):
    trainer = make_trainer(small_job(federation__aggregator="rolora"))
    trained = []
    for number in range(3):
        trainer.begin_round(None if number else trainer.engine.adapter(), number)
        trainer.train([public_segment(trainer, number)], exchange=False)
        trained.append({name.split(".")[-2] for name, tensor in trainer.submit().items() if bool(tensor.any())})
    assert trained == [{"lora_B"}, {"lora_A"}, {"lora_B"}]
