"""Run the recipe on a FLARE server, in a proof of concept or in production: submit the job with an administrator's
kit, follow it live, download its result."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nvflare.fuel.flare_api.api_spec import JobNotRunning
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.lead.followed_job import POLL, FollowedJob, JobLost, download, is_alive, why_ended
from fedrlvr.flare.lead.session import FlareSession, Unreachable, output_to
from fedrlvr.flare.live_events import read_events
from fedrlvr.flare.trackers import LEFT
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Hear, RunFailed, claim, server_folder_of, set_aside
from fedrlvr.server.event_log import EVENTS_FILE

JOB_ID = "job_id"  # the file with the id that FLARE gave to the job


class Submission:
    """One run under `folder`. `flare/` holds the job as submitted and its result, `flare.log` FLARE's own output."""

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        connect: Callable[[], Session],
        note: Callable[[str], None],
        start_from: Path | None = None,
        track: str | None = None,
    ):
        """`note` shows a line to the user, and `track` is one of `TRACKERS`. A run that is resumed must have been
        submitted from the same `folder`."""
        self.folder, self._job = folder, spec.job
        self.flare = folder / "flare"
        self._claim = claim(folder)
        set_aside(self.flare)
        self.flare.mkdir(parents=True)
        self.log_path = folder / "flare.log"
        self.server_folder = server_folder_of(folder, "prod", spec.job.name)
        self.job_id: str | None = None
        self._note, self._session = note, FlareSession(connect, self.log_path, note)
        self._followed: FollowedJob | None = None
        self._over = False
        self.job_folder = export_job(self.flare / "job", self.log_path, spec, start_from, track)

    def run(self, hear: Hear) -> None:
        """As `Run`: submit the job and follow it. Raises Unreachable if the job continues out of the lead's reach."""
        try:
            self._submit()
            self._followed = FollowedJob(self._session, self.job_id, self._note, self._keep, ours=True)
            meta = self._followed.follow(hear)
            self._over = True
            events = self._download()
            for event in events[self._followed.received :]:
                hear(event)
        except JobLost:
            self._over = True
            raise
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
            fewer = (
                f"; with fewer: interrupt it, and resume with --set federation.min_sites={len(names)}" if names else ""
            )
            self._note(f"the job waits until {least} sites are connected (federation.min_sites){fewer}")
        folder = str(self.job_folder)
        self.job_id = ask("the server did not accept the job", lambda session: session.submit_job(folder))
        kept.write_text(self.job_id)
        self._note(f"job {self.job_id} submitted")

    def _keep(self, events: list[dict]) -> None:
        """On disk at once, in case the result cannot be downloaded."""
        self.server_folder.mkdir(exist_ok=True)
        with open(self.server_folder / EVENTS_FILE, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def _abort(self) -> None:
        self._note(f"aborting job {self.job_id}")
        self._session.hurry()
        with suppress(JobNotRunning):  # it has ended meanwhile
            failure = f"job {self.job_id} was not aborted"
            self._session.call(failure, lambda session: session.abort_job(self.job_id), JobNotRunning)
        job = self._followed or FollowedJob(self._session, self.job_id, self._note)
        while not job.meta()["status"].startswith("FINISHED"):
            time.sleep(POLL)
        self._download()

    def _download(self) -> list[dict]:
        """Fetch what the server keeps of the job; nothing if the job never began. Returns the events of the downloaded
        log or, without one, those that were received live."""
        kept = download(self._session, self.job_id, self.flare)
        if kept is not None:
            shutil.rmtree(self.server_folder, ignore_errors=True)
            shutil.move(kept, self.server_folder)
            for tracked in (kept.parent / name for name in LEFT):
                if tracked.exists():
                    shutil.move(tracked, self.server_folder.parent / tracked.name)
        try:
            return read_events(self.server_folder / EVENTS_FILE, limited=False)
        except ValueError as error:
            raise RunFailed(f"the event log in the job's result cannot be read: {error}") from None


def export_job(
    folder: Path, log: Path, spec: RunSpec, start_from: Path | None = None, track: str | None = None
) -> Path:
    """Write the recipe's job under `folder`; its deadlines and FLARE's output go to `log`. Returns the job's folder."""
    from fedrlvr.flare.recipe import PubSwapRecipe  # FLARE's recipes read the program's own arguments when imported

    with output_to(log):
        print(*Deadlines.of(spec.job).describe(), sep="\n")
        recipe = PubSwapRecipe(spec, start_from and str(start_from))
        if track:
            recipe.track(track)
        recipe.export(str(folder))
    return folder / spec.job.name
