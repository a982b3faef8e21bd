"""The gate of a site that cannot open it: the site's own files, or the job's spec, cannot be used.

Only fixed words leave. The reason stays at the site.
"""

import logging
from pathlib import Path

from fedrlvr.privacy.egress_log import EgressLog, error_entry
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.answers import Answer, Failure, Reply
from fedrlvr.protocol.refused import Refused
from fedrlvr.settings_file import SettingsError, load_settings, read_yaml
from fedrlvr.types import Adapter

LOGGER = logging.getLogger(__name__)
# Where it is at every site. Not as a path: what looks like a folder is cut out of errors.
JOB_LOG = "log.txt in this job's folder of the site's kit"
OWN_FILES = f"this site's own fedrlvr.yaml, or a file that it names, cannot be used; {JOB_LOG} says why"
NO_POLICY = f"this site's privacy policy is not in force; {JOB_LOG} says why"
NO_LOG = f"this site's egress log cannot be written; {JOB_LOG} says why"
OTHER_SPEC = f"this site cannot read the job, which may be of another version of fedrlvr; {JOB_LOG} says why"


class ClosedGate:
    """Sends `told` in place of everything. `log` is None where no policy can be read, so nobody knows its place."""

    def __init__(self, told: str, log: EgressLog | None, site: str, job_id: str):
        self.told, self.log, self._place = told, log, {"site": site, "job": job_id, "model": ""}

    def release(self, task: str, answer: Answer | Failure, tensors: Adapter | None) -> Reply:
        reason = answer.reason if isinstance(answer, Failure) else "an answer, though the gate is closed"
        return self.block(task, reason), None

    def block(self, task: str, reason: str) -> Failure:
        """What leaves, after the reason was written down; where that cannot be, fixed words say so."""
        if self.log is None:
            return Failure.of(self.told)
        try:
            with self.log.written(**self._place, task=task, kind="error") as entry:
                entry |= error_entry(self.told, reason)
        except Refused as unwritten:
            LOGGER.error("%s: %s", task, unwritten)
            return Failure.of(NO_LOG)
        return Failure.of(self.told)


def site_file(folder: Path, site: str) -> Path:
    """`fedrlvr.yaml` in the site's local folder; `fedrlvr.<site>.yaml` where simulated sites share that folder. Raises
    FileNotFoundError."""
    for name in (f"fedrlvr.{site}.yaml", "fedrlvr.yaml"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no site file fedrlvr.yaml in {folder}: it says where a site's model and problems are")


def find_log(folder: Path, site: str) -> EgressLog | None:
    """The log of the policy that the site's file names, whatever else in that file cannot be used; None where no
    policy can be read."""
    try:
        path = site_file(folder, site)
        named = read_yaml(path).get("policy")
        if not isinstance(named, str):
            return None
        return EgressLog(load_settings(SitePolicy, path.resolve().parent / named).log)
    except (SettingsError, FileNotFoundError):
        return None
