"""The learning rate over a job: its values by hand, where each step finds its own, and that every optimizer obeys."""

import pytest
from tests.learning.policies import KINDS, descend_often, make_engine
from tests.tensors import same

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.learning.learning_rate import LearningRate
from fedrlvr.protocol.records import Segment

HALF = {"federation__rounds": 2, "federation__segments_per_round": 2, "optimizer__learning_rate": 0.5}


def rates(job) -> list[float]:
    """Of all batches of the job: four segments, one private and one public batch each."""
    rate = LearningRate(job)
    return [value for segment in range(4) for number in (0, 1) for value in rate.of_batch(segment, number)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ({"warmup_ratio": 0.25}, [0, 1 / 2, 1, 1, 1, 1, 1, 1]),
        ({"lr_scheduler_type": "linear"}, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            {"lr_scheduler_type": "linear", "warmup_ratio": 0.2},
            [0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
        ),
        ({"lr_scheduler_type": "cosine"}, [1, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806]),
    ],
)
def test_the_schedule_spans_all_rounds(small_job, changes, expected):
    job = small_job(**HALF, **{f"optimizer__{name}": value for name, value in changes.items()})
    assert rates(job) == pytest.approx([0.5 * share for share in expected], abs=1e-5)


def test_every_optimizer_step_of_a_batch_has_its_own_rate(small_job):
    job = small_job(**HALF, optimizer__lr_scheduler_type="linear", grpo__num_iterations=2, grpo__num_minibatches=3)
    assert rates(job) == pytest.approx([0.5 * (48 - step) / 48 for step in range(48)])


def test_a_method_without_public_steps_has_as_many(small_job):
    job = small_job(**HALF, method="fedavg", optimizer__lr_scheduler_type="linear")
    assert rates(job) == pytest.approx([0.5 * (8 - step) / 8 for step in range(8)])


def test_a_constant_rate_is_the_setting_bit_for_bit(small_job):
    assert set(rates(small_job(optimizer__learning_rate=3e-3))) == {3e-3}


@pytest.mark.parametrize("changes", [{}, {"privacy__mode": "dp_grpo", "optimizer__warmup_ratio": 0.3}])
def test_steps_are_taken_at_the_rate_of_their_place_and_say_so(make_trainer, small_job, monkeypatch, changes):
    job = small_job(**(HALF | {"grpo__beta": 0.1, "optimizer__lr_scheduler_type": "linear"} | changes))
    trainer, found = make_trainer(job), []
    step = trainer.engine.step

    def watched() -> float:
        found.append(trainer.engine._torch_optimizer.param_groups[0]["lr"])
        return step()

    monkeypatch.setattr(trainer.engine, "step", watched)
    records = []
    for number in (0, 1):
        trainer.begin_round(trainer.engine.adapter(), number)
        public = tuple(trainer.problems.public)[:2]
        records += trainer.train([Segment(2 * number + i, 1, public) for i in (0, 1)], exchange=False)
    assert found == rates(job)
    assert [record.metrics["learning_rate"] for record in records] == found


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_every_kind_of_optimizer_obeys(model_path, stage, dtype):
    engine = make_engine(model_path, stage, dtype)
    engine.load_adapter(
        {
            name: t + 0.01
            for name, t in initial_adapter({name: list(t.shape) for name, t in engine.adapter().items()}, 0).items()
        }
    )
    start = engine.adapter()
    engine.set_learning_rate(0.0)
    descend_often(engine, 2)
    assert same(engine.adapter(), start)
    engine.set_learning_rate(0.1)
    descend_often(engine, 1)
    moved = max(float((tensor - start[name]).abs().max()) for name, tensor in engine.adapter().items())
    assert 0.01 < moved < 0.2  # Adam's step is about as large as its rate
