"""Counting right answers: a problem's counts depend on that problem alone.
Counts on disk: a cut file is continued, and results of two measurements never mix."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedrlvr.algorithms.scores import ProblemResult
from fedrlvr.config import PromptSettings
from fedrlvr.learning.evaluation import ResultsFile, evaluate, measure, result_of
from fedrlvr.learning.finite import NotFinite
from fedrlvr.learning.generator import Sample
from fedrlvr.learning.model import load_trained
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.settings_file import SettingsError
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tasks.task import NO_BOX, TIMEOUT, Verdict
from fedrlvr.types import Completion, Group

TASK = TASKS["protocol"]
CPU = torch.device("cpu")
LENGTH, SAMPLES, TEMPERATURE = 20, 3, 1.3  # warm enough for answers of many lengths


@pytest.fixture(scope="module")
def problems():
    random = np.random.default_rng(0)
    drawn = [TASK.problem(label, random) for _ in range(4) for label in TASK.labels]
    assert len({problem.id for problem in drawn}) == 16
    return drawn


@pytest.fixture(scope="module")
def policy(model_path):
    return load_trained(LocalModel(model_path=model_path), None, PromptSettings(), CPU)


class Watched:
    """A generator that notes how many prompts come at once."""

    exact_logprobs = True

    def __init__(self, inner):
        self.inner, self.counts = inner, []

    def sample(self, prompts, temperature, uniforms_NT):
        self.counts.append(len(prompts))
        return self.inner.sample(prompts, temperature, uniforms_NT)


@pytest.fixture
def measured(policy, problems):
    """measured(rows, ...) -> (results, the generator)"""

    def run(rows: int, chosen=problems, seed: int = 0) -> tuple[list[ProblemResult], Watched]:
        generator = Watched(CachedSampler(policy, 1000))
        rollouts = Rollouts(policy, generator, TASK, Ranks(), LENGTH, TEMPERATURE)
        parts = measure(rollouts, chosen, SAMPLES, seed, rows)
        return [result_of(group) for part in parts for group in part], generator

    return run


@pytest.fixture
def expected(measured) -> list[ProblemResult]:
    return measured(rows=1000)[0]


def test_the_base_model_is_sometimes_right_and_sometimes_wrong(expected, problems):
    """Or the comparisons below would compare nothing."""
    assert [(result.id, result.label, result.samples) for result in expected] == [(p.id, p.label, 3) for p in problems]
    assert 0 < sum(result.correct for result in expected) < 3 * len(problems)
    assert len({result.tokens for result in expected}) > 1


@pytest.mark.parametrize(
    ("rows", "counts"), [(1, [1] * 16), (3, [1] * 16), (8, [2] * 8), (21, [7, 7, 2]), (48, [16]), (50, [16])]
)
def test_how_many_rows_are_sampled_at_once_changes_nothing(measured, expected, rows, counts):
    found, generator = measured(rows)
    assert found == expected
    assert generator.counts == counts


def test_neither_order_nor_company_changes_a_problems_result(measured, expected, problems):
    assert measured(9, problems[::-1])[0] == expected[::-1]
    assert measured(1000, problems[5:12:3])[0] == expected[5:12:3]


def test_another_seed_draws_other_completions(measured, expected):
    assert measured(1000, seed=1)[0] != expected


def test_cut_off_and_missing_answers_timeouts_and_lengths_are_counted(problems):
    """Four samples of 2, 3, 7 and 4 tokens, end tokens included: mean 4. One was cut off, one right, two not checked,
    and one had no box."""
    samples = [Sample((5,) * n, (0.0,) * n, truncated=n == 7, entropy=0.0) for n in (2, 3, 7, 4)]
    verdicts = iter([Verdict(1.0, "exact"), Verdict(0.0, TIMEOUT), Verdict(0.0, TIMEOUT), Verdict(0.0, NO_BOX)])
    policy = SimpleNamespace(model=torch.nn.Identity(), encode_prompt=lambda prompt: (1, 2), decode=lambda ids: "#07")
    task = SimpleNamespace(prompt=TASK.prompt, verify=lambda problem, text: next(verdicts))
    generator = SimpleNamespace(sample=lambda *_: [samples], exact_logprobs=True)
    rollouts = Rollouts(policy, generator, task, Ranks(), 7, 1.0)
    ((group,),) = measure(rollouts, problems[:1], 4, 0, 1)
    result = result_of(group)
    counts = {"samples": 4, "correct": 1, "truncated": 1, "unanswered": 1, "timeouts": 2}
    assert result == ProblemResult(problems[0].id, "A", **counts, tokens=4.0, reward=0.25)


def test_pass_at_k_by_label_for_the_k_that_the_samples_allow(problems):
    """Of two samples, 1 and 2 are right: pass@1 is (0.5 + 1) / 2, pass@2 is 1 for both; pass@4 needs four."""
    right, wrong = (Completion((1,), (0.0,), "", reward) for reward in (1.0, 0.0))
    same = [problem for problem in problems if problem.label == "A"][:2]
    groups = [Group(same[0], (right, wrong)), Group(same[1], (right, right))]
    rollouts = SimpleNamespace(groups=lambda problems, samples, seed: (groups, 0.0))
    assert evaluate(rollouts, same, 2, [1, 2, 4], 0)[0] == {"A": {"problems": 2, "pass@1": 0.75, "pass@2": 1.0}}


SETTINGS = {"model": "a1", "adapter": None, "temperature": 0.7, "samples": 2, "prompt": {"system_prompt": None}}
RESULTS = [ProblemResult(f"p{i}", "é", 2, i % 3, 0, 0, 0, 4.5 + i, i / 8) for i in range(4)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "results.jsonl"


def written(path, results=RESULTS, settings=SETTINGS) -> ResultsFile:
    file = ResultsFile(path, settings)
    with file:
        for result in results:
            file.write([result])
    return file


def test_what_is_written_is_found_again(path):
    assert written(path).done == {result.id: result for result in RESULTS}
    assert ResultsFile(path, SETTINGS).done == {result.id: result for result in RESULTS}
    assert [entry.name for entry in path.parent.iterdir()] == ["results.jsonl"]


def test_looking_at_a_measurement_writes_nothing(path):
    assert ResultsFile(path, SETTINGS).done == {}
    assert not path.parent.exists()


def test_each_result_is_on_disk_before_the_next_is_measured(path):
    with ResultsFile(path, SETTINGS) as file:
        for count, result in enumerate(RESULTS, start=1):
            file.write([result])
            assert len(ResultsFile(path, SETTINGS).done) == count


def test_wherever_the_file_is_cut_off_it_is_gone_on_from_there_to_the_same_end(path):
    written(path)
    whole = path.read_bytes()
    assert "é".encode() not in whole  # so that no cut falls within a character
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in sorted(
        {0, 1, len(whole) // 2, *(end + i for end in ends for i in (-2, -1, 0, 1) if end + i <= len(whole))}
    ):
        path.write_bytes(whole[:cut])
        left = max(0, sum(end <= cut for end in ends) - 1)  # the first line says what was measured
        found = ResultsFile(path, SETTINGS)
        assert list(found.done.values()) == RESULTS[:left], cut
        written(path, RESULTS[left:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("name", SETTINGS)
def test_another_measurements_results_are_refused_and_the_setting_is_named(path, name):
    written(path)
    with pytest.raises(SettingsError, match=f"another {name}; choose another folder") as caught:
        ResultsFile(path, SETTINGS | {name: "other"})
    assert str(path.parent) in str(caught.value)
    assert len(ResultsFile(path, SETTINGS).done) == len(RESULTS)


@pytest.mark.parametrize("line", ['{"id": "p9"}', "not json", "[1]"])
def test_a_line_that_is_no_result_is_an_error(path, line):
    written(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SettingsError, match=r"results.jsonl: no results of this version; choose another folder"):
        ResultsFile(path, SETTINGS)


@pytest.mark.parametrize("line", ["[]", "3", "not json", '{"id": "a", "prompt": "A3725?", "answer": "07"}'])
def test_a_file_that_is_no_measurement_is_left_alone(path, line):
    path.parent.mkdir()
    path.write_text(line + "\n")
    with pytest.raises(SettingsError, match="choose another folder"):
        ResultsFile(path, SETTINGS)
    assert path.read_text() == line + "\n"


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_model_of_weights_that_are_not_finite_is_no_model_that_scores_0(model_path, problems, value):
    policy = load_trained(LocalModel(model_path=model_path), None, PromptSettings(), CPU)
    with torch.no_grad():
        policy.model.model.layers[1].mlp.up_proj.weight[0, 0] = float(value)
    rollouts = Rollouts(policy, CachedSampler(policy), TASK, Ranks(), LENGTH, TEMPERATURE)
    said = r"log-probability of sampled tokens is nan; look for .* \(the first is model.layers.1.mlp.up_proj.weight\)"
    with pytest.raises(NotFinite, match=said):
        evaluate(rollouts, problems[:2], SAMPLES, [1], seed=0)


def test_numbers_that_overflow_between_finite_weights_are_called_so(model_path, problems):
    policy = load_trained(LocalModel(model_path=model_path), None, PromptSettings(), CPU)
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(3e38)
    rollouts = Rollouts(policy, CachedSampler(policy), TASK, Ranks(), LENGTH, TEMPERATURE)
    with pytest.raises(NotFinite, match=r"there are none: numbers overflow on the way"):
        next(measure(rollouts, problems[:2], SAMPLES, 0, 100))
