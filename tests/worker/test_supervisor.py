"""A real worker process: its answers, its death, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.worker.supervisor import Aborted, Supervisor, WorkerError

pytestmark = pytest.mark.slow  # every test starts a process that imports torch, transformers and DeepSpeed

PUBLIC = {"index": 0, "private_steps": 1, "public_ids": []}


@pytest.fixture
def start(site_files, job):
    """Start supervised workers, and check at the end that none is left."""
    supervisors = []

    def make(job=job, site="site-1", aborted=lambda: False, manifest=None, **changes) -> Supervisor:
        right, configs = site_files({site: ("A", "B")}, **changes)
        supervisor = Supervisor(job, site, configs[site], manifest or right, aborted)
        supervisors.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in supervisors:
        supervisor.stop()
    assert not [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def train(supervisor, **message):
    """A segment of round 0, which begins where the worker knows nothing of it."""
    order = {"task": "train", "segments": [PUBLIC], "exchange": False, "begin_round": False, "round": 0}
    return supervisor.request(order | message, initial_adapter(supervisor.adapter_spec, seed=0))


def test_a_worker_serves_a_round_stays_over_errors_and_stopped_leaves_its_adapter(start, tmp_path):
    supervisor = start()
    with pytest.raises(WorkerError, match=r"the worker has nothing of round 0 \(it is in none\)"):
        supervisor.request({"task": "submit", "round": 0})
    theta = initial_adapter(supervisor.adapter_spec, seed=0)
    assert [m["kind"] for m in train(supervisor, begin_round=True)[0]["metrics"]] == ["private"]
    with pytest.raises(WorkerError, match="unknown task 'dance'"):
        supervisor.request({"task": "dance", "round": -1})
    with pytest.raises(WorkerError, match=r"KeyError: 'no-such-problem'"):
        supervisor.request({"task": "propose", "round": 0, "segments": [PUBLIC | {"public_ids": ["no-such-problem"]}]})
    assert supervisor.running
    _, delta = supervisor.request({"task": "submit", "round": 0})
    assert {n: list(t.shape) for n, t in delta.items()} == supervisor.adapter_spec
    scores, _ = supervisor.request({"task": "validate", "round": 0, "samples": 1, "share": [0, 1], "name": "x"}, theta)
    assert scores["scores"]["test"]["A"]["problems"] == 4
    supervisor.stop(grace=20)
    assert (tmp_path / "sites" / "site-1" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_killed_worker_is_an_error_and_the_next_one_is_ended_when_it_hangs_past_its_deadline(start, small_job):
    supervisor = start()
    os.kill(supervisor._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"worker died \(exit code -9\); see .*worker.log"):
        train(supervisor)
    assert not supervisor.running
    supervisor.start()
    assert train(supervisor)[0]["metrics"]
    supervisor.job = small_job(federation__step_deadline=0.5)
    os.kill(supervisor._process.pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"no answer within federation.step_deadline = 0.5 s"):
        train(supervisor)
    assert not supervisor.running


def test_an_abort_reaches_a_working_worker(start):
    flag = []
    supervisor = start(aborted=lambda: bool(flag))
    os.kill(supervisor._process.pid, signal.SIGSTOP)
    flag.append(True)
    began = time.monotonic()
    with pytest.raises(Aborted):
        train(supervisor)
    assert time.monotonic() - began < 5
    assert not supervisor.running


def test_bad_input_at_the_site_is_the_answer_to_the_set_up(start):
    with pytest.raises(WorkerError, match=r"FileNotFoundError: model_path: no config.json in /nonexistent"):
        start(model_path="/nonexistent")


def test_a_worker_that_dies_at_start_says_so(start, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('no torch on this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(WorkerError, match=r"worker died while starting: no torch on this machine \(exit code 1\)"):
        start()


def test_the_worker_dies_with_its_supervisor(site_files, job, tmp_path):
    """The supervising process is killed outright; the worker must notice by itself."""
    manifest, configs = site_files({"site-1": ("A",)})
    script = textwrap.dedent(f"""
        import os, signal
        from fedrlvr.config import JobConfig
        from fedrlvr.worker.supervisor import Supervisor
        from fedrlvr.site_config import SiteConfig
        supervisor = Supervisor(JobConfig.model_validate_json({job.model_dump_json()!r}), "site-1",
                                SiteConfig.model_validate_json({configs["site-1"].model_dump_json()!r}), {manifest!r})
        supervisor.start()
        print(supervisor._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    worker = int(done.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its supervisor"
        time.sleep(0.1)
