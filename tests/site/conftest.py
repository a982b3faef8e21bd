"""Sites whose worker is scripted."""

import pytest
from tests.runs import some_spec
from tests.scripted_site import ScriptedWorker

from fedrlvr.site.agent import SiteAgent


@pytest.fixture
def site(site_files, small_job):
    """site(**of the spec) -> an agent whose site has real files; `.worker` is its worker once it has one."""
    _, configs = site_files({"site-1": ("A",)})
    local = configs["site-1"].state_dir.parent
    configs["site-1"].write(local / "fedrlvr.yaml")

    def make(check_way_out=lambda: None, **values) -> SiteAgent:
        spec = some_spec(**{"job": small_job()} | values)

        def new_worker(setup):
            agent.worker = ScriptedWorker(setup)
            return agent.worker

        agent = SiteAgent(spec, "site-1", "job-1", local, new_worker, check_way_out)
        agent.worker = None
        return agent

    make.local, make.config = local, configs["site-1"]
    return make
