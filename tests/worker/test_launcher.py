"""How a site starts its worker: templates that are refused, and launchers that are really run."""

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
from tests.reached import reached

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import FederationSettings
from fedrlvr.processes import running, wait_until
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Segment
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.launcher import PLACE, take_place, visible_gpus, worker_command, worker_environment
from fedrlvr.worker.setup import Ready
from fedrlvr.worker.supervisor import Supervisor

STANDALONE = "torchrun --standalone --nproc-per-node={processes} -m {worker}"
TORCHRUN = STANDALONE.replace("--standalone", "--rdzv-backend=c10d --rdzv-conf=store_type=file")
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
    *torchrun, place, ranks, flag, module, address = worker_command(site(None, processes=2), "a/worker")
    assert torchrun[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert (place, ranks) == ("--rdzv-endpoint=a/worker.torchrun", "--nproc-per-node=2")
    assert (flag, module, address) == ("-m", "fedrlvr.worker.worker", "a/worker")


def test_a_worker_inherits_no_place_among_ranks_and_finds_what_lies_beside_this_python(monkeypatch):
    for name in PLACE:
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("PATH", "/usr/bin")
    environment = worker_environment(site(None, threads=2))
    assert not PLACE & environment.keys()
    assert {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"} <= PLACE
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert environment["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("numbers", "inherited", "expected"),
    [
        ((0, 2), None, "0,2"),
        ((0, 2), "", "0,2"),
        ((1, 0), "4,5,6", "5,4"),  # a batch system gave this process three
        ((0,), "GPU-8a1b, GPU-77", "GPU-8a1b"),
        ((1, 3), "4,5", "5,-1"),
    ],
)
def test_gpus_are_numbered_as_torch_does_in_the_process_of_the_site(numbers, inherited, expected):
    assert visible_gpus(numbers, inherited) == expected


def test_a_worker_without_named_gpus_sees_those_of_its_site_and_none_on_the_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert worker_environment(site(None))["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert worker_environment(site(None, gpus=[1]))["CUDA_VISIBLE_DEVICES"] == "5"
    assert worker_environment(site(None, device="cpu"))["CUDA_VISIBLE_DEVICES"] == ""


def test_a_worker_that_was_given_no_place_is_alone_unless_it_is_one_of_several(monkeypatch):
    for name in PLACE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(RuntimeError, match="SLURM_STEP_NUM_TASKS is 2, but RANK is not set; let torchrun start"):
        take_place()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    take_place()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]) == ("0", "1", "0")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    take_place()
    assert os.environ["RANK"] == "1"


@pytest.fixture
def start(set_up, small_job, supervised):
    """start(launch, keys of the job changed): as `supervised`."""

    def make(launch: str | None, site: str = "site-1", processes: int = 1, **changes):
        return supervised(set_up(small_job(**changes), site, worker={"launch": launch}, processes=processes))

    return make


def begin(supervisor: Supervisor, ready: Ready, requests, steps: int = 1):
    """Ask for the first steps of round 0."""
    assert isinstance(ready, Ready), ready
    request = requests.train(Segment(0, steps, ()), begin_round=True)
    return supervisor.ask(request, initial_adapter(ready.adapter_spec, 0))


def one_step(supervisor: Supervisor, ready: Ready, requests):
    answer, _ = begin(supervisor, ready, requests)
    _, delta = supervisor.ask(requests.submit())
    return answer.steps[0].metrics, delta


@pytest.mark.slow
def test_launchers_give_the_same_ranks_and_two_are_one(start):
    """One rank started by a command, two by torchrun, two by DeepSpeed's launcher, while another site's two run: the
    same step, the same adapter up to rounding. No other machine can connect to any of them, neither when it starts nor
    in a step, in which the ranks form the groups that DeepSpeed wants."""
    enough = {"grpo__num_generations": 32, "optimizer__learning_rate": 1e-4}  # for a step that moves the policy
    with reached(lambda: [psutil.Process()]) as ports:
        results = [one_step(*start("python -m {worker}", **enough))]
        results.append(one_step(*start(TORCHRUN, processes=2, **enough)))
        neighbour, _, _ = start(DEEPSPEED, processes=2, site="site-2")
        results.append(one_step(*start(DEEPSPEED, processes=2, **enough)))
    assert ports == set()
    assert len(neighbour._lifelines) == 2
    (metrics, delta), *others = results
    assert metrics["optimizer_steps"] > 0
    for other_metrics, other in others:
        assert other_metrics["reward"] == metrics["reward"]
        for name, tensor in delta.items():
            torch.testing.assert_close(tensor, other[name], atol=2e-6, rtol=1e-3)


@pytest.mark.slow
def test_no_other_machine_can_connect_to_a_worker_that_is_started_without_a_launcher(start):
    with reached(lambda: [psutil.Process()]) as ports:
        one_step(*start(None))
    assert ports == set()


@pytest.mark.slow
def test_ranks_meet_in_a_folder_that_is_for_its_owner_only_and_goes_with_them(start):
    with reached(lambda: [psutil.Process()]) as ports:
        supervisor, ready, requests = start(None, processes=2)
        one_step(supervisor, ready, requests)
    assert ports == set()
    place = Path(supervisor._meeting_place.name)
    assert {path.name for path in place.iterdir()} == {"worker", "ranks", "worker.torchrun"}
    assert place.stat().st_mode & 0o077 == 0
    supervisor.stop()
    assert not place.exists()


@pytest.mark.slow
@pytest.mark.parametrize("launch", [TORCHRUN, DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_a_killed_launcher_leaves_no_rank(start, left, launch):
    supervisor, ready, requests = start(launch, processes=2)
    assert len(left()) >= 3  # a launcher and two ranks
    os.kill(supervisor._process.pid, signal.SIGKILL)
    failure, _ = begin(supervisor, ready, requests, steps=1000)  # one could be done before the ranks notice
    assert failure.reason.startswith("worker died (exit code -9): killed by signal 9, probably")
    deadline = time.monotonic() + 20
    while left():
        assert time.monotonic() < deadline, [p.cmdline() for p in left()]
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("launch", [None, TORCHRUN, DEEPSPEED], ids=["ranks", "torchrun", "deepspeed"])
def test_a_rank_that_was_killed_is_said_to_have_run_out_of_memory(start, left, launch):
    """What a launcher ends with is not what its rank died of."""
    supervisor, ready, requests = start(launch, processes=2)
    ranks = [process for process in left() if any("fedrlvr.worker.worker" in word for word in process.cmdline()[:4])]
    os.kill(max(process.pid for process in ranks), signal.SIGKILL)
    # Before the other rank fails for want of the first, which DeepSpeed's launcher might hear of earlier.
    assert wait_until(lambda: not running(supervisor._process), 60)
    failure, _ = begin(supervisor, ready, requests, steps=1000)
    assert "killed by signal 9, probably because memory ran out; lower micro_batch_size" in failure.reason


def writes_under(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(file.path.startswith(str(folder)) for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@pytest.mark.slow
def test_ranks_that_a_launcher_puts_into_sessions_of_their_own_die_with_the_supervisor(set_up, job, tmp_path):
    """No process group holds them, as under a container or a batch system: their lifelines do."""
    setup = set_up(job, worker={"launch": f"setsid --wait {TORCHRUN}"}, processes=2)
    script = textwrap.dedent(f"""
        import os, signal
        from fedrlvr.worker.setup import SetUp
        from fedrlvr.worker.supervisor import Supervisor
        supervisor = Supervisor(SetUp.model_validate_json({setup.model_dump_json()!r}))
        print(type(supervisor.start()).__name__, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "Ready\n"), done.stderr
    deadline = time.monotonic() + 30
    while alive := [process for process in psutil.process_iter() if writes_under(process, tmp_path)]:
        assert time.monotonic() < deadline, [process.cmdline() for process in alive]
        time.sleep(0.2)


@pytest.mark.slow
def test_a_rank_out_of_reach_does_without_a_lifeline_unless_it_is_the_first(start, tmp_path):
    """Stands for a launcher over several machines: the second rank sees no socket at the address it is given, and
    neither rank is told that the other is on its machine, so that they meet over the network."""
    blind = tmp_path / "blind.py"
    blind.write_text(
        "import os, sys\nos.environ['LOCAL_WORLD_SIZE'] = '1'\nfrom fedrlvr.worker.worker import main\n"
        "blind = os.environ['RANK'] in os.environ['BLIND'].split()\n"
        "main('/nonexistent/worker' if blind else sys.argv[-1])\n"
    )
    launch = f"env BLIND=1 torchrun --standalone --nproc-per-node={{processes}} {blind} {{worker}}"
    supervisor, ready, requests = start(launch, processes=2)
    assert len(supervisor._lifelines) == 1
    assert one_step(supervisor, ready, requests)[1]
    _, failure, _ = start(launch.replace("BLIND=1", "BLIND=0"), processes=2)
    assert failure.reason.startswith("worker died while starting")
    log = supervisor.log.path.read_text()
    assert "rank 0 does not reach its supervisor at /nonexistent/worker (No such file or directory)" in log


@pytest.mark.slow
def test_a_launcher_that_is_not_there_is_said_so(start):
    supervisor, failure, _ = start("no-such-launcher -m {worker}")
    assert failure == Failure(reason="worker.launch: cannot start no-such-launcher: No such file or directory")
    assert not supervisor.running


@pytest.mark.slow
def test_a_launcher_that_starts_no_worker_is_ended_at_the_start_deadline(start, left, monkeypatch):
    monkeypatch.setattr(FederationSettings, "start_deadline", 1.0)
    _, failure, _ = start("python -c 'import time; time.sleep(600)' {worker}")
    assert failure.reason.startswith("worker did not start within 1 s")
    assert failure.reason.endswith("see worker.log")
    assert not left()


@pytest.mark.slow
def test_a_model_that_loads_longer_than_a_step_may_take_is_no_failure(start):
    """Loading comes under the start's deadline, not under the step's, which here nothing could meet."""
    supervisor, ready, requests = start("python -m {worker}", federation__step_deadline=1e-3)
    os.kill(supervisor._process.pid, signal.SIGSTOP)  # or a quick step would be done before anybody looks
    failure, _ = begin(supervisor, ready, requests)
    assert failure.reason.startswith("worker gave no answer within federation.step_deadline = 0.001 s")
