"""Follow a run that somebody else has started, without touching it: by its event log on this machine, or at the FLARE
server that runs it."""

import shlex
import time
from pathlib import Path

from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.flare.lead.followed_job import watch_job
from fedrlvr.flare.lead.session import open_kit
from fedrlvr.flare.lead.submission import JOB_ID
from fedrlvr.flare.live_events import GrowingLog, read_events
from fedrlvr.launch.prepared_run import PreparedRun, Say
from fedrlvr.protocol.refused import Refused
from fedrlvr.run import Hear, RunFailed, claim, server_folder_of
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.settings_file import SettingsError

POLL = 1.0  # seconds
OVER = ("end", "stopped")  # a run's last event


def event_log_of(prepared: PreparedRun) -> Path:
    """The event log of a run on this machine: what it left, or what its server writes now."""
    left = prepared.folder / EVENTS_FILE
    if left.exists() and not is_running(prepared.folder):
        return left
    return server_folder_of(prepared.folder, prepared.environment, prepared.spec.job.name) / EVENTS_FILE


def is_running(folder: Path) -> bool:
    """Whether a command works on this run. In a folder that we may not write to that is not known, and assumed."""
    try:
        claim(folder).lock.release()
    except (ValueError, PermissionError):
        return True
    return False


def has_ended(prepared: PreparedRun) -> bool:
    """Whether its folder says how the run ended, so that no server need be asked."""
    log = prepared.folder / EVENTS_FILE
    if not log.exists() or is_running(prepared.folder):
        return False
    try:
        events = read_events(log, limited=False)
    except Refused:
        return False
    return bool(events) and events[-1]["event"] in OVER


def watch_here(prepared: PreparedRun, hear: Hear) -> None:
    """Hear of a run on this machine until it is over, or nobody runs it any more. Raises RunFailed for a log that holds
    something else than events."""
    log, over = GrowingLog(event_log_of(prepared)), False
    while not over:
        over = not is_running(prepared.folder)  # asked before the log is read, so that nothing of it is missed
        try:
            news = log.news()
        except Refused as error:
            rest = f"`fedrlvr report {shlex.quote(str(prepared.folder))}` shows the rest"
            raise RunFailed(f"the run cannot be followed: {error}; {rest}") from None
        for event in news:
            hear(event)
            over = over or event["event"] in OVER
        if not over:
            time.sleep(POLL)


def watch_at_server(prepared: PreparedRun, hear: Hear, say: Say) -> None:
    """Hear of a run's job at its server until it is over. Raises SettingsError where no job was submitted, else as
    `watch_job`."""
    kept = prepared.folder / JOB_ID
    if not kept.is_file():
        raise SettingsError(f"{prepared.folder}: no job was submitted for this run; --resume-from it submits one")
    if prepared.environment == "poc":
        deployment = Poc(Path(prepared.place)).running()
        connect = open_kit(deployment.kit(deployment.lead))
    else:
        connect = open_kit(Path(prepared.place))
    watch_job(kept.read_text().strip(), connect, hear, say)
