"""A site's part in a run, whatever brings the requests: each one is checked, paid for, and handed to the worker.

The site's own files decide where its model and problems are and what may leave; nothing of a job can change them.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.algorithms.lora import spec_hash
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.adapters import adapter_hash, check_adapter
from fedrlvr.protocol.answers import Failure, Reply
from fedrlvr.protocol.records import Envelope
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import ProposeRequest, Request, SubmitRequest, TrainRequest, ValidateRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site.closed_gate import NO_POLICY, OWN_FILES, ClosedGate, find_log, site_file
from fedrlvr.site.draws_key import draws_key
from fedrlvr.site.egress import Egress
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site.plan import SitePlan
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import check_package
from fedrlvr.types import Adapter
from fedrlvr.worker.setup import Ready, SetUp, Worker

LOGGER = logging.getLogger(__name__)


class AdapterGone(RuntimeError):
    """The server means an adapter that this site does not have any more."""


@dataclass
class SiteAgent:
    """One site in one job of a run. `check_way_out` raises Refused where the job could send something past the site's
    gate; it is called if the site has a policy. Once `open` failed before there was an `egress`, `closed` is in its
    place."""

    spec: RunSpec
    site: str
    job_id: str
    local: Path  # the folder with the site's own files
    new_worker: Callable[[SetUp], Worker]  # one that is not started yet
    check_way_out: Callable[[], None] = lambda: None
    egress: Egress | None = None  # what may leave; None without a policy
    closed: ClosedGate | None = None
    _worker: Worker | None = None
    _ready: Ready | None = None
    _refusal: Refused | None = None

    def __post_init__(self):
        self._plan = SitePlan(self.spec)
        self._measured: Adapter | None = None  # the server's last one

    def open(self) -> None:
        """Read the site's file and its policy, once, and see that the job brings what the policy requires.

        Raises SettingsError, FileNotFoundError, Refused.
        """
        if self._worker is not None:
            return
        config = self._open_egress()
        if self.egress is not None:
            self.egress.check_job()
        if reason := check_package(self.spec.job.task, self.spec.task_package):
            raise Refused(reason)
        own = model_fingerprint(config.model_path)
        if self.spec.base_model not in (None, own):
            raise Refused(f"base model differs: the job is for {self.spec.base_model}, this site has {own}")
        rules = self.egress.policy if self.egress else SitePolicy()
        self._worker = self.new_worker(
            SetUp(
                spec=self.spec,
                site=self.site,
                site_config=config,
                base_model=own,
                propose_from=rules.responses.propose_from,
                draws_key=draws_key(config.state_dir) if rules.training.secret_draws else "",
                recover=self.spec.resume,
            )
        )

    def _open_egress(self) -> SiteConfig:
        """Read the site's file and its policy. Raises as `open`."""
        told = OWN_FILES
        try:
            config = load_settings(SiteConfig, site_file(self.local, self.site))
            config.check_paths()
            if config.policy is not None:
                told = NO_POLICY
                self.check_way_out()
                policy = load_settings(SitePolicy, config.policy)
                self.egress = Egress(self.site, self.job_id, self.spec.job, config, policy)
        except (Refused, SettingsError, FileNotFoundError):
            self.closed = ClosedGate(told, find_log(self.local, self.site), self.site, self.job_id)
            raise
        return config

    def answer(self, request: Request, adapter: Adapter | None) -> Reply:
        """The worker's answer, or why there is none. Raises Aborted as `Supervisor.ask`."""
        began = time.monotonic()
        try:
            self.open()
            place = request.envelope
            Envelope.here(self.spec.public_sha256, place.round, place.segment).check_same(place)
            self._check_receipt(request.receipt)
            self._plan.admit(request, adapter is not None)
            adapter = self._begin_from(request, adapter)
            answer, tensors = self._started(), None
            if isinstance(answer, Ready):
                self._check_adapter(request, adapter, answer)
                ledger = self._prepare_egress(request, answer)
                answer, tensors = self._worker.ask(request, adapter, ledger)
        except (Refused, SettingsError, FileNotFoundError, AdapterGone) as reason:
            answer = Failure.of(reason, would_not=isinstance(reason, Refused))
        if isinstance(answer, Failure):
            LOGGER.error("%s: %s: %s", self.site, request.task, answer.reason)
            return answer, None
        self._plan.count(request)
        return answer.model_copy(update={"seconds": time.monotonic() - began}), tensors

    def stop(self, grace: float = 0.0) -> None:
        """End the worker; with `grace` seconds it may save its adapter first."""
        if self._worker is not None:
            self._worker.stop(grace)

    def _started(self) -> Ready | Failure:
        """The worker's report, after starting it if need be. A job that plans too much for the budget, which the number
        of private problems tells, gets no worker, now or later; nor does one whose checkpoint was paid for by a ledger
        that is gone. Raises Refused."""
        if self._refusal is not None:
            raise self._refusal
        if self._worker.running:
            return self._ready
        ready = self._worker.start()
        if isinstance(ready, Failure):
            return ready
        try:
            if self.egress is not None:
                if self._ready is None:
                    self.egress.check_plan(ready.private_problems, ready.rounds_done)
                self.egress.ledger.check_knows(ready.ledger)
        except Refused as reason:
            self._worker.stop()
            self._refusal = reason
            raise
        self._ready = ready
        return ready

    def _check_receipt(self, receipt: str) -> None:
        """Raises Refused where the site's records are older than what the server knows of them."""
        if self.egress is not None:
            self.egress.check_records(receipt)
        elif receipt:
            raise Refused("this site kept an egress log in this run, and has no policy any more")

    def _check_adapter(self, request: Request, adapter: Adapter | None, ready: Ready) -> None:
        """Raises Refused where the server's adapter is not of the names, shapes and settings that this site's has."""
        if isinstance(request, TrainRequest):
            own = spec_hash(ready.adapter_spec, self.spec.job.lora)
            if request.adapter_spec != own:
                raise Refused(
                    f"adapter spec differs: the server says {request.adapter_spec}, this site's model gives {own}"
                )
        if adapter is not None:
            check_adapter(adapter, ready.adapter_spec)

    def _begin_from(self, request: Request, adapter: Adapter | None) -> Adapter | None:
        """The adapter that came, or the one that the request means instead, as it came to be measured before. Raises
        AdapterGone."""
        measured, self._measured = self._measured, adapter if isinstance(request, ValidateRequest) else None
        if not isinstance(request, TrainRequest) or not request.start or adapter is not None:
            return adapter
        if measured is None or adapter_hash(measured) != request.start:
            raise AdapterGone("this site does not have the round's first adapter any more")
        return measured

    def _prepare_egress(self, request: Request, ready: Ready) -> str:
        """Tell the gate what it has to know of this task, and pay for private steps with noise before they are taken;
        returns the hash of the ledger's last line. Raises Refused."""
        if self.egress is None:
            return ""
        self.egress.adapter_spec = ready.adapter_spec
        self.egress.asked = request.asked if isinstance(request, ProposeRequest) else set()
        if isinstance(request, TrainRequest):
            self.egress.charge_steps(sum(s.private_steps for s in request.segments), ready.private_problems)
        if isinstance(request, SubmitRequest):
            self.egress.check_update(self._plan.private_steps, ready.private_problems)
        return self.egress.ledger.last_hash()
