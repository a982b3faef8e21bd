"""A tiny base model, and sites put together from the real parts, for every test that needs them."""

import json
import logging
import os
import signal
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from fedrlvr.config import JobConfig
from fedrlvr.data.problems import manifest_hash, read_problems
from fedrlvr.flare.deploy.project import is_free
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.tiny.generated import GeneratedData, write_generated

settings.register_profile("patient", deadline=None)  # a slow machine is no failure
settings.load_profile("patient")

SINGLE_PROCESS = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def pytest_configure(config):
    """`pytest -n 5 --dist loadfile` hands files out in the order in which they are collected."""
    config.option.loadscopereorder = False
    # A shell's background job ignores an interruption, and so would every command that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """In a process of pytest-xdist: long files first, so that none is left for the end, where it would run alone."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        longest = ("test_poc_jobs.py", "test_when_things_die.py", "test_stress.py", "test_poc.py", "test_demo.py")
        first = {name: number for number, name in enumerate(longest)}
        items.sort(key=lambda item: (first.get(item.path.name, len(first)), item.path not in slow))


@pytest.fixture(scope="session", autouse=True)
def one_rank():
    """What a launcher would set, so that DeepSpeed engines can live in the test process."""
    os.environ.update(SINGLE_PROCESS)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def log_level():
    """A run has libraries say errors only. The next test hears all."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    """A base model that has learned the format and little more: some of its answers are right, most are not. Made once,
    also where several processes of pytest-xdist share the tests: their folders lie side by side."""
    folder = tmp_path_factory.getbasetemp()
    models = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "models"
    with FileLock(f"{models}.lock"):
        return base_model(TASKS["protocol"], TASKS["protocol"], BaseModelSettings(steps=200, batch_size=32), models)


@pytest.fixture(scope="module")
def port(request, tmp_path_factory) -> int:
    """A free port for the FLARE server of a module. Other test processes on this machine begin to look elsewhere, and
    no connection has its near end there: those begin at 32768."""
    first = 10_000 + zlib.crc32(f"{tmp_path_factory.getbasetemp()} {request.node.nodeid}".encode()) % 20_000
    return next(port for port in range(first, first + 100) if is_free(port))


@pytest.fixture
def others(tmp_path, monkeypatch):
    """others(**how) -> the folder, on this process's path, of a package that offers a task, as `packages.install`."""
    from tests.packages import install

    from fedrlvr import task_package
    from fedrlvr.tasks import installed

    def forget() -> None:
        for cached in (task_package.offers, task_package.package_of, installed.installed_task):
            cached.cache_clear()

    def make(*code: str, **how) -> Path:
        folder = install(tmp_path / f"packages-{len(list(tmp_path.glob('packages-*')))}", *code, **how)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, how.get("name", "ward-tasks").replace("-", "_"), raising=False)
        forget()
        return folder

    forget()
    yield make
    monkeypatch.undo()
    forget()


@pytest.fixture
def job() -> JobConfig:
    return _small_job()


@pytest.fixture
def small_job():
    return _small_job


def _small_job(**changes) -> JobConfig:
    """A job of a few seconds; `changes` are dotted keys with `__` for the dot, as in grpo__beta=0.1."""
    values = {
        "name": "small",
        "task": "protocol",
        "model": "tiny",
        "grpo": {"num_generations": 4, "prompts_per_step": 4, "max_completion_length": 20},
        "optimizer": {"learning_rate": 1e-3},
        "swap": {"keep_incorrect": 1, "repeat": True},
        "exchange": {"prompts_per_step": 4},
        "federation": {"rounds": 1, "segments_per_round": 2, "min_sites": 1},
        "evaluation": {"samples": 1},
    }
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    return JobConfig.model_validate(values)


@pytest.fixture
def site_files(tmp_path, model_path):
    """Write problem files for sites given by their labels; returns (manifest, {site: SiteConfig})."""

    def write(sites: dict[str, tuple[str, ...]], seed: int = 0, **changes) -> tuple[str, dict[str, SiteConfig]]:
        data = GeneratedData(sites=sites, private_per_site=16, heldout_per_site=4, public=8, test_per_label=4)
        folder = tmp_path / "data"
        write_generated(data, TASKS["protocol"], seed, folder)
        manifest = manifest_hash(read_problems(folder / "public.jsonl", TASKS["protocol"]))
        deepspeed = tmp_path / "deepspeed.json"
        deepspeed.write_text(json.dumps({"zero_optimization": {"stage": changes.pop("stage", 0)}}))
        configs = {
            site: SiteConfig(
                **{
                    "model": "tiny",
                    "model_path": model_path,
                    "private_problems": folder / f"{site}.jsonl",
                    "heldout_problems": folder / f"{site}.heldout.jsonl",
                    "public_problems": folder / "public.jsonl",
                    "test_problems": folder / "test.jsonl",
                    "deepspeed_config": deepspeed,
                    "state_dir": tmp_path / "sites" / site,
                    "threads": 1,
                }
                | changes
            )
            for site in sites
        }
        return manifest, configs

    return write


@pytest.fixture
def make_trainer(site_files):
    """A site's trainer in this process, at the start of a round: the real engine, sampler and verifier."""
    from tests.runs import spec_of

    from fedrlvr.algorithms.lora import adapter_spec, initial_adapter
    from fedrlvr.learning.build import build_trainer
    from fedrlvr.learning.ranks import Ranks

    def make(job: JobConfig, site: str = "site-1", labels: tuple[str, ...] = ("A", "B", "C", "D"), **changes):
        _, configs = site_files({site: labels}, **changes)
        trainer = build_trainer(spec_of(job, configs), site, configs[site], Ranks())
        trainer.begin_round(initial_adapter(adapter_spec(trainer.engine.adapter()), job.seed), 0)
        return trainer

    return make


@pytest.fixture
def left():
    """left() -> the processes that were started since the test began, and still run."""

    def children() -> set[psutil.Process]:
        found = set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process)
        return found

    before = children()  # such as the process that compares expressions, which stays
    return lambda: children() - before
