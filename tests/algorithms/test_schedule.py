"""Rounds cut into phases, by hand for every method, and what must be equal between methods."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as quick
from hypothesis import strategies as st

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.schedule import Phase, own_problems, plan_round, steps_per_segment
from fedrlvr.config import EvaluationSettings, ExchangeSettings, FederationSettings, JobConfig

IDS = [f"public-{i:02d}" for i in range(12)]
EXCHANGING = {name for name, method in METHODS.items() if method.exchange}
PUBLIC = EXCHANGING | {"fedavg+public"}


def job(method="pubswap", schedule="every", every=None, prompts=4, **federation) -> JobConfig:
    return JobConfig(
        task="protocol",
        model="m",
        method=method,
        federation=FederationSettings(**({"rounds": 2, "segments_per_round": 4} | federation)),
        exchange=ExchangeSettings(schedule=schedule, prompts_per_step=prompts),
        evaluation=EvaluationSettings(every_segments=every),
    )


def written(phases: list[Phase]) -> str:
    """Segments joined by +, x after an exchange, e after an evaluation: "0x 1+2e"."""
    return " ".join(
        "+".join(str(s.index) for s in phase.segments) + "x" * phase.exchange + "e" * phase.evaluate for phase in phases
    )


def rounds_of(config: JobConfig) -> list[list[Phase]]:
    return [plan_round(config, number, IDS) for number in range(config.federation.rounds)]


def segments_of(config: JobConfig) -> list:
    return [segment for phases in rounds_of(config) for phase in phases for segment in phase.segments]


@pytest.mark.parametrize("method", METHODS)
def test_phases_of_every_method_by_hand(method):
    config = job(method, schedule=(0, 3, 5), segments_per_task=2)
    exchanging = ["0x 1+2 3x", "4+5x 6+7"]
    assert [written(phases) for phases in rounds_of(config)] == (
        exchanging if method in EXCHANGING else ["0+1 2+3", "4+5 6+7"]
    )


@pytest.mark.parametrize("method", METHODS)
def test_private_and_public_steps_of_every_method_by_hand(method):
    """Three private steps and a public one; where there is no public step, a fourth private one."""
    for segment in segments_of(job(method, local_steps=3)):
        assert (segment.private_steps, len(segment.public_ids)) == ((3, 4) if method in PUBLIC else (4, 0))


def test_exchanging_every_time_makes_each_segment_a_phase():
    assert [written(phases) for phases in rounds_of(job(segments_per_task=4))] == ["0x 1x 2x 3x", "4x 5x 6x 7x"]


def test_an_adaptive_schedule_may_exchange_every_time():
    assert rounds_of(job(schedule="adaptive", segments_per_task=4)) == rounds_of(job(schedule="every"))
    assert rounds_of(job("fedavg+public", schedule="adaptive")) == rounds_of(job("fedavg+public", schedule="every"))


def test_without_exchanges_only_segments_per_task_cuts():
    assert written(plan_round(job(schedule=(), segments_per_task=3), 0, IDS)) == "0+1+2 3"
    assert written(plan_round(job(schedule=(), segments_per_task=99), 1, IDS)) == "4+5+6+7"


def test_evaluations_end_phases_but_the_end_of_a_round_is_measured_anyway():
    """Due after segments 1, 3, 5, 7 and 9; segment 9 ends the second round."""
    config = job("fedavg", every=2, segments_per_round=5, segments_per_task=9)
    assert [written(phases) for phases in rounds_of(config)] == ["0+1e 2+3e 4", "5e 6+7e 8+9"]


def test_an_exchange_and_an_evaluation_may_fall_on_one_segment():
    config = job(schedule=(1, 2), every=2, segments_per_task=9)
    assert [written(phases) for phases in rounds_of(config)] == ["0+1xe 2x 3", "4+5e 6+7"]


@quick(max_examples=50, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    rounds=st.integers(1, 3),
    per_round=st.integers(1, 7),
    per_task=st.integers(1, 8),
    every=st.none() | st.integers(1, 5),
    data=st.data(),
)
def test_phases_cover_every_segment_once_and_wait_only_at_their_end(method, rounds, per_round, per_task, every, data):
    schedule = tuple(sorted(data.draw(st.sets(st.integers(0, rounds * per_round - 1)))))
    config = job(method, schedule, every, rounds=rounds, segments_per_round=per_round, segments_per_task=per_task)
    plan = rounds_of(config)
    assert [s.index for s in segments_of(config)] == list(range(rounds * per_round))
    assert [phases[-1].last.index for phases in plan] == [(n + 1) * per_round - 1 for n in range(rounds)]
    for phase in (phase for phases in plan for phase in phases):
        assert 1 <= len(phase.segments) <= per_task
        assert phase.exchange == (method in EXCHANGING and phase.last.index in schedule)
        assert method not in EXCHANGING or not any(segment.index in schedule for segment in phase.segments[:-1])


@pytest.mark.parametrize("method", METHODS)
def test_only_a_method_without_averages_ends_its_rounds_with_the_whole_test_set(method):
    """There, that is the method's result; elsewhere the averaged adapter is measured on all."""
    few = job(method).evaluation.own_problems
    at_the_end = None if method == "local" else few
    assert [own_problems(job(method), segment) for segment in (1, 3, 6, 7)] == [few, at_the_end, few, at_the_end]


@pytest.mark.parametrize("local_steps", [1, 3])
def test_all_methods_take_equally_many_grpo_steps_in_every_segment(local_steps):
    for method in METHODS:
        config = job(method, local_steps=local_steps)
        steps = [s.private_steps + bool(s.public_ids) for s in segments_of(config)]
        assert steps == [local_steps + 1] * 8
        assert steps_per_segment(config) == local_steps + 1


def test_methods_with_a_public_step_see_the_same_public_problems():
    batches = [[s.public_ids for s in segments_of(job(method))] for method in sorted(PUBLIC)]
    assert batches[0] == batches[1] == batches[2]


def test_each_epoch_visits_every_public_problem_once():
    """12 problems, 4 a step: three segments are an epoch, also where a round of four ends within one."""
    batches = [s.public_ids for s in segments_of(job(rounds=3, segments_per_round=4))]
    for epoch in range(4):
        assert sorted(sum(batches[epoch * 3 : epoch * 3 + 3], ())) == IDS
    assert batches[0:3] != batches[3:6]


def test_batches_that_span_epochs_still_visit_all_equally_often():
    """8 a step: two epochs in three segments."""
    visits = Counter(i for s in segments_of(job(prompts=8, rounds=3, segments_per_round=2)) for i in s.public_ids)
    assert visits == dict.fromkeys(IDS, 4)


def test_another_seed_visits_public_problems_in_another_order():
    config = job()
    other = config.model_copy(update={"seed": 1})
    assert [s.public_ids for s in segments_of(config)] != [s.public_ids for s in segments_of(other)]
