"""The FLARE recipe: the same job for the simulator, POC and provisioned sites."""

from __future__ import annotations

from nvflare.job_config.api import FedJob
from nvflare.recipe.spec import Recipe

from fedrlvr.config import JobConfig
from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.server.controller import PubSwapController
from fedrlvr.flare.site.executor import SiteExecutor
from fedrlvr.run_identity import check_run, new_run

TASKS = ["train", "propose", "swap", "submit", "validate"]


class PubSwapRecipe(Recipe):
    """Federated RLVR with response swapping.

    Args:
        job: the algorithm's settings; nothing about any site's files or hardware.
        public_ids: the public problems' ids, in the manifest's order.
        manifest: the public problems' hash, by which every site checks that it has the same ones.
        run: the run's name, by which server and sites find again what they keep of it; default: a new one.
        resume: go on with `run` after its last completed round, in place of an earlier job that did not end well.
        base_model: the fingerprint that every site's model must have; without one, the same at most sites.

    The package is expected to be installed at every participant, so the job carries no code ("not BYOC").
    """

    def __init__(
        self,
        job: JobConfig,
        public_ids: list[str],
        manifest: str,
        run: str | None = None,
        resume: bool = False,
        base_model: str | None = None,
    ):
        if resume and run is None:
            raise ValueError("resume: which run? give its name as run=")
        run = new_run() if run is None else check_run(run)
        fed_job = FedJob(name=job.name, min_clients=job.federation.min_sites)
        fed_job.job.set_app_packages(["fedrlvr"])
        settings = job.model_dump_json()
        fed_job.to_server(PubSwapController(settings, public_ids, manifest, run, resume))
        fed_job.to_clients(SiteExecutor(settings, manifest, run, resume, base_model), tasks=TASKS)
        super().__init__(fed_job)
        deadlines = Deadlines.of(job)
        self.add_server_config(deadlines.server_config())
        self.add_client_config(deadlines.client_config())
