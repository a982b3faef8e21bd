"""What an error says to the server, and where a site's file is looked for."""

from __future__ import annotations

import pytest

from fedrlvr.algorithms.lora import spec_hash
from fedrlvr.flare.messages import without_folders
from fedrlvr.flare.site.executor import SiteExecutor, site_file
from fedrlvr.protocol.refused import Refused
from fedrlvr.run import new_run


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (
            "/srv/ward-7/data/private.jsonl, line 2, field answer: missing",
            "private.jsonl, line 2, field answer: missing",
        ),
        ("worker died (exit code -9); see /home/mia/state/worker.log", "worker died (exit code -9); see worker.log"),
        ("cannot open '/a/b/c.json': /a/b/c.json", "cannot open 'c.json': c.json"),
        ("swap/fraction and 1/2 stay as they are", "swap/fraction and 1/2 stay as they are"),
    ],
)
def test_folders_of_a_site_stay_at_the_site(text, sent):
    assert without_folders(text) == sent


def test_a_simulated_sites_own_file_goes_before_the_shared_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no site file fedrlvr.yaml"):
        site_file(tmp_path, "site-1")
    (tmp_path / "fedrlvr.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.yaml"
    (tmp_path / "fedrlvr.site-1.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.site-1.yaml"
    assert site_file(tmp_path, "site-2").name == "fedrlvr.yaml"


def test_an_adapter_of_other_shapes_or_settings_is_refused_with_both_hashes(small_job):
    job = small_job()
    executor = SiteExecutor(job.model_dump_json(), "manifest", new_run())
    spec = {"a.lora_A.weight": [8, 64], "a.lora_B.weight": [64, 8]}
    own = spec_hash(spec, job.lora)
    executor._check_spec(own, dict(reversed(spec.items())))  # the order of names says nothing
    executor._check_spec(None, spec)  # only the first request of a round carries one
    for other in (
        spec_hash(spec | {"a.lora_A.weight": [8, 65]}, job.lora),
        spec_hash(spec, job.lora.model_copy(update={"alpha": 32.0})),
        spec_hash({name.replace("a.", "b."): shape for name, shape in spec.items()}, job.lora),
    ):
        with pytest.raises(Refused, match=f"the server says {other}, this site's model gives {own}"):
            executor._check_spec(other, spec)


def test_a_job_that_plans_too_much_is_refused_at_every_task_and_keeps_no_worker(small_job):
    class Worker:
        running, private_problems, rounds_done, calls = False, 16, 0, ()

        def start(self):
            self.running, self.calls = True, (*self.calls, "start")

        def stop(self):
            self.running, self.calls = False, (*self.calls, "stop")

    class Spent:
        def check_plan(self, private_problems, rounds_done):
            raise Refused(f"too much for {private_problems} problems")

    executor = SiteExecutor(small_job().model_dump_json(), "manifest", new_run())
    executor._supervisor, executor._egress = worker, _ = Worker(), Spent()
    for _ in range(3):
        with pytest.raises(Refused, match="too much for 16 problems"):
            executor._running_supervisor()
    assert worker.calls == ("start", "stop")
