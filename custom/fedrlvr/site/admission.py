"""Whether a site's policy admits a job: what the site asks before it takes one. Nothing is sent, and nothing spent."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedrlvr.config import JobConfig
from fedrlvr.privacy.accountant import epsilon
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.site.checks import Finding
from fedrlvr.site.egress import Egress
from fedrlvr.site_config import SiteConfig

NAME = "dry-run"  # of site and job


class UnspentLedger(Ledger):
    """The site's ledger, only read. A dry run charges each unit once, and its whole job's plan was checked before."""

    def charge(self, source: Source, job: str, new, delta: float, max_epsilon: float | None) -> float:
        return epsilon([*self.charges(source, type(new)), new], delta)


@contextmanager
def door(job: JobConfig, config: SiteConfig, policy: SitePolicy) -> Iterator[Egress]:
    """The site's door for this job, with a log of its own. Raises Refused if the policy would not let this job in, as
    far as can be said without the number of private problems, for which there is `check_plan`."""
    with tempfile.TemporaryDirectory(prefix="fedrlvr-") as folder:
        log, ledger = EgressLog(Path(folder) / "egress.jsonl"), UnspentLedger(policy.ledger, site=None)
        egress = Egress(NAME, NAME, job, config, policy, ledger, log)
        egress.check_job()
        yield egress


def check_admitted(job: JobConfig, config: SiteConfig, policy: SitePolicy, private_problems: int) -> Finding:
    """Whether this site would take the job, with so many private problems to train on."""
    try:
        with door(job, config, policy) as egress:
            egress.check_plan(private_problems)
    except Refused as reason:
        remedy = f"this site refuses the job: change the job's settings or, if it may do this here, {config.policy}"
        return Finding("admission", "failed", str(reason), remedy)
    return Finding("admission", "ok", "the policy admits this job")
