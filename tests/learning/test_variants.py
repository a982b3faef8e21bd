"""Options in another order at every site: an answer is right, and is learnt from, in the order it was given for."""

import pytest
from tests.runs import spec_of

from fedrlvr.algorithms.lora import adapter_spec, initial_adapter
from fedrlvr.data.problems import write_problems
from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.ranks import Ranks
from fedrlvr.protocol.records import PublicResponse, Segment
from fedrlvr.site_config import SiteConfig
from fedrlvr.streams import stream
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

DOSAGE, CHOICE = TASKS["dosage"], TASKS["choice"]
SETTINGS = BaseModelSettings(architecture="llama", chat="llama3", steps=0, max_position_embeddings=1024)


@pytest.fixture(scope="module")
def problems():
    random = stream(0, "variants")
    return [DOSAGE.problem(label, random) for label in DOSAGE.labels]


@pytest.fixture
def trainer(problems, tmp_path, small_job):
    names = ("private_problems", "public_problems", "test_problems")
    for name in names:
        write_problems(tmp_path / f"{name}.jsonl", problems)
    (tmp_path / "deepspeed.json").write_text("{}")
    config = SiteConfig(
        model="tiny",
        model_path=base_model(CHOICE, DOSAGE, SETTINGS, tmp_path / "models"),
        **{name: tmp_path / f"{name}.jsonl" for name in names},
        deepspeed_config=tmp_path / "deepspeed.json",
        state_dir=tmp_path / "state",
    )
    job = small_job(task="choice", grpo__max_completion_length=40)
    trainer = build_trainer(spec_of(job, {"site-1": config}), "site-1", config, Ranks())
    trainer.begin_round(initial_adapter(adapter_spec(trainer.engine.adapter()), 0), 0)
    return trainer


def moved(problem) -> int:
    """A presentation of the problem in which its answer has another letter."""
    return next(n for n in range(1, 24) if CHOICE.variant(problem, n).answer != problem.answer)


def test_an_answer_counts_in_its_own_order_only(trainer, problems):
    problem = problems[0]
    number = moved(problem)
    shown = CHOICE.variant(problem, number)
    text = CHOICE.gold_completion(shown)
    accepted = trainer.rollouts.received(problem, "site-2", PublicResponse(problem.id, text, number))
    assert accepted.reward == 1.0
    assert trainer.rollouts.received(problem, "site-2", PublicResponse(problem.id, text, 0)) is None
    prompt = trainer.engine.policy.encode_prompt(CHOICE.prompt(shown))
    assert trainer.step.row(problem, accepted).prompt_ids == prompt
    assert trainer.step.row(problem, accepted).prompt_ids != trainer.engine.policy.encode_prompt(CHOICE.prompt(problem))


def test_a_site_draws_its_own_orders_and_says_which(trainer, problems):
    ids = tuple(problem.id for problem in problems)
    numbers = []
    for index in range(6):
        shown, _ = trainer._sample_public(Segment(index, 1, ids))
        numbers += [group.problem.variant for group in shown]
        assert all(
            group.problem == CHOICE.variant(p, group.problem.variant) for group, p in zip(shown, problems, strict=True)
        )
    assert len(set(numbers)) > 8
    trainer.site = "site-2"
    others, _ = trainer._sample_public(Segment(0, 1, ids))
    assert [group.problem.variant for group in others] != numbers[: len(problems)]


def test_swapped_answers_in_other_orders_become_likelier(trainer, problems):
    segment = Segment(0, 1, tuple(problem.id for problem in problems))
    offers = []
    for problem in problems:
        number = moved(problem)
        shown = CHOICE.variant(problem, number)
        offers.append(("site-2", PublicResponse(problem.id, CHOICE.gold_completion(shown), number)))

    def likelihood() -> float:
        received = [trainer.rollouts.received(p, *offer) for p, offer in zip(problems, offers, strict=True)]
        return sum(
            map(sum, trainer.step.score([trainer.step.row(p, c) for p, c in zip(problems, received, strict=True)]))
        )

    before = likelihood()
    metrics = trainer.swap(segment, offers).metrics
    assert metrics["exchange/wrong"] == 0
    assert metrics["swap/completions"] >= len(problems)
    assert likelihood() > before
