"""Run the recipe on a FLARE server, in a proof of concept or in production: submit the job with an administrator's
kit, follow it live, download its result."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nvflare.fuel.flare_api.api_spec import AuthorizationError, InternalError, JobNotFound, JobNotRunning, NoReply
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.lead.session import FlareSession, Unreachable, abort_anyway, output_to
from fedrlvr.flare.live_events import TOPIC, check_answer, read_events
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Hear, RunFailed, claim, set_aside
from fedrlvr.server.event_log import EVENTS_FILE

POLL = 1.0
JOB_ID = "job_id"  # the file with the id that FLARE gave to the job
# Seconds that FLARE may mark a job as running while it runs no such job, before we abort it, and before we give it up.
ABORT_LOST, GIVE_UP_LOST = 20.0, 60.0


class Submission:
    """One run under `folder`. `flare/` holds the job as submitted and its result, `flare.log` FLARE's own output."""

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        connect: Callable[[], Session],
        note: Callable[[str], None],
        start_from: Path | None = None,
    ):
        """`note` shows a line to the user. A run that is resumed must have been submitted from the same `folder`."""
        self.folder, self._job = folder, spec.job
        self.flare = folder / "flare"
        self._claim = claim(folder)
        set_aside(self.flare)
        self.flare.mkdir(parents=True)
        self.log_path = folder / "flare.log"
        self.server_folder = self.flare / "server"
        self.job_id: str | None = None
        self._note, self._session = note, FlareSession(connect, self.log_path, note)
        self._received, self._waiting = 0, ""
        self._live, self._over = True, False
        self.job_folder = export_job(self.flare / "job", self.log_path, spec, start_from)

    def run(self, hear: Hear) -> None:
        """As `Run`: submit the job and follow it. Raises Unreachable if the job continues out of the lead's reach."""
        try:
            self._submit()
            meta = self._follow(hear)
            self._over = True
            events = self._download()
            for event in events[self._received :]:
                hear(event)
        except Unreachable:
            if self.job_id is not None:
                self._over = True  # as far as this command is concerned
                self._note(f"job {self.job_id} continues at the server")
            raise
        reasons = [str(event.get("reason")) for event in events if event["event"] == "stopped"]
        if meta["status"] != "FINISHED:COMPLETED" and all(event["event"] != "end" for event in events):
            reasons.append(f"job {self.job_id} {meta['status']}: {why_ended(meta)}")
        if reasons:
            raise RunFailed(reasons[0])

    def close(self) -> None:
        """If the job is not over, abort it, wait for its end and download its result. Then close the session."""
        try:
            if self.job_id is not None and not self._over:
                self._abort()
        except Unreachable as reason:
            self._note(f"{reason}; job {self.job_id} continues at the server")
        except RunFailed as reason:
            self._note(str(reason))
        except KeyboardInterrupt:  # a second one
            self._note(f"interrupted again: job {self.job_id} may continue at the server")
        finally:
            self._session.close()
            self._claim.lock.release()

    def _submit(self) -> None:
        ask, kept = self._session.call, self.folder / JOB_ID
        earlier = kept.read_text().strip() if kept.exists() else ""
        if earlier and ask(f"no status of job {earlier}", lambda session: is_alive(session, earlier)):
            self.job_id = earlier
            self._note(f"job {self.job_id} is not over: following it again")
            return
        names, least = self._session.sites(), self._job.federation.min_sites
        self._note(f"sites connected: {', '.join(names) or 'none'}")
        if len(names) < least:
            self._note(f"the job waits until {least} sites are connected (federation.min_sites)")
        folder = str(self.job_folder)
        self.job_id = ask("the server did not accept the job", lambda session: session.submit_job(folder))
        kept.write_text(self.job_id)
        self._note(f"job {self.job_id} submitted")

    def _follow(self, hear: Hear) -> dict:
        """Until the job is over; returns what FLARE says of it then."""
        lost = None
        while not (meta := self._meta())["status"].startswith("FINISHED"):
            try:
                if self._live and meta["status"] == "RUNNING":
                    self._hear_news(hear)
                lost = None
            except JobNotRunning:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > ABORT_LOST:
                    # If a site is gone and cannot report how the job ended there, FLARE marks a job that is over as
                    # running for 15 minutes more. An abort ends that at once.
                    self._session.call("not aborted", lambda session: abort_anyway(session, self.job_id))
                if time.monotonic() - lost > GIVE_UP_LOST:
                    self._over = True
                    raise RunFailed(
                        f"the server does not run job {self.job_id} although it is marked as running: the server was "
                        f"restarted; what the job did is in its workspace there, {self.job_id}/fedrlvr"
                    ) from None
            hear(None)
            time.sleep(POLL)
        return meta

    def _meta(self) -> dict:
        meta = self._session.call(f"no status of job {self.job_id}", lambda session: session.get_job_meta(self.job_id))
        if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
            raise RunFailed(f"the server's answer on job {self.job_id} has no status")
        waiting = why_waiting(meta)
        if waiting not in ("", self._waiting):
            self._waiting = waiting
            self._note(f"the job waits to be scheduled: {waiting}")
        return meta

    def _hear_news(self, hear: Hear) -> None:
        """The events that were not received yet are written to disk at once, in case the result cannot be downloaded.
        Raises JobNotRunning."""

        def ask(session: Session) -> list[dict]:
            return check_answer(session.do_app_command(self.job_id, TOPIC, {"from": self._received}), self._received)

        passed = JobNotRunning, InternalError, NoReply, AuthorizationError
        try:
            while events := self._session.call("the run cannot be followed", ask, *passed):
                self.server_folder.mkdir(exist_ok=True)
                with open(self.server_folder / EVENTS_FILE, "a", encoding="utf-8") as file:
                    file.writelines(json.dumps(event) + "\n" for event in events)
                self._received += len(events)
                for event in events:
                    hear(event)
        except Refused as reason:
            raise RunFailed(f"the run cannot be followed: {reason}") from None
        except (InternalError, NoReply):
            return  # the job has only just begun
        except AuthorizationError:
            self._note("not allowed to follow the run live: the server's authorization.json gives no app_command")
            self._live = False

    def _abort(self) -> None:
        self._note(f"aborting job {self.job_id}")
        self._session.hurry()
        with suppress(JobNotRunning):  # it has ended meanwhile
            failure = f"job {self.job_id} was not aborted"
            self._session.call(failure, lambda session: session.abort_job(self.job_id), JobNotRunning)
        while not self._meta()["status"].startswith("FINISHED"):
            time.sleep(POLL)
        self._download()

    def _download(self) -> list[dict]:
        """Fetch what the server keeps of the job; nothing if the job never began. Returns the events of the downloaded
        log or, without one, those that were received live."""
        failure, place = f"the result of job {self.job_id} cannot be downloaded", str(self.flare)
        found = self._session.call(failure, lambda session: session.download_job_result(self.job_id, place))
        kept = Path(found or "") / "workspace" / "fedrlvr"
        if found and (kept / EVENTS_FILE).is_file():
            shutil.rmtree(self.server_folder, ignore_errors=True)
            shutil.move(kept, self.server_folder)
        try:
            return read_events(self.server_folder / EVENTS_FILE, limited=False)
        except ValueError as error:
            raise RunFailed(f"the event log in the job's result cannot be read: {error}") from None


def export_job(folder: Path, log: Path, spec: RunSpec, start_from: Path | None = None) -> Path:
    """Write the recipe's job under `folder`; its deadlines and FLARE's output go to `log`. Returns the job's folder."""
    from fedrlvr.flare.recipe import PubSwapRecipe  # FLARE's recipes read the program's own arguments when imported

    with output_to(log):
        print(*Deadlines.of(spec.job).describe(), sep="\n")
        PubSwapRecipe(spec, start_from and str(start_from)).export(str(folder))
    return folder / spec.job.name


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
