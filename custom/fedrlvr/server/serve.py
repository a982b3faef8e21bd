"""A run as the server sees it, over any transport: find what an earlier job completed, and do the rest."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import RunFailed, run_identity
from fedrlvr.server.client_manager import ClientManager, Patience, QuorumLost, Transport
from fedrlvr.server.event_log import EventLog
from fedrlvr.server.own_pace import RoundsAtOwnPace
from fedrlvr.server.round_store import RoundStore
from fedrlvr.server.rounds import Rounds
from fedrlvr.settings_file import SettingsError


@dataclass
class Server:
    """`folder` is the job's own; what outlives the job is under `runs()`, which may raise SettingsError. `hear` gets
    every event as it is written. `start_from` is the PEFT directory of the first adapter; None: one without effect."""

    spec: RunSpec
    folder: Path
    runs: Callable[[], Path]
    transport: Transport
    patience: Patience
    hear: Callable[[dict], None] = lambda event: None
    log: EventLog | None = None
    start_from: Path | None = None

    def run(self) -> None:
        """All rounds that are left.

        Raises:
            RunFailed: with the reason, which the event log has, too.
            RunAborted: the transport was told to end.
        """
        try:
            self._run()
        except (QuorumLost, Refused, SettingsError, OSError) as error:
            reason = f"the server cannot keep what the run does: {error}" if isinstance(error, OSError) else str(error)
            self.stopped(reason)
            raise RunFailed(reason) from error

    def stopped(self, reason: str) -> None:
        """Log why the run ended early; the lead looks there first."""
        with suppress(OSError):  # it may be the disk that is full
            self.log = self.log or EventLog(self.folder, hear=self.hear)
            self.log.write("stopped", reason=reason)

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def _run(self) -> None:
        job = self.spec.job
        store = RoundStore(self.runs(), self.spec.run, run_identity(job, self.spec.public_sha256))
        if not self.spec.resume:
            store.clear()
        store.open()
        kept = store.latest()
        self.log = EventLog(self.folder, kept.events if kept else None, self.hear)
        receipts = dict(kept.receipts) if kept else {}
        sites = ClientManager(
            self.transport, job.federation.min_sites, self.patience, self.log.write, receipts=receipts
        )
        kind = RoundsAtOwnPace if job.federation.pace == "own" else Rounds
        kind(self.spec, sites, self.log, store, self.folder, self.start_from).run(kept)
