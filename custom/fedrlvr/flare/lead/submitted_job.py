"""A job as FLARE's server sees it: the folder that is submitted, whether it lives, and what is said of it."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from nvflare.fuel.flare_api.api_spec import InternalError, JobNotFound, JobNotRunning, NoReply
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.live_events import TOPIC
from fedrlvr.protocol.run_spec import RunSpec


def export_job(folder: Path, log: Path, spec: RunSpec) -> Path:
    """Write the recipe's job under `folder`, its deadlines and FLARE's words into `log`; returns the job's own
    folder."""
    from fedrlvr.flare.recipe import PubSwapRecipe  # FLARE's recipes look at the program's own arguments

    with open(log, "a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        file.writelines(f"{line}\n" for line in Deadlines.of(spec.job).describe())
        PubSwapRecipe(spec).export(str(folder))
    return folder / spec.job.name


def is_alive(session: Session, job_id: str) -> bool:
    """Whether a job is waiting or running. One that died with its server stays marked as running."""
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
    """Why a job was not scheduled the last time the server tried, without the time; "" where it was or nobody tried."""
    tried = _last(meta.get("schedule_history")) if meta["status"] == "SUBMITTED" else ""
    return tried.split(": ", 1)[-1]


def why_ended(meta: dict) -> str:
    details = meta.get("job_deploy_detail")
    said = "; ".join(map(str, details)) if isinstance(details, list) else _last(meta.get("schedule_history"))
    return said or "FLARE says no more"


def _last(history: object) -> str:
    return str(history[-1]) if isinstance(history, list) and history else ""
