"""How simulated sites share a machine's GPUs: seen by what each worker is told, for any number of GPUs."""

import json
import sys
from argparse import Namespace

import pytest
from tests.runs import spec_of

from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.gpus import deal, told, usable_gpus
from fedrlvr.launch.simulated import prepare_sites
from fedrlvr.protocol.answers import Failure
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site_config import Hardware, SiteConfig
from fedrlvr.worker.launcher import worker_environment
from fedrlvr.worker.setup import SetUp
from fedrlvr.worker.supervisor import Supervisor

SITES = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("processes", "gpus", "expected"),
    [
        (1, (), {}),
        (1, (0,), {"a": (0,), "b": (0,), "c": (0,), "d": (0,)}),
        (1, (0, 1), {"a": (0,), "b": (1,), "c": (0,), "d": (1,)}),
        (1, (3, 5, 6), {"a": (3,), "b": (5,), "c": (6,), "d": (3,)}),
        (1, tuple(range(8)), {"a": (0,), "b": (1,), "c": (2,), "d": (3,)}),
        (2, tuple(range(8)), {"a": (0, 1), "b": (2, 3), "c": (4, 5), "d": (6, 7)}),
        (2, (0, 1, 2), {"a": (0, 1), "b": (2, 0), "c": (1, 2), "d": (0, 1)}),
        (3, (0, 1), {"a": (0, 1), "b": (1, 0), "c": (0, 1), "d": (1, 0)}),
    ],
)
def test_sites_take_gpus_in_turn_one_for_each_rank(processes, gpus, expected):
    assert deal(SITES, processes, gpus) == expected


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_no_gpu_has_more_than_one_rank_more_than_another(processes, count):
    """Unless a site alone has more ranks than there are GPUs."""
    dealt = deal(SITES, processes, range(count))
    ranks = [own[rank % len(own)] for own in dealt.values() for rank in range(processes)]
    loads = [ranks.count(gpu) for gpu in range(count)]
    assert max(loads) - min(loads) <= (1 if processes <= count else len(SITES))


def test_what_is_shared_is_said():
    assert told(deal(["a", "b"], 1, (0, 1)), 1, (0, 1)) == "2 GPUs (a: 0; b: 1)"
    assert told(deal(["a", "b"], 2, (4,)), 2, (4,)) == "1 GPU, shared by 4 ranks (a: 4; b: 4)"


def test_only_gpus_that_are_there_can_be_named():
    assert usable_gpus(Hardware(), 2) == (0, 1)
    assert usable_gpus(Hardware(gpus=[1]), 2) == (1,)
    assert usable_gpus(Hardware(device="cpu"), 2) == ()
    with pytest.raises(SettingsError, match=r"site.gpus: there is no GPU 2; torch sees 2, numbered from 0"):
        usable_gpus(Hardware(gpus=[0, 2]), 2)
    with pytest.raises(SettingsError, match=r"site.gpus: there is no GPU 0; torch sees none"):
        usable_gpus(Hardware(gpus=[0]), 0)
    with pytest.raises(SettingsError, match=r"site.device: cuda, but torch sees no GPU here"):
        usable_gpus(Hardware(device="cuda"), 0)


@pytest.mark.parametrize(("gpus", "said"), [([], "at least 1"), ([-1], "greater than or equal"), ([1, 1], "twice")])
def test_a_list_that_cannot_be_meant_is_refused(gpus, said):
    with pytest.raises(ValueError, match=said):
        Hardware(gpus=gpus)


@pytest.fixture
def told_to(tmp_path, model_path, monkeypatch):
    """told_to(settings of the sites, GPUs here) -> CUDA_VISIBLE_DEVICES of each site's worker, and what was said."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    data = {"sites": dict.fromkeys(SITES, ("A",)), "private_per_site": 2, "heldout_per_site": 1}
    data |= {"public": 2, "test_per_label": 2}
    deepspeed = tmp_path / "zero0.json"
    deepspeed.write_text("{}")

    def tell(site: dict, gpus_here: int) -> tuple[dict, list[str]]:
        experiment = ExperimentConfig(
            name="x", task="protocol", model="tiny", data=data, site=site, deepspeed=deepspeed
        )
        args = Namespace(workspace=tmp_path, data=None, model=model_path, tiny=False)
        said: list[str] = []
        prepared = prepare_sites(experiment, args, said.append, gpus_here)
        workers = {}
        for name, config in prepared.sites.items():
            config.write(tmp_path / "written.yaml")  # as the simulator does, and the site's process reads it
            environment = worker_environment(load_settings(SiteConfig, tmp_path / "written.yaml"))
            workers[name] = environment.get("CUDA_VISIBLE_DEVICES")
        return workers, said

    return tell


def test_each_worker_sees_its_own_gpus(told_to):
    workers, said = told_to({}, 2)
    assert workers == {"a": "0", "b": "1", "c": "0", "d": "1"}
    assert said == ["2 GPUs, shared by 4 ranks (a: 0; b: 1; c: 0; d: 1)"]
    workers, said = told_to({"processes": 2, "gpus": [2, 3, 6, 7]}, 8)
    assert workers == {"a": "2,3", "b": "6,7", "c": "2,3", "d": "6,7"}
    assert said == ["4 GPUs, shared by 8 ranks (a: 2, 3; b: 6, 7; c: 2, 3; d: 6, 7)"]


def test_without_gpus_and_on_the_cpu_workers_are_told_as_much(told_to):
    assert told_to({}, 0) == (dict.fromkeys(SITES), [])
    assert told_to({"device": "cpu"}, 4) == (dict.fromkeys(SITES, ""), [])


def test_a_worker_that_is_started_has_what_it_was_told(site_files, job, tmp_path):
    """It is a script that writes down its environment and ends."""
    script, seen = tmp_path / "worker.py", tmp_path / "seen.json"
    script.write_text("import json, os, sys\njson.dump(dict(os.environ), open(sys.argv[1], 'w'))\n")
    launch = f"{sys.executable} {script} {seen} {{worker}}"
    _, configs = site_files({"site-1": ("A",)}, worker={"launch": launch}, gpus=(1, 3))
    setup = SetUp(spec=spec_of(job, configs), site="site-1", site_config=configs["site-1"], base_model="0" * 16)
    assert isinstance(Supervisor(setup).start(), Failure)
    assert json.loads(seen.read_text())["CUDA_VISIBLE_DEVICES"] == "1,3"
