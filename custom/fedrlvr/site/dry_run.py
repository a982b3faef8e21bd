"""What one segment of a job would send from here: the real worker, the real rules; nothing is sent, nothing spent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import JobConfig
from fedrlvr.data.problems import read_problems
from fedrlvr.privacy.adapter_release import adapter_bytes
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.guards import Refused
from fedrlvr.privacy.ledger import BudgetSpent, Ledger
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.site.egress import Egress, json_bytes
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named
from fedrlvr.types import Adapter
from fedrlvr.worker.supervisor import Supervisor

NAME = "dry-run"  # of site and job


@dataclass(frozen=True)
class Outgoing:
    """One message as it would be: its line in the egress log, and its bytes (None: it would not leave)."""

    entry: dict
    payload: bytes | None


class UnspentLedger(Ledger):
    """The site's ledger, only read: what would be charged is added up beside it."""

    def __init__(self, path: Path):
        super().__init__(path, site=None)
        self._pending: list = []

    def charge(self, model: str, job: str, new_charge, delta: float, max_epsilon: float | None) -> float:
        pending = [charge for charge in self._pending if type(charge) is type(new_charge)]
        epsilon = self.planned(model, [*pending, new_charge], delta)
        if max_epsilon is not None and not epsilon <= max_epsilon:
            raise BudgetSpent(f"epsilon would be {epsilon:.4g}, the limit is {max_epsilon:g}")
        self._pending.append(new_charge)
        return epsilon


def dry_run(
    job: JobConfig, config: SiteConfig, policy: SitePolicy, manifest: str, adapter: Adapter | None = None
) -> tuple[list[Outgoing], list[str]]:
    """Evaluate, train one segment, propose, step, submit, from `adapter` (None: the job's initial one).

    Returns what would leave, and in words what the whole job would cost of each budget.

    Raises:
        Refused: the policy would not let this job in.
        WorkerError: the worker cannot do the job.
    """
    with tempfile.TemporaryDirectory(prefix="fedrlvr-dry-run-") as folder:
        log = EgressLog(Path(folder) / "egress.jsonl")
        egress = Egress(NAME, NAME, job, config, policy, UnspentLedger(policy.ledger), log)
        egress.check_job()
        elsewhere = config.model_copy(update={"state_dir": Path(folder) / "state"})
        supervisor = Supervisor(job, NAME, elsewhere, manifest, propose_from=policy.responses.propose_from)
        try:
            supervisor.start()
            egress.adapter_spec = supervisor.adapter_spec
            egress.check_plan(supervisor.private_problems)
            costs = egress.planned_costs(supervisor.private_problems)
            return _segment(job, config, egress, log, supervisor, adapter), costs
        finally:
            supervisor.stop()


def _segment(job, config, egress: Egress, log: EgressLog, supervisor: Supervisor, adapter: Adapter | None):
    task = task_named(job.task, job.verifier)
    public = [problem.id for problem in read_problems(config.public_problems, task)][: job.exchange.prompts_per_step]
    tests = len(read_problems(config.test_problems, task))
    segment = {"index": 0, "private_steps": job.federation.local_steps, "public_ids": public}
    adapter = initial_adapter(supervisor.adapter_spec, job.seed) if adapter is None else adapter
    sent: list[Outgoing] = []

    def outgoing(release: Callable, as_bytes: Callable, task_name: str, thing) -> None:
        try:
            payload = as_bytes(release(thing, task=task_name, round=0, segment=0))
        except Refused:
            payload = None
        sent.append(Outgoing(list(log.entries())[-1], payload))

    # One test problem stands for all: what leaves of them are scores either way.
    scores, _ = supervisor.request(
        {"task": "validate", "round": 0, "samples": job.evaluation.samples, "share": [0, tests], "name": "dry run"},
        adapter,
    )
    about = {"adapter_spec": supervisor.adapter_spec, "base_model": model_fingerprint(config.model_path)}
    outgoing(egress.metrics, json_bytes, "validate", scores | about)
    egress.charge_steps(segment["private_steps"], supervisor.private_problems)
    metrics, _ = supervisor.request(
        {"task": "train", "segments": [segment], "exchange": True, "begin_round": True, "round": 0}, adapter
    )
    outgoing(egress.metrics, json_bytes, "train", metrics)
    egress.asked = set(public)
    answers, _ = supervisor.request({"task": "propose", "round": 0, "segments": [segment]})
    records = [{name: answer[name] for name in ("problem_id", "text", "variant")} for answer in answers["responses"]]
    outgoing(egress.responses, json_bytes, "propose", records)
    metrics, _ = supervisor.request({"task": "swap", "round": 0, "segments": [segment], "responses": []})
    outgoing(egress.metrics, json_bytes, "swap", metrics)
    _, delta = supervisor.request({"task": "submit", "round": 0})
    outgoing(egress.adapter, adapter_bytes, "submit", delta)
    return sent
