"""Run the recipe on a FLARE server, in a proof of concept or in production: submitted with an administrator's kit,
followed live, its result brought home."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nvflare.fuel.flare_api.api_spec import AuthorizationError, InternalError, JobNotRunning, NoReply
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.lead.session import SAYS_NO, Line
from fedrlvr.flare.lead.submitted_job import export_job, is_alive, why_ended, why_waiting
from fedrlvr.flare.live_events import TOPIC, BadAnswer, check_answer, read_events
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Hear, RunFailed, claim, set_aside
from fedrlvr.server.event_log import EVENTS_FILE

POLL = 1.0
JOB_ID = "job_id"  # the file that remembers it
SETTLED, FORGOTTEN = 20.0, 60.0  # seconds that a job may be marked as running while the server runs no such job
T = TypeVar("T")


class SubmissionFailed(RunFailed):
    """The submitted job did not end well; the message is FLARE's own reason, or the event log's."""


class Submission:
    """One run under `folder`: `flare/` holds the job as submitted and as it came back, `flare.log` what FLARE says."""

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        connect: Callable[[], Session],
        note: Callable[[str], None] = lambda text: None,
        poll: float = POLL,
    ):
        """`note` shows a line to whoever waits. A run to go on with is one that was submitted from `folder`."""
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
        self._line = Line(connect, self.log_path, note)
        self._told, self._waiting = 0, ""
        self._stopped: str | None = None
        self._live = True
        self._over = self._closed = self._ended = False
        remembered = folder / JOB_ID
        self._earlier = remembered.read_text().strip() if spec.resume and remembered.exists() else None
        self.job_folder = export_job(self.flare / "job", self.log_path, spec)

    def run(self, hear: Hear) -> None:
        """As `Run`."""
        for event in self.events():
            hear(event)

    def events(self) -> Iterator[dict | None]:
        """Submit the job and yield the server's event log as it grows; None when nothing is new.

        Raises:
            SubmissionFailed: refused, never scheduled, or ended with an error.
            RunFailed: the server is out of reach; the job goes on without us.
        """
        try:
            self._submit()
            meta = yield from self._follow()
            self._over = True
            self._fetch()
            rest = self._unheard()
            self._take(rest)
            yield from rest
            self._judge(meta)
        except SubmissionFailed:
            raise
        except RunFailed:
            if self.job_id is not None:
                self._over = True  # for us
                self._note(f"job {self.job_id} goes on at the server without us")
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Abort the job if it is not over, wait for its end and bring home what it left; then hang up."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.job_id is not None and not self._over:
                self._abort()
        except SubmissionFailed as reason:
            self._note(str(reason))
        except RunFailed as reason:
            self._note(f"{reason}; job {self.job_id} goes on at the server")
        except KeyboardInterrupt:  # a second one
            self._note(f"not waited for: job {self.job_id} may go on at the server")
        finally:
            self._line.close()
            self._claim.release()

    def _ask(self, what: str, question: Callable[[Session], T]) -> T:
        """Raises SubmissionFailed where the server refuses; JobNotRunning, which callers make something of, and
        RunFailed as they are."""
        try:
            return self._line.call(question)
        except (RunFailed, JobNotRunning):
            raise
        except SAYS_NO as error:
            raise SubmissionFailed(f"{what}: {error}") from error

    def _submit(self) -> None:
        earlier = self._earlier
        if earlier is not None and self._ask(f"no word of job {earlier}", lambda session: is_alive(session, earlier)):
            self.job_id = earlier
            self._note(f"job {self.job_id} is not over: followed again")
            return
        clients = self._ask("the server does not say who is there", lambda s: s.get_connected_client_list())
        names, least = sorted(client.name for client in clients), self._job.federation.min_sites
        self._note(f"sites connected: {', '.join(names) or 'none'}")
        if len(names) < least:
            self._note(f"the server waits until {least} sites are (federation.min_sites)")
        self.job_id = self._ask("the server did not take the job", lambda s: s.submit_job(str(self.job_folder)))
        (self.folder / JOB_ID).write_text(self.job_id)
        self._note(f"job {self.job_id} submitted")

    def _follow(self) -> Iterator[dict | None]:
        """Yields events until the job is over; returns what FLARE knows of it then."""
        forgotten = None
        while True:
            meta = self._meta()
            if meta["status"].startswith("FINISHED"):
                return meta
            try:
                if self._live and meta["status"] == "RUNNING":
                    yield from self._news()
                forgotten = None
            except JobNotRunning:
                forgotten = forgotten or time.monotonic()
                if time.monotonic() - forgotten > SETTLED:
                    self._settle()
                if time.monotonic() - forgotten > FORGOTTEN:
                    self._over = True
                    raise SubmissionFailed(
                        f"the server runs no job {self.job_id} although it is marked as running: it was started anew "
                        f"since; what the job did is in its workspace there, {self.job_id}/fedrlvr"
                    ) from None
            yield None
            time.sleep(self._poll)

    def _settle(self) -> None:
        """FLARE keeps a job that is over marked as running for a quarter of an hour if a site of it is gone and cannot
        say how it ended. Told to abort it, it closes the books at once."""
        with suppress(SubmissionFailed, JobNotRunning):  # a server that was started anew knows nothing to abort
            self._ask("not aborted", lambda session: session.abort_job(self.job_id))

    def _meta(self) -> dict:
        meta = self._ask(f"no word of job {self.job_id}", lambda session: session.get_job_meta(self.job_id))
        if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
            raise SubmissionFailed(f"the server's answer on job {self.job_id} has no status")
        waiting = why_waiting(meta)
        if waiting not in ("", self._waiting):
            self._waiting = waiting
            self._note(f"the job waits to be scheduled: {waiting}")
        return meta

    def _news(self) -> Iterator[dict]:
        """What the event log has that was not told yet. A job that has only just begun has no one to ask."""
        while True:
            question = {"from": self._told}
            try:
                answer = self._line.call(lambda session, q=question: session.do_app_command(self.job_id, TOPIC, q))
                events = check_answer(answer, self._told)
            except (InternalError, NoReply):
                return
            except AuthorizationError:
                self._note("not allowed to follow the run live: the server's authorization.json gives no app_command")
                self._live = False
                return
            except (RunFailed, JobNotRunning):
                raise
            except (BadAnswer, *SAYS_NO) as reason:
                raise SubmissionFailed(f"the run cannot be followed: {reason}") from None
            if not events:
                return
            self._keep(events)
            self._take(events)
            yield from events

    def _take(self, events: list[dict]) -> None:
        self._told += len(events)
        for event in events:
            if event["event"] == "stopped":
                self._stopped = str(event.get("reason"))
            elif event["event"] == "end":
                self._ended = True

    def _keep(self, events: list[dict]) -> None:
        """On disk as soon as heard, should the rest never come."""
        self.server_folder.mkdir(exist_ok=True)
        with open(self.server_folder / EVENTS_FILE, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def _abort(self) -> None:
        self._note(f"aborting job {self.job_id}")
        self._line.hurry()
        with suppress(JobNotRunning):  # over by now: its status says
            self._ask(f"job {self.job_id} was not aborted", lambda session: session.abort_job(self.job_id))
        while not self._meta()["status"].startswith("FINISHED"):
            time.sleep(self._poll)
        self._fetch()

    def _fetch(self) -> None:
        """Bring home what the server keeps of the job; nothing where it never began."""
        what = f"the result of job {self.job_id} cannot be downloaded"
        found = self._ask(what, lambda session: session.download_job_result(self.job_id, str(self.flare)))
        kept = Path(found or "") / "workspace" / "fedrlvr"
        if found and (kept / EVENTS_FILE).is_file():
            shutil.rmtree(self.server_folder, ignore_errors=True)
            shutil.move(kept, self.server_folder)

    def _unheard(self) -> list[dict]:
        try:
            return read_events(self.server_folder / EVENTS_FILE, self._told, limited=False)
        except ValueError as error:
            raise SubmissionFailed(f"the event log that came with the result is none: {error}") from None

    def _judge(self, meta: dict) -> None:
        if self._stopped is not None:
            raise SubmissionFailed(self._stopped)
        if not self._ended and meta["status"] != "FINISHED:COMPLETED":
            raise SubmissionFailed(f"job {self.job_id} {meta['status']}: {why_ended(meta)}")
