"""A job at a FLARE server, followed live: its status, and its events as they come."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nvflare.fuel.flare_api.api_spec import AuthorizationError, InternalError, JobNotFound, JobNotRunning, NoReply
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.lead.session import FlareSession, abort_anyway
from fedrlvr.flare.live_events import TOPIC, check_answer, read_events
from fedrlvr.protocol.refused import Refused
from fedrlvr.run import Hear, RunFailed
from fedrlvr.server.event_log import EVENTS_FILE

POLL = 1.0
# Seconds that FLARE may mark a job as running while it runs no such job, before we abort it, and before we give it up.
ABORT_LOST, GIVE_UP_LOST = 20.0, 60.0


class FollowedJob:
    """`note` shows a line to the user. `keep` gets new events before they are heard. With `ours`, a job that the server
    has lost is aborted there."""

    def __init__(
        self,
        session: FlareSession,
        job_id: str,
        note: Callable[[str], None],
        keep: Callable[[list[dict]], None] = lambda events: None,
        ours: bool = False,
    ):
        self.job_id, self.received = job_id, 0
        self._session, self._note, self._keep, self._ours = session, note, keep, ours
        self._waiting, self._live = "", True

    def follow(self, hear: Hear) -> dict:
        """Until the job is over; returns what FLARE says of it then. Raises RunFailed."""
        lost = None
        while not (meta := self.meta())["status"].startswith("FINISHED"):
            try:
                if self._live and meta["status"] == "RUNNING":
                    self._hear_news(hear)
                lost = None
            except JobNotRunning:
                lost = lost or time.monotonic()
                self._bear_loss(time.monotonic() - lost)
            hear(None)
            time.sleep(POLL)
        return meta

    def meta(self) -> dict:
        """What FLARE says of the job. Raises RunFailed where it knows no such job."""
        meta = self._session.call(f"no status of job {self.job_id}", lambda session: session.get_job_meta(self.job_id))
        if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
            raise RunFailed(f"the server's answer on job {self.job_id} has no status")
        waiting = why_waiting(meta)
        if waiting not in ("", self._waiting):
            self._waiting = waiting
            self._note(f"the job waits to be scheduled: {waiting}")
        return meta

    def _bear_loss(self, seconds: float) -> None:
        """If a site is gone and cannot report how the job ended there, FLARE marks a job that is over as running for 15
        minutes more. An abort ends that at once."""
        if seconds > ABORT_LOST and self._ours:
            self._session.call("not aborted", lambda session: abort_anyway(session, self.job_id))
        if seconds > GIVE_UP_LOST:
            raise JobLost(
                f"the server does not run job {self.job_id} although it is marked as running: the server was "
                f"restarted; what the job did is in its workspace there, {self.job_id}/fedrlvr"
            )

    def _hear_news(self, hear: Hear) -> None:
        """Raises JobNotRunning."""

        def ask(session: Session) -> list[dict]:
            return check_answer(session.do_app_command(self.job_id, TOPIC, {"from": self.received}), self.received)

        passed = JobNotRunning, InternalError, NoReply, AuthorizationError
        try:
            while events := self._session.call("the run cannot be followed", ask, *passed):
                self._keep(events)
                self.received += len(events)
                for event in events:
                    hear(event)
        except Refused as reason:
            raise RunFailed(f"the run cannot be followed: {reason}") from None
        except (InternalError, NoReply):
            return  # the job has only just begun
        except AuthorizationError:
            self._note("not allowed to follow the run live: the server's authorization.json gives no app_command")
            self._live = False


def watch_job(job_id: str, connect: Callable[[], Session], hear: Hear, say: Callable[[str], None]) -> None:
    """Hear of a job at a FLARE server until it is over. Raises RunFailed where it cannot be followed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        session = FlareSession(connect, folder / "flare.log", say)
        job = FollowedJob(session, job_id, say)
        try:
            status = job.follow(hear)["status"]
            kept = download(session, job_id, folder)  # what happened before we came, and the very last events
        finally:
            session.close()
        for event in read_events(kept / EVENTS_FILE, limited=False)[job.received :] if kept else ():
            hear(event)
    say(f"job {job_id}: {status}")


class JobLost(RunFailed):
    """The server has lost the job."""


def download(session: FlareSession, job_id: str, folder: Path) -> Path | None:
    """Fetch a job's result into `folder`. Returns what our server kept there; None if the job never began."""
    failure = f"the result of job {job_id} cannot be downloaded"
    found = session.call(failure, lambda session: session.download_job_result(job_id, str(folder)))
    kept = Path(found or "") / "workspace" / "fedrlvr"
    return kept if found and (kept / EVENTS_FILE).is_file() else None


def is_alive(session: Session, job_id: str) -> bool:
    """Whether a job waits or runs. A job that died with its server is still marked as running, so the job is asked."""
    try:
        status = session.get_job_meta(job_id)["status"]
        if status == "RUNNING":
            session.do_app_command(job_id, TOPIC, {"from": 0})
    except (JobNotFound, JobNotRunning):
        return False
    except (InternalError, NoReply):
        return True  # it has only just begun
    return not status.startswith("FINISHED")


def why_waiting(meta: dict) -> str:
    """Why the server's last attempt did not schedule the job, without the time; "" if it did, or made no attempt."""
    attempt = _last(meta.get("schedule_history")) if meta["status"] == "SUBMITTED" else ""
    return attempt.split(": ", 1)[-1]


def why_ended(meta: dict) -> str:
    details = meta.get("job_deploy_detail")
    reason = "; ".join(map(str, details)) if isinstance(details, list) else _last(meta.get("schedule_history"))
    return reason or "FLARE gives no reason"


def _last(history: object) -> str:
    return str(history[-1]) if isinstance(history, list) and history else ""
