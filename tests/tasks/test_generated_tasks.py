"""What holds for every task that makes its own problems."""

import numpy as np
import pytest

from fedrlvr.tasks import SYNTHETIC, TASKS
from fedrlvr.tasks.task import GeneratedTask

GENERATED = [task for task in TASKS.values() if isinstance(task, GeneratedTask)]
every_task = pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)


def drawn(task: GeneratedTask, count: int) -> list:
    random = np.random.default_rng(1)
    return [task.problem(label, random) for label in task.labels for _ in range(count)]


def test_these_are_the_ones_that_presets_and_dry_runs_rely_on():
    assert {"protocol", *SYNTHETIC.values()} <= {task.name for task in GENERATED}


@every_task
def test_all_that_it_writes_is_in_its_alphabet(task):
    random = np.random.default_rng(2)
    for problem in drawn(task, 50):
        texts = task.prompt(problem) + task.gold_completion(problem) + task.demonstration(problem, random)
        assert set(texts) <= set(task.alphabet)


@every_task
def test_ids_tell_problems_apart_and_nothing_else(task):
    problems = drawn(task, 2000)
    contents = {(problem.prompt, problem.choices, problem.answer, problem.label) for problem in problems}
    assert len({problem.id for problem in problems}) == len(contents) < len(problems)


@every_task
def test_its_gold_is_right_by_its_own_verifier(task):
    assert all(task.verify(problem, task.gold_completion(problem)).reward == 1.0 for problem in drawn(task, 20))
