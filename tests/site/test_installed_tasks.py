"""A job for a task of an installed package: which sites take it, and what a fault of its verifier does to a run."""

import json

import pytest
from tests.runs import of, run_here, spec_of
from tests.scripted_site import SUBMIT, refusal, train

from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.ranks import Ranks
from fedrlvr.protocol.answers import StepsAnswer
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import RunFailed
from fedrlvr.site.checks import check_problems
from fedrlvr.task_package import package_of
from fedrlvr.tasks.task import VerifierFault

CASES = """
from fedrlvr.tasks.protocol import Protocol
from fedrlvr.tasks.task import Verdict


class Cases(Protocol):
    name = "cases"

    def verify(self, problem, completion):
        {line}
        return super().verify(problem, completion)
"""
HOW = {"points": "cases = case_tasks:Cases", "name": "case-tasks", "version": "2.0"}
TRAINS = CASES.format(line="pass")
RAISES_AT_ONCE = CASES.format(line="assert problem.label == 'B'")
RAISES_IN_TRAINING = CASES.format(line="assert completion == self.gold_completion(problem)")
HALVES = CASES.format(line="return Verdict(1.0 if completion == self.gold_completion(problem) else 0.5, 'x')")


@pytest.fixture
def cases_job(small_job):
    return small_job(task="cases", federation__min_sites=2)


def test_a_site_with_the_same_package_takes_the_job(others, site, cases_job):
    others(TRAINS, **HOW)
    agent = site(job=cases_job, task_package=package_of("cases"))
    assert isinstance(train(agent)[0], StepsAnswer)


def test_a_site_with_another_package_or_none_says_both(others, site, cases_job):
    others(TRAINS, **HOW)
    here = package_of("cases")
    newer = here.model_copy(update={"version": "2.1"})
    agent = site(job=cases_job, task_package=newer)
    ending = "; a site runs only what its own IT has installed"
    assert refusal(agent.answer(SUBMIT, None)) == (
        f"task 'cases' differs: the job is for {newer}, this site has {here}{ending}"
    )
    assert agent.worker is None  # nothing was started
    elsewhere = site(job=cases_job.model_copy(update={"task": "mine"}), task_package=here)
    assert refusal(elsewhere.answer(SUBMIT, None)) == (
        f"task 'mine' differs: the job is for {here}, this site has no package that offers it{ending}"
    )


def test_only_jobs_for_such_a_task_tell_of_a_package(others, small_job, cases_job, site_files):
    others(TRAINS, **HOW)
    _, sites = site_files({"site-1": ("A",)})
    assert "task_package" not in spec_of(small_job(), sites).model_dump_json()
    spec = spec_of(cases_job, sites)
    assert spec.task_package == package_of("cases")
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_worker_in_a_place_with_another_package_refuses_too(others, site_files, cases_job):
    others(TRAINS, **HOW)
    _, sites = site_files({"site-1": ("A",)})
    spec = spec_of(cases_job, sites)
    other = spec.task_package.model_copy(update={"source": "0" * 16})
    with pytest.raises(
        ValueError, match=r"the job is for case-tasks 2.0 \(source 0{16}\), this site has case-tasks 2.0"
    ):
        build_trainer(spec.model_copy(update={"task_package": other}), "site-1", sites["site-1"], Ranks())


def test_the_doctor_tells_the_package_and_what_its_verifier_does_with_golds(others, site_files, cases_job):
    others(TRAINS, **HOW)
    _, sites = site_files({"site-1": ("A",)})
    first = next(check_problems(sites["site-1"], cases_job, None))
    assert (first.about, first.text) == ("task", f"cases of {package_of('cases')}; all sites need this one")
    others(RAISES_AT_ONCE, **HOW)
    with pytest.raises(
        VerifierFault, match=r"verify raised AssertionError \(case_tasks.py, line 10\).*'protocol-A\d+'"
    ):
        list(check_problems(sites["site-1"], cases_job, None))


def test_a_run_of_such_a_task(others, site_files, cases_job, tmp_path):
    others(HALVES, **HOW)
    _, sites = site_files({"site-1": ("A",), "site-2": ("B",)})
    events, _ = run_here(tmp_path / "run", spec_of(cases_job, sites), sites)
    assert events[-1]["event"] == "end"
    rewards = [event["reward"] for event in of(events, "step")]
    assert rewards
    assert min(rewards) >= 0.5  # whatever is not right is worth a half
    assert all(scores["test"]["A"]["pass@1"] < 0.5 for scores in of(events, "evaluation")[0]["scores"].values())


def test_a_fault_in_training_is_a_failure_of_the_site_and_no_reward(others, site_files, cases_job, tmp_path):
    others(RAISES_IN_TRAINING, **HOW)
    _, sites = site_files({"site-1": ("A",), "site-2": ("B",)})
    spec = spec_of(cases_job, sites)  # every gold is right
    said = r"VerifierFault: task cases of case-tasks 2.0 .*: verify raised AssertionError \(case_tasks.py, line 10\)"
    with pytest.raises(RunFailed, match=said):
        run_here(tmp_path / "run", spec, sites)


def test_a_fault_with_a_gold_stops_a_site_before_it_trains(others, site_files, cases_job, tmp_path):
    """As at a site whose private problems the lead has never seen."""
    others(TRAINS.replace("pass", "assert problem.id != 'broken'"), **HOW)
    _, sites = site_files({"site-1": ("A",), "site-2": ("B",)})
    spec = spec_of(cases_job, sites)
    private = sites["site-2"].private_problems
    first, rest = private.read_text().split("\n", 1)
    private.write_text(json.dumps(json.loads(first) | {"id": "broken"}) + "\n" + rest)
    with pytest.raises(RunFailed, match=r"VerifierFault: task cases of .* for the problem with the id 'broken'"):
        run_here(tmp_path / "run", spec, sites)
    assert not list(sites["site-2"].state_dir.glob("checkpoints/*/*"))
