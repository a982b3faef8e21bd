"""Every time-out from one setting, worked out by hand; and that a job carries them."""

import json

import pytest
from tests.runs import some_spec

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.recipe import PubSwapRecipe


@pytest.mark.parametrize(
    ("step", "start", "task", "first_task", "pickup", "transfer"),
    [
        (1.5, 600.0, 11.5, 611.5, 60.0, 600.0),  # a step of seconds: floors everywhere
        (100.0, 600.0, 125.0, 725.0, 100.0, 600.0),  # a quarter of the step for the answer
        (240.0, 600.0, 300.0, 900.0, 240.0, 600.0),  # from here on a minute
        (3600.0, 3600.0, 3660.0, 7260.0, 300.0, 900.0),  # the default
        (14400.0, 14400.0, 14460.0, 28860.0, 300.0, 3600.0),  # the presets of real models
    ],
)
def test_all_follows_from_a_steps_deadline(small_job, step, start, task, first_task, pickup, transfer):
    deadlines = Deadlines.of(small_job(federation__step_deadline=step))
    assert (deadlines.step, deadlines.start, deadlines.task) == (step, start, task)
    assert (deadlines.first_task, deadlines.pickup, deadlines.transfer) == (first_task, pickup, transfer)


def test_the_exported_job_holds_them(small_job, tmp_path):
    job = small_job(federation__step_deadline=7200.0)
    PubSwapRecipe(some_spec(job)).export(str(tmp_path))
    server, client = (
        json.loads(next(tmp_path.rglob(f"config_fed_{side}.json")).read_text()) for side in ("server", "client")
    )
    tensors = {"tensor_streaming_per_request_timeout": 900.0, "tensor_min_download_timeout": 1800.0}
    assert server["server"] == {"task_request_interval": 0.05}
    assert server.items() >= tensors.items()
    assert client.items() >= tensors.items()
    assert client["get_task_timeout"] == 150.0
    assert client["submit_task_result_timeout"] == 1800.0
    assert client["task_check_timeout"] == 30.0
    assert client["max_runner_sync_timeout"] == 300.0


def test_what_is_lost_is_asked_for_again_before_anybody_gives_up(small_job):
    for step in (1.0, 100.0, 1000.0, 100_000.0):
        deadlines = Deadlines.of(small_job(federation__step_deadline=step))
        flare = deadlines.client_config()
        assert 2 * flare["get_task_timeout"] <= deadlines.pickup < deadlines.first_task
        assert 2 * flare["tensor_streaming_per_request_timeout"] <= flare["tensor_min_download_timeout"]
        assert deadlines.step + deadlines.start < deadlines.first_task


def test_they_are_said_in_words(small_job):
    said = Deadlines.of(small_job()).describe()
    assert said[:2] == [
        "a site may take 61 min for a task, 121 min where its worker has to start (federation.step_deadline)",
        "of these, a step: 60 min, from which the rest follows; a worker's start: 60 min",
    ]
    assert said[-1].startswith("set in FLARE at every site: get_task_timeout 150, max_runner_sync_timeout 300, submit")
