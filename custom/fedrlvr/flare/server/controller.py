"""The server's workflow: FLARE's side of a run. The rounds themselves are in `rounds.py`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedrlvr.config import JobConfig
from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.live_events import serve_events
from fedrlvr.privacy.guards import Refused
from fedrlvr.run_identity import check_run, run_identity
from fedrlvr.server.client_manager import QuorumLost, RunAborted, Sites
from fedrlvr.server.event_log import EVENTS_FILE, EventLog
from fedrlvr.server.round_store import RunStore, runs_folder
from fedrlvr.server.rounds import Rounds
from fedrlvr.settings_file import SettingsError


class PubSwapController(Controller):
    """Opens what the run keeps, lets it run, and tells FLARE how it ended."""

    def __init__(self, job: str, public_ids: list[str], manifest: str, run: str, resume: bool = False):
        """`job` is a JobConfig as JSON, `public_ids` the public problems in the manifest's order, `manifest` their
        hash; `run` and `resume` as for the recipe."""
        super().__init__(task_check_period=0.05)
        self.job = job
        self.public_ids = public_ids
        self.manifest = manifest
        self.run = run
        self.resume = resume

    def start_controller(self, fl_ctx: FLContext) -> None:
        self._config = JobConfig.model_validate_json(self.job)
        fobs.register(TensorDecomposer)
        torch.set_num_threads(1)  # sums in one fixed order: a run repeats byte for byte
        engine = fl_ctx.get_engine()
        self._folder = Path(engine.get_workspace().get_run_dir(fl_ctx.get_job_id())) / "fedrlvr"
        serve_events(engine, self._folder / EVENTS_FILE)
        self._journal: EventLog | None = None
        self._sites: Sites | None = None
        self._hear_of_late_answers()

    def stop_controller(self, fl_ctx: FLContext) -> None:
        if self._journal is not None:
            self._journal.close()

    def process_result_of_unknown_task(self, client, task_name, client_task_id, result, fl_ctx) -> None:
        self._late(client_task_id)

    def _hear_of_late_answers(self) -> None:
        """FLARE's client asks whether its task is still wanted before it sends a result, and drops one that is not:
        that question is mostly all that a server hears of a late answer."""
        check = self.communicator.process_task_check

        def listening(task_id: str, fl_ctx: FLContext):
            task = check(task_id, fl_ctx)
            if task is None:
                self._late(task_id)
            return task

        self.communicator.process_task_check = listening

    def _late(self, task_id: str) -> None:
        site, task = self._sites.unanswered.pop(task_id, (None, None)) if self._sites else (None, None)
        if site is not None:
            self._journal.write("late", site=site, task=task)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        try:
            self._run(abort_signal, fl_ctx)
        except (QuorumLost, Refused, SettingsError) as reason:
            self._stop(str(reason), fl_ctx)
        except OSError as error:
            self._stop(f"the server cannot keep what the run does: {error}", fl_ctx)
        except RunAborted:
            self._journal.write("stopped", reason=self._why_aborted())

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Open the run's files, see what an earlier job has done of it, and go on from there."""
        root = Path(fl_ctx.get_engine().get_workspace().get_root_dir())
        identity = run_identity(self._config, self.manifest)
        store = RunStore(runs_folder(root), check_run(self.run), identity)
        if not self.resume:
            store.clear()
        store.open()
        kept = store.latest()
        self._journal = EventLog(self._folder, kept.event_log if kept else None)
        self._sites = self._all_sites(abort_signal, fl_ctx)
        Rounds(self._config, self.public_ids, self.manifest, self._sites, self._journal, store, self._folder).run(
            kept, self.run
        )

    def _all_sites(self, abort_signal: Signal, fl_ctx: FLContext) -> Sites:
        deadlines = Deadlines.of(self._config)
        return Sites(
            controller=self,
            fl_ctx=fl_ctx,
            abort_signal=abort_signal,
            names=sorted(client.name for client in fl_ctx.get_engine().get_clients()),
            min_sites=self._config.federation.min_sites,
            deadline=deadlines.task,
            first_deadline=deadlines.first_task,
            pickup_deadline=deadlines.pickup,
            is_gone=self._is_gone,
            on_failure=lambda **failure: self._journal.write("failure", **failure),
        )

    def _why_aborted(self) -> str:
        """FLARE does not say; where it had lost sites, that will be why."""
        names = sorted(client.name for client in self._engine.get_clients())
        lost = [name for name in names if self._is_gone(name)]
        return f"aborted; FLARE had lost {', '.join(lost)}" if lost else "aborted"

    def _is_gone(self, site: str) -> bool:
        return self.communicator.get_client_disconnect_time(site) is not None

    def _stop(self, reason: str, fl_ctx: FLContext) -> None:
        with suppress(OSError):  # it may be the disk that is full
            self._journal = self._journal or EventLog(self._folder)  # where the lead looks for the reason first
            self._journal.write("stopped", reason=reason)
        self.system_panic(reason, fl_ctx)
