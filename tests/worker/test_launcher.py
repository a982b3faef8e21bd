"""How a site starts its worker: templates that are refused, and launchers that are really run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import torch

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import FederationSettings
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.launcher import take_place, worker_command, worker_environment
from fedrlvr.worker.supervisor import Supervisor, WorkerError

TORCHRUN = "torchrun --standalone --nproc-per-node={processes} -m {worker}"
DEEPSPEED = "deepspeed --num_accelerators {processes} --master_port {port} --module {worker}"
PATHS = ["model_path", "private_problems", "public_problems", "test_problems", "deepspeed_config", "state_dir"]
SITE = dict.fromkeys(["model", *PATHS], "x")


def site(launch: str | None, **changes) -> SiteConfig:
    return validate_settings(SiteConfig, SITE | {"worker": {"launch": launch}} | changes, "fedrlvr.yaml")


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ("", "must name {worker} exactly once"),
        ("torchrun -m fedrlvr.worker.worker", "must name {worker} exactly once"),
        ("torchrun -m {worker} {worker}", "must name {worker} exactly once"),
        ("bash -c 'python -m {worker}'", "must name {worker} exactly once, as an argument of its own"),
        ("torchrun --nproc-per-node={gpus} -m {worker}", "unknown placeholder {gpus}; known are {worker}, {processes}"),
        ("torchrun --x={processes:>9} -m {worker}", "unknown placeholder"),
        ("torchrun --x={} -m {worker}", "unknown placeholder {}"),
        ("torchrun 'x -m {worker}", "cannot be read as a command: No closing quotation"),
        ("torchrun --x={ -m {worker}", "cannot be read as a command"),
    ],
)
def test_a_bad_template_is_a_mistake_in_the_site_file(launch, said):
    with pytest.raises(SettingsError, match=r"^fedrlvr.yaml: worker.launch: ") as mistake:
        site(launch)
    assert said in str(mistake.value)


def test_placeholders_are_filled_in():
    config = site("srun --nodes 2 'a b' --n={processes} --p={port} {{x}} -m {worker} --", processes=4)
    *first, port, braces, flag, module, address, last = worker_command(config, "/tmp/socket")
    assert first == ["srun", "--nodes", "2", "a b", "--n=4"]
    assert int(port.removeprefix("--p=")) > 1023
    assert [braces, flag, module, address, last] == ["{x}", "-m", "fedrlvr.worker.worker", "/tmp/socket", "--"]


def test_without_one_a_single_rank_is_started_directly_and_several_by_torchrun():
    assert worker_command(site(None), "a") == [sys.executable, "-m", "fedrlvr.worker.worker", "a"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert worker_command(site(None, processes=2), "a") == [*torchrun, "-m", "fedrlvr.worker.worker", "a"]


def test_a_worker_inherits_no_place_among_ranks_and_finds_what_lies_beside_this_python(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("PATH", "/usr/bin")
    environment = worker_environment(site(None, threads=2))
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} & environment.keys()
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert environment["OMP_NUM_THREADS"] == "2"


def test_a_worker_that_was_given_no_place_is_alone_unless_it_is_one_of_several(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(RuntimeError, match="SLURM_STEP_NUM_TASKS is 2, but RANK is not set; let torchrun start"):
        take_place()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    take_place()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["MASTER_PORT"]) == ("0", "1", "0")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    take_place()
    assert os.environ["RANK"] == "1"


def left() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def start(site_files, small_job):
    """Start supervised workers by `launch`, with keys of the job changed; check at the end that no process is left."""
    supervisors = []

    def make(launch: str, site: str = "site-1", processes: int = 1, **changes) -> Supervisor:
        manifest, configs = site_files({site: ("A", "B")}, worker={"launch": launch}, processes=processes)
        supervisor = Supervisor(small_job(**changes), site, SiteConfig.model_validate(dict(configs[site])), manifest)
        supervisors.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in supervisors:
        supervisor.stop()
    assert not left()


def train(supervisor: Supervisor, steps: int = 1):
    """The first segment of a round, of private steps: what each of them tells, and the adapter's change."""
    segment = {"index": 0, "private_steps": steps, "public_ids": []}
    message = {"task": "train", "segments": [segment], "exchange": False, "begin_round": True, "round": 0}
    answer, _ = supervisor.request(message, initial_adapter(supervisor.adapter_spec, seed=0))
    return answer["metrics"], supervisor.request({"task": "submit", "round": 0})[1]


@pytest.mark.slow
def test_launchers_give_the_same_ranks(start):
    """One rank started by a command, two by torchrun, two by DeepSpeed's launcher while another site's two run: the
    same metrics, and the same adapter up to rounding."""
    job = {"method": "fedavg+public", "optimizer__learning_rate": 1e-4, "grpo__num_generations": 32}
    results = [train(start("python -m {worker}", **job), 2)]
    results.append(train(start(TORCHRUN, processes=2, **job), 2))
    neighbour = start(DEEPSPEED, processes=2, site="site-2")
    results.append(train(start(DEEPSPEED, processes=2, **job), 2))
    assert len(neighbour._lifelines) == 2
    (metrics, delta), *others = results
    assert sum(step["optimizer_steps"] for step in metrics) > 0
    for other_metrics, other in others:
        assert [step["reward"] for step in other_metrics] == [step["reward"] for step in metrics]
        for name, tensor in delta.items():
            torch.testing.assert_close(tensor, other[name], atol=2e-6, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("launch", [TORCHRUN, DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_a_killed_launcher_leaves_no_rank(start, launch):
    supervisor = start(launch, processes=2)
    assert len(left()) >= 3  # a launcher and two ranks
    os.kill(supervisor._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"worker died \(exit code -9\)"):
        train(supervisor)
    deadline = time.monotonic() + 20
    while left():
        assert time.monotonic() < deadline, [p.cmdline() for p in left()]
        time.sleep(0.1)


def writes_under(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(file.path.startswith(str(folder)) for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@pytest.mark.slow
def test_ranks_that_a_launcher_puts_into_sessions_of_their_own_die_with_the_supervisor(site_files, job, tmp_path):
    """No process group holds them, as under a container or a batch system: their lifelines do."""
    manifest, configs = site_files({"site-1": ("A",)}, worker={"launch": f"setsid --wait {TORCHRUN}"}, processes=2)
    config = SiteConfig.model_validate(dict(configs["site-1"]))
    script = textwrap.dedent(f"""
        import os, signal
        from fedrlvr.config import JobConfig
        from fedrlvr.worker.supervisor import Supervisor
        from fedrlvr.site_config import SiteConfig
        supervisor = Supervisor(JobConfig.model_validate_json({job.model_dump_json()!r}), "site-1",
                                SiteConfig.model_validate_json({config.model_dump_json()!r}), {manifest!r})
        supervisor.start()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 30
    while alive := [process for process in psutil.process_iter() if writes_under(process, tmp_path)]:
        assert time.monotonic() < deadline, [process.cmdline() for process in alive]
        time.sleep(0.2)


@pytest.mark.slow
def test_a_rank_out_of_reach_does_without_a_lifeline_unless_it_is_the_first(start, tmp_path):
    """Stands for a launcher over several machines: the second rank sees no socket at the address it is given."""
    blind = tmp_path / "blind.py"
    blind.write_text(
        "import os, sys\nfrom fedrlvr.worker.worker import main\n"
        "blind = os.environ['RANK'] in os.environ['BLIND'].split()\n"
        "main('/nonexistent/worker' if blind else sys.argv[-1])\n"
    )
    launch = f"env BLIND=1 torchrun --standalone --nproc-per-node={{processes}} {blind} {{worker}}"
    supervisor = start(launch, processes=2)
    assert len(supervisor._lifelines) == 1
    assert train(supervisor)[1]
    with pytest.raises(WorkerError, match="worker died while starting"):
        start(launch.replace("BLIND=1", "BLIND=0"), processes=2)
    log = supervisor.log_path.read_text()
    assert "rank 0 does not reach its supervisor at /nonexistent/worker (No such file or directory)" in log


@pytest.mark.slow
def test_a_launcher_that_is_not_there_is_said_so(start):
    with pytest.raises(WorkerError, match=r"worker.launch: cannot start no-such-launcher: No such file or directory"):
        start("no-such-launcher -m {worker}")


@pytest.mark.slow
def test_a_launcher_that_starts_no_worker_is_ended_at_the_start_deadline(start, monkeypatch):
    monkeypatch.setattr(FederationSettings, "start_deadline", 1.0)
    with pytest.raises(WorkerError, match=r"worker did not start within 1 s; see .*worker.log"):
        start("python -c 'import time; time.sleep(600)' {worker}")
    assert not left()


@pytest.mark.slow
def test_a_model_that_loads_longer_than_a_step_may_take_is_no_failure(start, small_job):
    """Loading comes under the start's deadline, not under the step's, which here nothing could meet."""
    supervisor = start("python -m {worker}", federation__step_deadline=1e-3)
    os.kill(supervisor._process.pid, signal.SIGSTOP)  # or a quick step would be done before anybody looks
    with pytest.raises(WorkerError, match=r"no answer within federation.step_deadline = 0.001 s"):
        train(supervisor)
