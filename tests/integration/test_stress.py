"""Thirty rounds in which worker processes die all the time: the run ends, nothing that was answered is lost, nothing is
left. The transport is in this process; a site's FLARE process that dies is in `poc/test_poc_jobs.py`."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.integration.conftest import processes_of
from tests.runs import of, run_here, spec_of

from fedrlvr.learning.trainer_state import SiteProgress
from fedrlvr.sealed_folder import check_seal, sealed_folders
from fedrlvr.worker.supervisor import Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED, ROUNDS, FAULTS, HANGS = 32, 30, 12, 1
SITES = {"site-1": ("A",), "site-2": ("B",), "site-3": ("C",)}
EXCHANGES = [2 * number for number in range(0, ROUNDS, 3)]  # in every third round's first of two segments


def planned() -> list[dict]:
    """One fault in each of so many rounds, so that two sites are left: which site, in which task, how and how soon is
    drawn. The last round has none, in which everybody is to be back."""
    random = np.random.default_rng(SEED)
    acts = ["hang"] * HANGS + ["crash"] * 4
    acts = random.permutation(acts + ["kill"] * (FAULTS - len(acts)))
    faults = []
    for number, act in zip(sorted(random.choice(ROUNDS - 1, FAULTS, replace=False)), acts, strict=True):
        number = int(number)
        place = {"round": number} if random.random() < 0.3 else {"segment": 2 * number + int(random.integers(2))}
        tasks = ["submit", "validate"] if "round" in place else ["train"]
        if place.get("segment") in EXCHANGES:
            tasks = ["train", "propose", "swap"]
        fault = {"site": str(random.choice(list(SITES))), "task": str(random.choice(tasks)), "act": str(act), **place}
        when = random.choice(["at once", "within", "answered"])
        if act != "hang":
            fault |= {
                "at once": {},
                "within": {"after": float(random.uniform(0, 0.3))},
                "answered": {"answered": True},
            }[str(when)]
        faults.append(fault)
    return faults


@pytest.fixture
def job(small_job):
    return small_job(
        federation__rounds=ROUNDS,
        federation__segments_per_round=2,
        federation__min_sites=2,
        federation__step_deadline=8,
        exchange__schedule=EXCHANGES,
        exchange__prompts_per_step=2,
        grpo__prompts_per_step=2,
        grpo__num_generations=2,
    )


def test_thirty_rounds_of_workers_that_die(job, site_files, faults, tmp_path):
    faults(*planned())
    _, sites = site_files(SITES)
    events, _ = run_here(tmp_path / "run", spec_of(job, sites), sites, new_worker=Supervisor)
    assert len(faults.happened()) == FAULTS >= 12
    assert events[-1]["event"] == "end"
    assert [e["round"] for e in of(events, "average")] == list(range(ROUNDS))
    assert [e["round"] for e in of(events, "round")] == list(range(ROUNDS))
    averaged = Counter(site for event in of(events, "average") for site in event["sites"])
    assert min(averaged[site] for site in SITES) >= ROUNDS - FAULTS // 2, averaged
    assert of(events, "average")[-1]["sites"] == list(SITES)
    counts = [nothing_answered_is_lost(tmp_path / "sites" / site / "worker.log") for site in SITES]
    steps = [e for e in of(events, "step") if e["kind"] == "private" or e["segment"] in EXCHANGES]  # one in each task
    assert sum(answered for answered, _ in counts) >= len(steps) - FAULTS > 150
    assert sum(restarts for _, restarts in counts) >= FAULTS - 2
    folders = [path for path in tmp_path.glob("sites/*/checkpoints/*") if path.is_dir()]  # beside each its lock
    folders += (tmp_path / "run" / "server").iterdir()
    assert len(folders) == len(SITES) + 1
    for folder in folders:
        whole = sealed_folders(folder)
        assert whole
        assert not set(folder.iterdir()) - set(whole)
        for path in whole:
            check_seal(path)
    assert not processes_of(tmp_path)


def nothing_answered_is_lost(log: Path) -> tuple[int, int]:
    """Every worker that was started again went on from at least what its site had answered; returns how many tasks
    were, and how many workers."""
    answered, tasks, restarts = SiteProgress(), 0, 0
    for line in log.read_text(errors="replace").splitlines():
        if found := re.search(r"answered: (\{.*\})", line):
            done = json.loads(found[1])
            waits = bool(done["exchange"])
            tasks += 1
            answered = SiteProgress(done["round"], done["segment"] + (not waits), waits)
        elif found := re.search(
            r"goes on from a checkpoint: SiteProgress\(round=(-?\d+), segments=(\d+), .*=(\w+)\)", line
        ):
            restarts += 1
            restored = SiteProgress(int(found[1]), int(found[2]), found[3] == "True")
            assert restored >= answered, line
    return tasks, restarts
