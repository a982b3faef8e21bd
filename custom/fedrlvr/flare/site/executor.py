"""The site's FLARE executor, which passes tasks to `site/agent.py`. It never uses a GPU itself."""

import os
import threading
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedrlvr.flare.doorbell import Doorbell
from fedrlvr.flare.messages import pack_answer, unpack_request
from fedrlvr.flare.site.gate import EGRESS
from fedrlvr.flare.site.lockdown import check_only_way_out
from fedrlvr.flare.workarounds import outlive_a_killed_site
from fedrlvr.processes import OWNER_ONLY
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.protocol.strict import parsed
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.agent import SiteAgent
from fedrlvr.site.closed_gate import OTHER_SPEC, ClosedGate, find_log
from fedrlvr.site.egress import Egress
from fedrlvr.worker.supervisor import Aborted, Supervisor

STOP_GRACE = 10.0  # seconds for the worker to save its adapter at the end of a job


class SiteExecutor(Executor):
    """Answers the five tasks with the answers of the site's agent."""

    def __init__(self, spec: str):
        """`spec` is a RunSpec as JSON."""
        super().__init__()
        self.spec = spec
        self._agent: SiteAgent | None = None
        self._abort_signal: Signal | None = None
        self._doorbell: Doorbell | None = None
        self._lock = threading.Lock()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            os.umask(OWNER_ONLY)
            fobs.register(TensorDecomposer)
            outlive_a_killed_site(fl_ctx)
            self._doorbell = Doorbell(fl_ctx)
        elif event_type == EventType.BEFORE_PULL_TASK and self._doorbell is not None:
            self._doorbell.wait(fl_ctx)
        elif event_type == EventType.BEFORE_SEND_TASK_RESULT and self._doorbell is not None:
            self._doorbell.task_done()
        elif event_type == EventType.END_RUN and self._agent is not None:
            self._agent.stop(grace=STOP_GRACE)
        elif event_type == EventType.ABORT_TASK and self._agent is not None:
            self._agent.stop()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """One task at a time: FLARE's auxiliary channel can deliver a second task while the first one runs."""
        with self._lock:
            self._abort_signal = abort_signal
            try:
                agent = self._open(fl_ctx)
                agent.open()  # first: where there is a policy, only its gate may send why a request is refused
                answer, tensors = agent.answer(*unpack_request(task_name, shareable))
            except Aborted:
                return make_reply(ReturnCode.TASK_ABORTED)
            except (Refused, SettingsError, FileNotFoundError) as reason:
                # Not log_error(): it fires an event, which a job can have sent to the server without any filter.
                self.logger.error("%s: %s", task_name, reason)
                answer, tensors = Failure.of(reason, would_not=isinstance(reason, Refused)), None
            finally:
                if (gate := self._gate(fl_ctx)) is not None:
                    fl_ctx.set_prop(EGRESS, gate, private=True, sticky=True)
            return pack_answer(task_name, answer, tensors)

    def _gate(self, fl_ctx: FLContext) -> Egress | ClosedGate | None:
        """What decides over this site's answers; None for a site without a policy."""
        if self._agent is not None:
            return self._agent.egress or self._agent.closed
        site = fl_ctx.get_identity_name()
        return ClosedGate(OTHER_SPEC, find_log(_local(fl_ctx), site), site, fl_ctx.get_job_id())

    def _open(self, fl_ctx: FLContext) -> SiteAgent:
        """Raises Refused for a job without a valid spec."""
        if self._agent is None:
            self._agent = SiteAgent(
                parsed(RunSpec, self.spec, "the job's spec"),
                fl_ctx.get_identity_name(),
                fl_ctx.get_job_id(),
                _local(fl_ctx),
                lambda setup: Supervisor(setup, lambda: self._abort_signal.triggered),
                lambda: check_only_way_out(fl_ctx),
            )
        return self._agent


def _local(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_site_config_dir())
