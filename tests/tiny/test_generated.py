"""Generated data sets: no problem is in two, labels are as asked for, and equal seeds give equal sets."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fedrlvr.data.problems import read_problems
from fedrlvr.tasks import TASKS, Task
from fedrlvr.tasks.task import Verdict
from fedrlvr.tiny.generated import GeneratedData, write_generated
from fedrlvr.types import Problem

TASK = TASKS["protocol"]
DATA = GeneratedData(
    sites={"north": ("A", "B"), "south": ("C",)}, private_per_site=40, heldout_per_site=10, public=24, test_per_label=6
)
NAMES = {"public", "test", "north", "south", "north.heldout", "south.heldout"}


class FewCases(Task):
    """A task with six problems in all."""

    name = "few"
    labels = ("even", "odd")
    alphabet = "0123456789"

    def prompt(self, problem: Problem) -> str:
        return problem.prompt

    def verify(self, problem: Problem, completion: str) -> Verdict:
        return Verdict(float(completion == problem.answer), "exact")

    def gold_completion(self, problem: Problem) -> str:
        return problem.answer

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        number = 2 * int(random.integers(3)) + (label == "odd")
        return Problem(str(number), str(number), str(number), label)

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        return problem.answer


def sets_in(folder: Path, task=TASK) -> dict[str, list[Problem]]:
    return {path.name.removesuffix(".jsonl"): read_problems(path, task) for path in sorted(folder.iterdir())}


def label_counts(problems: list[Problem]) -> dict[str, int]:
    return dict(Counter(problem.label for problem in problems))


def test_every_set_has_its_size_and_its_labels_evenly(tmp_path):
    write_generated(DATA, TASK, 0, tmp_path)
    sets = sets_in(tmp_path)
    assert set(sets) == NAMES
    assert label_counts(sets["public"]) == label_counts(sets["test"]) == dict.fromkeys("ABCD", 6)
    assert label_counts(sets["north"]) == {"A": 20, "B": 20}
    assert label_counts(sets["south"]) == {"C": 40}
    assert label_counts(sets["north.heldout"]) == {"A": 5, "B": 5}
    assert label_counts(sets["south.heldout"]) == {"C": 10}


@pytest.mark.parametrize("task", ["protocol", "arithmetic"])
def test_no_problem_is_in_two_sets(tmp_path, task):
    labels = TASKS[task].labels
    data = GeneratedData(sites={"a": labels, "b": labels[:1]}, private_per_site=100, heldout_per_site=20, public=20)
    write_generated(data, TASKS[task], 3, tmp_path)
    prompts = [problem.prompt for problems in sets_in(tmp_path, TASKS[task]).values() for problem in problems]
    assert len(set(prompts)) == len(prompts) == 2 * 100 + 2 * 20 + 20 + 4 * 64


def test_the_seed_decides_every_byte(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_generated(DATA, TASK, seed, tmp_path / name)
    for name in NAMES:
        first, again, other = ((tmp_path / folder / f"{name}.jsonl").read_bytes() for folder in "abc")
        assert first == again != other


def test_pooled_data_are_all_sites_problems_in_one_place(tmp_path):
    write_generated(DATA, TASK, 0, tmp_path / "apart")
    write_generated(DATA, TASK, 0, tmp_path / "together", pooled=True)
    sites, pooled = sets_in(tmp_path / "apart"), sets_in(tmp_path / "together")
    assert set(pooled) == {"public", "test", "pooled", "pooled.heldout"}
    assert pooled["pooled"] == sites["north"] + sites["south"]
    assert pooled["pooled.heldout"] == sites["north.heldout"] + sites["south.heldout"]
    assert (pooled["public"], pooled["test"]) == (sites["public"], sites["test"])


def test_a_label_that_the_task_does_not_have_is_refused_with_site_and_labels(tmp_path):
    data = GeneratedData(sites={"north": ("A",), "south": ("B", "E")})
    with pytest.raises(
        ValueError, match=r"data\.sites\.south: task protocol has no label 'E'; it has A, B, C, D; change it in the pre"
    ):
        write_generated(data, TASK, 0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_public_set_is_refused():
    """Without public problems there are no answers to exchange."""
    with pytest.raises(ValidationError, match=r"public\n.*greater than or equal to 1"):
        GeneratedData(sites={"north": ("A",)}, public=0)


def few(**changes) -> GeneratedData:
    sizes = {"private_per_site": 1, "heldout_per_site": 1, "public": 1, "test_per_label": 1}
    return GeneratedData(**({"sites": {"a": ("odd",)}} | sizes | changes))


def test_a_task_can_be_used_up_to_its_last_problem(tmp_path):
    """Odd: one test, one private, one held out; even: one test, one public, and one that is left."""
    write_generated(few(), FewCases(), 0, tmp_path)
    taken = [problem.id for problems in sets_in(tmp_path, FewCases()).values() for problem in problems]
    assert len(set(taken)) == len(taken) == 5
    with pytest.raises(ValueError, match=r"task few has too few distinct problems for 2 more \(heldout/a\)"):
        write_generated(few(heldout_per_site=2), FewCases(), 0, tmp_path)


@pytest.mark.parametrize("change", ["public", "private_per_site", "test_per_label"])
def test_more_problems_than_the_task_has_are_refused_saying_for_what(tmp_path, change):
    with pytest.raises(ValueError, match=f"too few distinct problems for .*{change.split('_')[0]}"):
        write_generated(few(**{change: 50}), FewCases(), 0, tmp_path)


@pytest.mark.parametrize("name", ["public", "test", "a.heldout", "../up", "", "a/b"])
def test_a_site_name_of_a_shared_set_is_refused(tmp_path, name):
    """Else a site's private problems could be in `public.jsonl`, which all sites share."""
    with pytest.raises((ValidationError, ValueError), match="name"):
        write_generated(GeneratedData(sites={name: ("A",)}), TASK, 0, tmp_path)
