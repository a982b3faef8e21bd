"""What makes two jobs parts of one run."""

import os
import re

import pytest
from tests.runs import some_spec

from fedrlvr.run import KEPT_RUNS, RUN, forget_old_runs, run_identity


def test_new_names_are_valid_and_unique(small_job):
    names = {some_spec(small_job()).run for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(RUN, name) for name in names)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"federation__rounds": 7}, True),
        ({"federation__min_sites": 3}, True),
        ({"federation__step_deadline": 9.0}, True),
        ({"federation__max_update_norm": 2.0}, True),
        ({"evaluation__samples": 9}, True),
        ({"seed": 1}, False),
        ({"model": "other"}, False),
        ({"method": "fedavg"}, False),
        ({"federation__segments_per_round": 5}, False),
        ({"federation__local_steps": 3}, False),
        ({"optimizer__learning_rate": 2e-3}, False),
        ({"exchange__keep_pool": False}, False),
        ({"grpo__num_generations": 6}, False),
    ],
    ids=str,
)
def test_only_what_does_not_change_the_past_may_change(small_job, change, same):
    before, after = run_identity(small_job(), "manifest"), run_identity(small_job(**change), "manifest")
    assert (before == after) is same


def test_another_public_set_site_or_shape_is_another_run(small_job):
    job = small_job()
    variants = [
        run_identity(job, "manifest"),
        run_identity(job, "other manifest"),
        run_identity(job, "manifest", site="site-1", processes=1),
        run_identity(job, "manifest", site="site-2", processes=1),
        run_identity(job, "manifest", site="site-1", processes=2),
    ]
    assert len(set(variants)) == len(variants)
    assert run_identity(job, "manifest", processes=1, site="site-1") == variants[2]


def test_the_runs_written_to_last_are_kept_and_nothing_else_is_touched(tmp_path):
    runs = [f"{number:016x}" for number in range(KEPT_RUNS + 2)]
    for age, name in enumerate(runs):
        (tmp_path / name / "deep").mkdir(parents=True)
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    (tmp_path / "somebody's").mkdir()
    os.utime(tmp_path / runs[0], (9000, 9000))  # gone on with
    forget_old_runs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {runs[0], runs[-1], runs[-2], "somebody's"}
