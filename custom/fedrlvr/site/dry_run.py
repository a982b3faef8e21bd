"""What one segment of a job would send from here: the real worker, the real rules; nothing is sent, nothing spent."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.data.problems import read_problems
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import BudgetSpent, Ledger
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.requests import (
    ProposeRequest,
    Request,
    SubmitRequest,
    SwapRequest,
    TrainRequest,
    ValidateRequest,
)
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.protocol.strict import as_json
from fedrlvr.site.egress import Egress
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named
from fedrlvr.types import Adapter
from fedrlvr.worker.setup import Ready, SetUp, Worker
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


class DryRunFailed(RuntimeError):
    """The worker could not do what a job would ask of it."""


def dry_run(
    spec: RunSpec, config: SiteConfig, policy: SitePolicy, adapter: Adapter | None = None
) -> tuple[list[Outgoing], list[str]]:
    """Evaluate, train one segment, propose, swap, submit, from `adapter` (None: the job's first one).

    Returns what would leave, and in words what the whole job would cost of each budget.

    Raises:
        Refused: the policy would not let this job in.
        DryRunFailed: the worker cannot do the job.
    """
    with tempfile.TemporaryDirectory(prefix="fedrlvr-dry-run-") as folder:
        log = EgressLog(Path(folder) / "egress.jsonl")
        egress = Egress(NAME, NAME, spec.job, config, policy, UnspentLedger(policy.ledger), log)
        egress.check_job()
        setup = SetUp(
            spec=spec,
            site=NAME,
            site_config=config.model_copy(update={"state_dir": Path(folder) / "state"}),
            base_model=model_fingerprint(config.model_path),
            propose_from=policy.responses.propose_from,
        )
        worker = Supervisor(setup)
        try:
            ready = worker.start()
            if isinstance(ready, Failure):
                raise DryRunFailed(ready.reason)
            egress.adapter_spec = ready.adapter_spec
            egress.check_plan(ready.private_problems)
            costs = egress.planned_costs(ready.private_problems)
            return _one_segment(spec, config, egress, worker, ready, adapter), costs
        finally:
            worker.stop()


def _one_segment(
    spec: RunSpec, config: SiteConfig, egress: Egress, worker: Worker, ready: Ready, adapter: Adapter | None
) -> list[Outgoing]:
    job, here = spec.job, Envelope.here(spec.public_sha256, 0)
    public = spec.public_ids[: job.exchange.prompts_per_step]
    tests = len(read_problems(config.test_problems, task_named(job.task, job.verifier)))
    segment = Segment(0, job.federation.local_steps, public)
    adapter = initial_adapter(ready.adapter_spec, job.seed) if adapter is None else adapter
    sent: list[Outgoing] = []

    def ask(request: Request, tensors: Adapter | None = None) -> None:
        answer, tensors = worker.ask(request, tensors)
        if isinstance(answer, Failure):
            raise DryRunFailed(f"{request.task}: {answer.reason}")
        answer, tensors = egress.release(request.task, answer, tensors)
        payload = None
        if not isinstance(answer, Failure):
            payload = as_json(answer.payload()) if tensors is None else as_safetensors(tensors)
        sent.append(Outgoing(list(egress.log.entries())[-1], payload))

    # One test problem stands for all: what leaves of them are scores either way.
    samples = job.evaluation.samples
    ask(ValidateRequest(envelope=here, samples=samples, share=(0, tests), name="dry run"), adapter)
    egress.charge_steps(segment.private_steps, ready.private_problems)
    shapes = spec_hash(ready.adapter_spec, job.lora)
    train = {"segments": [segment], "exchange": True, "begin_round": True, "adapter_spec": shapes}
    ask(TrainRequest(envelope=here, **train), adapter)
    egress.asked = set(public)
    ask(ProposeRequest(envelope=here, segment=segment))
    ask(SwapRequest(envelope=here, segment=segment, responses=[]))
    ask(SubmitRequest(envelope=here))
    return sent
