"""The FLARE recipe: the same job for the simulator, a proof of concept and provisioned sites."""

from pathlib import Path

from nvflare.job_config.api import FedJob
from nvflare.recipe.run import Run
from nvflare.recipe.spec import ExecEnv, Recipe
from nvflare.recipe.utils import add_experiment_tracking

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.server.controller import PubSwapController
from fedrlvr.flare.site.executor import SiteExecutor
from fedrlvr.flare.trackers import settings_of
from fedrlvr.protocol.requests import REQUESTS
from fedrlvr.protocol.run_spec import RunSpec


class PubSwapRecipe(Recipe):
    """Federated RLVR with response swapping (PubSwap, arXiv 2604.12160).

    The package is expected to be installed at every participant, so the job carries no code ("not BYOC").
    """

    def __init__(self, spec: RunSpec, start_from: str | None = None):
        """`start_from` is the path of a PEFT directory at the server, with the run's first adapter: what other recipes
        call `initial_ckpt`. It does not travel with the job, which would bring code then, as FLARE sees it."""
        job, text = spec.job, spec.model_dump_json()
        fed_job = FedJob(name=job.name, min_clients=job.federation.min_sites)
        fed_job.job.set_app_packages(["fedrlvr"])
        fed_job.to_server(PubSwapController(text, start_from or ""))
        fed_job.to_clients(SiteExecutor(text), tasks=list(REQUESTS))
        super().__init__(fed_job)
        self._federation = job.federation
        deadlines = Deadlines.of(job)
        self.add_server_config(deadlines.server_config())
        self.add_client_config(deadlines.client_config())

    def run(self, env: ExecEnv, *params: dict | None, **named: dict | None) -> Run:
        """As FLARE's; `execute` calls it. Raises SettingsError, before anything starts, where the environment has fewer
        sites than `federation.min_sites`."""
        there = getattr(env, "num_clients", None)  # in production nobody knows beforehand
        if there is not None:
            self._federation.check_sites(there)
        return super().run(env, *params, **named)

    def track(self, tracker: str, folder: Path | None = None) -> None:
        """Have the server hand all numbers to one of `TRACKERS`, as `settings_of` says."""
        add_experiment_tracking(self, tracker, settings_of(tracker, self._job.name, folder))
