"""Runs in which sites have policies and the job knows nothing of them. What arrives at the server is listened to.

The same gate as a FLARE filter is in `test_demo.py` (simulator) and `poc/test_poc_jobs.py` (real sites)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.shareable import Shareable
from tests.integration.hostile import SpoilingTransport
from tests.runs import run_here, shipped_policy, spec_of

from fedrlvr.data.problems import write_problems
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.answers import ProposeAnswer
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.server.client_manager import Message
from fedrlvr.settings_file import load_settings
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.worker.in_process import InProcessWorker
from fedrlvr.worker.setup import SetUp

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def policy_file(config, name: str, changes: dict | None = None) -> Path:
    """A shipped policy in the site's own folder, with what else the test wants in it."""
    values = shipped_policy(name) | (changes or {})
    config.state_dir.mkdir(parents=True, exist_ok=True)
    path = config.state_dir / "policy.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def tapped(folder: Path, spec: RunSpec, sites: dict, recited: list[dict] | None = None) -> tuple[list, list]:
    """What arrived at the server, as (site, FLARE's message), and the run's events. With `recited`, site-1 has a worker
    whose model knows its private problems by heart: it proposes these answers."""
    heard = []

    def listen(site: str, task: str, request: Message, message: Shareable) -> None:
        heard.append((site, message))

    def new_worker(setup: SetUp) -> InProcessWorker:
        return Parrot(setup, recited) if recited and setup.site == "site-1" else InProcessWorker(setup)

    events, _ = run_here(
        folder, spec, sites, new_worker=new_worker, new_transport=partial(SpoilingTransport, spoil=listen)
    )
    return heard, events


class Parrot(InProcessWorker):
    def __init__(self, setup: SetUp, recited: list[dict]):
        super().__init__(setup)
        self._recited = [PublicResponse(**answer) for answer in recited]

    def ask(self, request, tensors=None, ledger=""):
        answer, tensors = super().ask(request, tensors, ledger)
        if isinstance(answer, ProposeAnswer):
            answer = answer.model_copy(update={"responses": self._recited})
        return answer, tensors


PLANS = {
    "site-1": ("open", {}),
    "site-2": ("clinical", {"adapters": {"clip_norm": 1e-3}}),
    "site-3": ("sealed", {}),  # demands what this job does not bring
    "site-4": ("open", {"adapters": {"clip_norm": 1e-3, "noise_multiplier": 1.0, "max_epsilon": 6.0}}),
}


def test_each_sites_policy_acts_although_the_job_configures_none(site_files, small_job, tmp_path):
    job = small_job(federation__rounds=2, federation__segments_per_round=1, federation__aggregator="fedit")
    _, sites = site_files({site: (label,) for site, label in zip(PLANS, "ABCD", strict=True)})
    sites = {name: c.model_copy(update={"policy": policy_file(c, *PLANS[name])}) for name, c in sites.items()}
    heard, events = tapped(tmp_path / "run", spec_of(job, sites), sites)
    logs = {name: list(EgressLog(load_settings(SitePolicy, c.policy).log).entries()) for name, c in sites.items()}
    check_who_was_let_in(events, logs)
    check_what_left(events)
    for name in ("site-1", "site-2"):
        # Every message that came is in the site's log as released, and nothing else.
        came = [from_shareable(message).data_kind for site, message in heard if site == name]
        kinds = {DataKind.METRICS: "metrics", DataKind.APP_DEFINED: "responses", DataKind.WEIGHT_DIFF: "adapter"}
        assert [kinds[kind] for kind in came] == [e["kind"] for e in logs[name]]
        assert {e["decision"] for e in logs[name]} == {"released"}
    clipped = [e["rules"] for e in logs["site-2"] if e["kind"] == "adapter"]
    assert [c["clipped"] for c in clipped] == [1, 1]
    assert all(c["norm"] > 1e-3 for c in clipped)


def check_who_was_let_in(events: list[dict], logs: dict) -> None:
    failures = {(e["site"], e["reason"]) for e in events if e["event"] == "failure"}
    # Two rounds of noise would cost more than 6 at this multiplier, so site-4's job is not even begun.
    assert {site for site, _ in failures} == {"site-3", "site-4"}
    assert ("site-3", "this site requires privacy.mode: dp_grpo; the job has privacy.mode: none") in failures
    assert any(site == "site-4" and "its limit is 6" in reason for site, reason in failures)
    assert [e["sites"] for e in events if e["event"] == "average"] == [["site-1", "site-2"]] * 2
    assert {(e["kind"], e["decision"]) for e in logs["site-3"]} == {("error", "released")}


def check_what_left(events: list[dict]) -> None:
    steps = {(e["site"], e["kind"]) for e in events if e["event"] == "step"}
    assert steps == {("site-1", "private"), ("site-1", "public"), ("site-2", "public")}
    base = next(e for e in events if e["event"] == "evaluation" and e["which"] == "base")
    assert set(base["scores"]["site-1"]["heldout"]) == {"A"}
    assert set(base["scores"]["site-2"]["heldout"]) == {"all"}


WORDS = "amber basil cedar delta ember fjord grove heron islet jolly karst lotus mango nacre olive pearl"


def canaries() -> list[str]:
    """100 texts that nobody would say by chance, in the characters that this task's tokenizer knows."""
    random, words = np.random.default_rng(4), WORDS.split()
    phrases = [" ".join(random.choice(words, 7, replace=False)) for _ in range(50)]
    numbers = [f"mrn {random.integers(10**7, 10**8)}" for _ in range(25)]
    codes = [f"{words[i % 16]}-{random.integers(100, 999)}-{words[-1 - i % 16]}" for i in range(25)]
    return [*phrases, *numbers, *codes]


@pytest.fixture
def arithmetic_sites(site_files, tmp_path_factory):
    """Two sites of the arithmetic task; 100 private problems of the first begin with a canary each."""
    task, random = TASKS["arithmetic"], np.random.default_rng(5)
    drawn = [task.problem(task.labels[i % 4], random) for i in range(400)]
    public, test, heldout, *parts = (
        [*{problem.id: problem for problem in drawn}.values()][a:b]
        for a, b in ((0, 8), (8, 16), (16, 20), (20, 120), (120, 140))
    )
    parts[0] = [replace(p, prompt=f"{canary}. {p.prompt}") for p, canary in zip(parts[0], canaries(), strict=True)]
    _, sites = site_files({"site-1": ("A",), "site-2": ("B",)})
    model = base_model(task, task, BaseModelSettings(steps=50, batch_size=16), tmp_path_factory.mktemp("arithmetic"))
    for config, private in zip(sites.values(), parts, strict=True):
        for name, problems in (("private", private), ("heldout", heldout), ("public", public), ("test", test)):
            write_problems(getattr(config, f"{name}_problems"), problems)
    return public, {name: config.model_copy(update={"model_path": model}) for name, config in sites.items()}


@pytest.mark.parametrize(("policy", "leaking"), [("clinical", 0), ("open", 100)])
def test_a_hundred_canaries_in_the_models_mouth(arithmetic_sites, small_job, tmp_path, policy, leaking):
    public, sites = arithmetic_sites
    sites = {name: c.model_copy(update={"policy": policy_file(c, policy)}) for name, c in sites.items()}
    changes = {"federation__segments_per_round": 1, "exchange__prompts_per_step": 8, "exchange__max_per_site": 16}
    job = small_job(task="arithmetic", grpo__max_completion_length=96, **changes)
    gold = TASKS["arithmetic"].gold_completion
    recited = [
        {"problem_id": p.id, "text": f"{canary}. {gold(p)}", "variant": 0}
        for canary, p in zip(canaries(), public * 13, strict=False)
    ]
    heard, events = tapped(tmp_path / "run", spec_of(job, sites), sites, recited)
    from_site_1 = "\n".join(str(message) for site, message in heard if site == "site-1")
    assert sum(canary in from_site_1 for canary in canaries()) == leaking
    (written,) = [
        e
        for e in EgressLog(load_settings(SitePolicy, sites["site-1"].policy).log).entries()
        if e["kind"] == "responses"
    ]
    assert written["count"] == leaking
    assert sum(written["rules"].values()) == 100 - leaking
    assert all(written["rules"][rule] for rule in ("overlap", "identifier", "pii")) == (leaking == 0)
    assert events[-1]["event"] == "end"
