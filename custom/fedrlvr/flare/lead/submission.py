"""Run the recipe on a FLARE server, in a proof of concept or in production: submit the job with an administrator's
kit, follow it live, download its result."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nvflare.fuel.flare_api.api_spec import AuthorizationError, InternalError, JobNotFound, JobNotRunning, NoReply
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.lead.session import REFUSALS, FlareSession, output_to
from fedrlvr.flare.live_events import TOPIC, BadAnswer, check_answer, read_events
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Hear, RunFailed, claim, set_aside
from fedrlvr.server.event_log import EVENTS_FILE

POLL = 1.0
JOB_ID = "job_id"  # the file with the id that FLARE gave to the job
# Seconds that FLARE may mark a job as running while it runs no such job, before we abort it, and before we give it up.
ABORT_LOST, GIVE_UP_LOST = 20.0, 60.0
T = TypeVar("T")


class SubmissionFailed(RunFailed):
    """The submitted job did not end well. The message is the reason that FLARE or the event log gives."""


class Submission:
    """One run under `folder`. `flare/` holds the job as submitted and its result, `flare.log` FLARE's own output."""

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        connect: Callable[[], Session],
        note: Callable[[str], None] = lambda text: None,
        poll: float = POLL,
    ):
        """`note` shows a line to the user. A run that is resumed must have been submitted from the same `folder`."""
        self.folder, self._job = folder, spec.job
        self.flare = folder / "flare"
        self._claim = claim(folder)
        if spec.resume:
            set_aside(self.flare)
        self.flare.mkdir(parents=True)
        self.log_path = folder / "flare.log"
        self.server_folder = self.flare / "server"
        self.job_id: str | None = None
        self._note, self._poll = note, poll
        self._session = FlareSession(connect, self.log_path, note)
        self._received, self._waiting = 0, ""
        self._live, self._over, self._closed = True, False, False
        job_id = folder / JOB_ID
        self._earlier = job_id.read_text().strip() if spec.resume and job_id.exists() else None
        self.job_folder = export_job(self.flare / "job", self.log_path, spec)

    def run(self, hear: Hear) -> None:
        """See `Run`."""
        for event in self.events():
            hear(event)

    def events(self) -> Iterator[dict | None]:
        """Submit the job and yield the server's event log as it grows; None when there is nothing new.

        Raises:
            SubmissionFailed: the job was refused, never scheduled, or ended with an error.
            RunFailed: the server is unreachable; the job continues there.
        """
        try:
            self._submit()
            meta = yield from self._follow()
            self._over = True
            self._download()
            events = self._all_events()
            yield from events[self._received :]
            self._check_outcome(meta, events)
        except SubmissionFailed:
            raise
        except RunFailed:
            if self.job_id is not None:
                self._over = True  # as far as this command is concerned
                self._note(f"job {self.job_id} continues at the server")
            raise
        finally:
            self.close()

    def close(self) -> None:
        """If the job is not over, abort it, wait for its end and download its result. Then close the session."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.job_id is not None and not self._over:
                self._abort()
        except SubmissionFailed as reason:
            self._note(str(reason))
        except RunFailed as reason:
            self._note(f"{reason}; job {self.job_id} continues at the server")
        except KeyboardInterrupt:  # a second one
            self._note(f"interrupted again: job {self.job_id} may continue at the server")
        finally:
            self._session.close()
            self._claim.release()

    def _ask(self, failure: str, request: Callable[[Session], T]) -> T:
        """Raises SubmissionFailed, which begins with `failure`, if the server refuses. Passes on RunFailed and
        JobNotRunning, which callers handle."""
        try:
            return self._session.call(request)
        except (RunFailed, JobNotRunning):
            raise
        except REFUSALS as error:
            raise SubmissionFailed(f"{failure}: {error}") from error

    def _submit(self) -> None:
        earlier = self._earlier
        if earlier is not None and self._ask(f"no status of job {earlier}", lambda session: is_alive(session, earlier)):
            self.job_id = earlier
            self._note(f"job {self.job_id} is not over: following it again")
            return
        clients = self._ask("the server does not list its sites", lambda session: session.get_connected_client_list())
        names, least = sorted(client.name for client in clients), self._job.federation.min_sites
        self._note(f"sites connected: {', '.join(names) or 'none'}")
        if len(names) < least:
            self._note(f"the job waits until {least} sites are connected (federation.min_sites)")
        folder = str(self.job_folder)
        self.job_id = self._ask("the server did not accept the job", lambda session: session.submit_job(folder))
        (self.folder / JOB_ID).write_text(self.job_id)
        self._note(f"job {self.job_id} submitted")

    def _follow(self) -> Iterator[dict | None]:
        """Yields events until the job is over; returns what FLARE says of the job then."""
        lost = None
        while True:
            meta = self._meta()
            if meta["status"].startswith("FINISHED"):
                return meta
            try:
                if self._live and meta["status"] == "RUNNING":
                    yield from self._new_events()
                lost = None
            except JobNotRunning:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > ABORT_LOST:
                    self._abort_lost()
                if time.monotonic() - lost > GIVE_UP_LOST:
                    self._over = True
                    raise SubmissionFailed(
                        f"the server does not run job {self.job_id} although it is marked as running: the server was "
                        f"restarted; what the job did is in its workspace there, {self.job_id}/fedrlvr"
                    ) from None
            yield None
            time.sleep(self._poll)

    def _abort_lost(self) -> None:
        """If a site is gone and cannot report how the job ended there, FLARE marks a job that is over as running for
        15 minutes more. An abort ends that at once."""
        with suppress(SubmissionFailed, JobNotRunning):  # a server that was restarted has nothing to abort
            self._ask("not aborted", lambda session: session.abort_job(self.job_id))

    def _meta(self) -> dict:
        meta = self._ask(f"no status of job {self.job_id}", lambda session: session.get_job_meta(self.job_id))
        if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
            raise SubmissionFailed(f"the server's answer on job {self.job_id} has no status")
        waiting = why_waiting(meta)
        if waiting not in ("", self._waiting):
            self._waiting = waiting
            self._note(f"the job waits to be scheduled: {waiting}")
        return meta

    def _new_events(self) -> Iterator[dict]:
        """The events that were not received yet. A job that has only just begun does not answer yet."""
        while True:
            question = {"from": self._received}
            try:
                answer = self._session.call(lambda session, q=question: session.do_app_command(self.job_id, TOPIC, q))
                events = check_answer(answer, self._received)
            except (InternalError, NoReply):
                return
            except AuthorizationError:
                self._note("not allowed to follow the run live: the server's authorization.json gives no app_command")
                self._live = False
                return
            except (RunFailed, JobNotRunning):
                raise
            except (BadAnswer, *REFUSALS) as reason:
                raise SubmissionFailed(f"the run cannot be followed: {reason}") from None
            if not events:
                return
            self._save(events)
            self._received += len(events)
            yield from events

    def _save(self, events: list[dict]) -> None:
        """Write the events to disk at once, in case the result cannot be downloaded."""
        self.server_folder.mkdir(exist_ok=True)
        with open(self.server_folder / EVENTS_FILE, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def _abort(self) -> None:
        self._note(f"aborting job {self.job_id}")
        self._session.hurry()
        with suppress(JobNotRunning):  # it has ended meanwhile
            self._ask(f"job {self.job_id} was not aborted", lambda session: session.abort_job(self.job_id))
        while not self._meta()["status"].startswith("FINISHED"):
            time.sleep(self._poll)
        self._download()

    def _download(self) -> None:
        """Fetch what the server keeps of the job; nothing if the job never began."""
        failure = f"the result of job {self.job_id} cannot be downloaded"
        found = self._ask(failure, lambda session: session.download_job_result(self.job_id, str(self.flare)))
        kept = Path(found or "") / "workspace" / "fedrlvr"
        if found and (kept / EVENTS_FILE).is_file():
            shutil.rmtree(self.server_folder, ignore_errors=True)
            shutil.move(kept, self.server_folder)

    def _all_events(self) -> list[dict]:
        """Those of the downloaded event log; without one, those that were received live."""
        try:
            return read_events(self.server_folder / EVENTS_FILE, limited=False)
        except ValueError as error:
            raise SubmissionFailed(f"the event log in the job's result cannot be read: {error}") from None

    def _check_outcome(self, meta: dict, events: list[dict]) -> None:
        for event in events:
            if event["event"] == "stopped":
                raise SubmissionFailed(str(event.get("reason")))
        if meta["status"] != "FINISHED:COMPLETED" and all(event["event"] != "end" for event in events):
            raise SubmissionFailed(f"job {self.job_id} {meta['status']}: {why_ended(meta)}")


def export_job(folder: Path, log: Path, spec: RunSpec) -> Path:
    """Write the recipe's job under `folder`; its deadlines and FLARE's output go to `log`. Returns the job's folder."""
    from fedrlvr.flare.recipe import PubSwapRecipe  # FLARE's recipes read the program's own arguments when imported

    with output_to(log) as file:
        file.writelines(f"{line}\n" for line in Deadlines.of(spec.job).describe())
        PubSwapRecipe(spec).export(str(folder))
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
