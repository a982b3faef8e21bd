"""The site's side: a FLARE executor that hands each task to the site's worker and never touches a GPU itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedrlvr.algorithms.lora import spec_hash
from fedrlvr.config import JobConfig
from fedrlvr.flare.messages import answer, check_envelope, envelope, error_answer, read_request
from fedrlvr.flare.site.gate import EGRESS
from fedrlvr.flare.site.lockdown import check_only_way_out
from fedrlvr.flare.workarounds import leave_the_job_alone
from fedrlvr.privacy.guards import Refused, check_adapter
from fedrlvr.protocol.requests import check_instructions
from fedrlvr.run_identity import check_run
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site.egress import Egress, read_policy
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.supervisor import Aborted, Supervisor, WorkerError

STOP_GRACE = 10.0  # seconds for the worker to save its adapter at the end of a job


class SiteExecutor(Executor):
    """Answers the five tasks, each by its worker's result or by an error that says why."""

    def __init__(self, job: str, manifest: str, run: str, resume: bool = False, base_model: str | None = None):
        """`job` is a JobConfig as JSON, `manifest` the hash of the public problems; `run`, `resume` and `base_model` as
        for the recipe."""
        super().__init__()
        self.job = job
        self.manifest = manifest
        self.run = run
        self.resume = resume
        self.base_model = base_model
        self._own_model: str | None = None
        self._supervisor: Supervisor | None = None
        self._egress: Egress | None = None
        self._started = False
        self._refusal: Refused | None = None
        self._abort_signal: Signal | None = None
        self._lock = threading.Lock()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            fobs.register(TensorDecomposer)
            leave_the_job_alone(fl_ctx)
        elif event_type == EventType.END_RUN and self._supervisor is not None:
            self._supervisor.stop(grace=STOP_GRACE)
        elif event_type == EventType.ABORT_TASK and self._supervisor is not None:
            self._supervisor.stop()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """One task at a time: FLARE's auxiliary channel can bring a second one while the first is at work."""
        with self._lock:
            return self._execute(task_name, shareable, fl_ctx, abort_signal)

    def _execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        began, self._abort_signal = time.monotonic(), abort_signal
        try:
            self._open(fl_ctx)
            place = envelope(self.manifest, 0, 0)
            check_envelope(shareable, place, keys=("protocol", "version", "source", "manifest"))
            instructions, adapter = read_request(shareable)
            instructions = check_instructions(task_name, instructions)
            supervisor = self._running_supervisor()
            self._check_spec(instructions.pop("adapter_spec", None), supervisor.adapter_spec)
            if adapter is not None:
                check_adapter(adapter, supervisor.adapter_spec)
            self._prepare_egress(task_name, instructions)
            ledger = self._egress.ledger.last_hash() if self._egress else ""
            body, delta = supervisor.request({**instructions, "task": task_name, "ledger": ledger}, adapter)
        except Aborted:
            return make_reply(ReturnCode.TASK_ABORTED)
        except (WorkerError, Refused, SettingsError, FileNotFoundError) as reason:
            # Not log_error(): that is an event too, which a job may have sent to the server past every filter.
            self.logger.error("%s: %s", task_name, reason)
            return error_answer(str(reason), refusal=isinstance(reason, Refused))
        if task_name == "validate":
            body |= {"adapter_spec": supervisor.adapter_spec, "base_model": self._own_model}
        return answer(task_name, shareable, body, delta, time.monotonic() - began)

    def _open(self, fl_ctx: FLContext) -> None:
        """Read the site's file and its policy, once, and see that the job brings what the policy requires.

        Raises SettingsError, FileNotFoundError, Refused.
        """
        if self._supervisor is not None:
            return
        try:
            run = check_run(self.run)
        except ValueError as reason:
            raise Refused(str(reason)) from None
        site, job = fl_ctx.get_identity_name(), JobConfig.model_validate_json(self.job)
        path = site_file(Path(fl_ctx.get_engine().get_workspace().get_site_config_dir()), site)
        config = load_settings(SiteConfig, path).rooted(path.parent)
        config.check_paths()
        propose_from = "local"
        if config.policy is not None:
            check_only_way_out(fl_ctx)
            policy = read_policy(config.policy)
            self._egress = Egress(site, fl_ctx.get_job_id(), job, config, policy)
            fl_ctx.set_prop(EGRESS, self._egress, private=True, sticky=True)
            self._egress.check_job()
            propose_from = policy.responses.propose_from
        self._own_model = model_fingerprint(config.model_path)
        if self.base_model not in (None, self._own_model):
            raise Refused(f"base model differs: the job is for {self.base_model}, this site has {self._own_model}")
        self._supervisor = Supervisor(
            job,
            site,
            config,
            self.manifest,
            aborted=lambda: self._abort_signal is not None and self._abort_signal.triggered,
            propose_from=propose_from,
            run=run,
            resume=self.resume,
        )

    def _prepare_egress(self, task_name: str, instructions: dict) -> None:
        """What the gate has to know of the task under way; private steps with noise are paid for before they are
        taken. Raises BudgetSpent."""
        if self._egress is None:
            return
        self._egress.adapter_spec = self._supervisor.adapter_spec
        segments = instructions.get("segments", ())
        self._egress.asked = (
            {i for segment in segments for i in segment["public_ids"]} if task_name == "propose" else set()
        )
        if task_name == "train":
            self._egress.charge_steps(sum(s["private_steps"] for s in segments), self._supervisor.private_problems)

    def _running_supervisor(self) -> Supervisor:
        """The worker, started if need be; a new one goes on from the last checkpoint of this run. A job that plans too
        much for the budget, which the worker's count of private problems tells, gets none, now or later.
        """
        supervisor = self._supervisor
        if self._refusal is not None:
            raise self._refusal
        if not supervisor.running:
            supervisor.start()
            if self._egress is not None:
                self._check_budgets(supervisor)
            self._started = True
        return supervisor

    def _check_budgets(self, supervisor: Supervisor) -> None:
        """That there is enough left for the job, and that the ledger knows all that the checkpoint was paid with."""
        try:
            if not self._started:
                self._egress.check_plan(supervisor.private_problems, supervisor.rounds_done)
            self._egress.ledger.check_knows(supervisor.ledger)
        except Refused as reason:
            supervisor.stop()
            self._refusal = reason
            raise

    def _check_spec(self, expected: str | None, spec: dict) -> None:
        """Raises Refused where the server's adapter is not of the names, shapes and settings that this site's has."""
        own = spec_hash(spec, JobConfig.model_validate_json(self.job).lora)
        if expected not in (None, own):
            raise Refused(f"adapter spec differs: the server says {expected}, this site's model gives {own}")


def site_file(folder: Path, site: str) -> Path:
    """`fedrlvr.yaml` in the site's local folder; `fedrlvr.<site>.yaml` where simulated sites share that folder.

    Raises FileNotFoundError naming what was looked for.
    """
    for name in (f"fedrlvr.{site}.yaml", "fedrlvr.yaml"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"no site file fedrlvr.yaml in {folder}: a site says there where its model and problems are"
    )
