"""The server's FLARE workflow: it gives the run its transport, and tells FLARE how the run ended."""

from pathlib import Path

import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.doorbell import ring
from fedrlvr.flare.live_events import serve_events
from fedrlvr.flare.server.tracking import Tracking
from fedrlvr.flare.server.transport import FlareTransport
from fedrlvr.flare.workarounds import hear_of_late_answers, miss_silent_sites
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import RunFailed
from fedrlvr.server.client_manager import RunAborted
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.server.round_store import runs_folder
from fedrlvr.server.serve import Server


class PubSwapController(Controller):
    """Runs `server/rounds.py` over FLARE."""

    def __init__(self, spec: str, start_from: str = ""):
        """`spec` is a RunSpec as JSON, `start_from` the PEFT directory of the first adapter ("": none)."""
        super().__init__(task_check_period=0.05)
        self.spec, self.start_from = spec, start_from
        self._server: Server | None = None
        self._transport: FlareTransport | None = None

    def start_controller(self, fl_ctx: FLContext) -> None:
        self._spec = RunSpec.model_validate_json(self.spec)
        fobs.register(TensorDecomposer)
        torch.set_num_threads(1)  # sums in one fixed order: a run repeats byte for byte
        engine = fl_ctx.get_engine()
        self._folder = Path(engine.get_workspace().get_run_dir(fl_ctx.get_job_id())) / "fedrlvr"
        serve_events(engine, self._folder / EVENTS_FILE)
        hear_of_late_answers(self, self._late)
        miss_silent_sites(self)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.ABOUT_TO_END_RUN and self._transport is not None:
            ring(self._transport.sites, fl_ctx)  # from now on FLARE tells a site that asks that all is over

    def stop_controller(self, fl_ctx: FLContext) -> None:
        if self._server is not None:
            self._server.close()

    def process_result_of_unknown_task(self, client, task_name, client_task_id, result, fl_ctx) -> None:
        self._late(client_task_id)

    def _late(self, task_id: str) -> None:
        late = self._transport and self._transport.unanswered.pop(task_id, None)  # None: a stranger's
        if late:
            self._server.log.write("late", site=late[0], task=late[1])

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        root = Path(fl_ctx.get_engine().get_workspace().get_root_dir())
        self._transport = FlareTransport(self, fl_ctx, abort_signal)
        deadlines = Deadlines.of(self._spec.job)
        start_from = Path(self.start_from) if self.start_from else None
        where = self._folder, lambda: runs_folder(root), self._transport
        self._server = Server(self._spec, *where, deadlines, Tracking(fl_ctx).hear, start_from=start_from)
        try:
            self._server.run()
        except RunFailed as failed:
            self.system_panic(str(failed), fl_ctx)
        except RunAborted:
            self._server.stopped(self._why_aborted())

    def _why_aborted(self) -> str:
        """FLARE does not say; where it had lost sites, that will be why."""
        lost = [name for name in self._transport.sites if self._transport.is_gone(name)]
        return f"aborted; FLARE had lost {', '.join(lost)}" if lost else "aborted"
