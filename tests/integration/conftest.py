"""The demo's own script, at a size of seconds."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fedrlvr import processes
from fedrlvr.processes import end, wait_until

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).with_name("faults")
SMALL = [
    "federation.segments_per_round=2",
    "federation.segments_per_task=1",
    "federation.min_sites=2",
    "exchange.schedule=[0,3]",
    "exchange.prompts_per_step=4",
    "grpo.prompts_per_step=4",
    "grpo.num_generations=4",
    "swap.keep_incorrect=1",
    "evaluation={samples: 1, every_segments: 1}",
    "base_model={steps: 120, batch_size: 32}",
    "data.sites={site-1: [A, B], site-2: [C, D]}",
    "data.private_per_site=16",
    "data.heldout_per_site=4",
    "data.public=8",
    "data.test_per_label=4",
]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """Shared, so that the base model is made once; every run has a folder of its own in it."""
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="session")
def demo(workspace):
    """Start `python jobs/demo/job.py` small; what is still running when all tests are over is killed."""
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "jobs" / "demo" / "job.py"), "--workspace", str(workspace)]
        for setting in SMALL:
            command += ["--set", setting]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(processes.start([*command, *arguments], environment=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        end(process)


@pytest.fixture(scope="session")
def run_demo(demo):
    """Run it to its end: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        process = demo(*arguments)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return run


@pytest.fixture
def faults(tmp_path, monkeypatch):
    """Plan what shall go wrong in the workers of this test's runs; tells which of it has happened."""
    done = tmp_path / "done"
    done.mkdir()

    def plan(*planned: dict) -> None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setenv("FEDRLVR_FAULTS_DONE", str(done))
        monkeypatch.setenv("FEDRLVR_FAULTS", json.dumps(planned))

    plan.happened = lambda: sorted(int(path.name) for path in done.iterdir())
    return plan


def processes_of(folder: Path) -> list[psutil.Process]:
    """Everything that runs for what lies under `folder`: by its command line, or by a log file it holds open."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            places = [*process.cmdline(), *(file.path for file in process.open_files())]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in place for place in places):
            found.append(process)
    return found


def command_of(process: psutil.Process) -> str:
    """Empty if the process has ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def wait_until_gone(folder: Path, seconds: float) -> list[psutil.Process]:
    wait_until(lambda: not processes_of(folder), seconds)
    return processes_of(folder)


def wait_for_line(path: Path, text: str, seconds: float = 240.0) -> None:
    """Until `text` stands in the file."""
    assert wait_until(lambda: path.exists() and text in path.read_text(), seconds), f"{text!r} never came in {path}"
