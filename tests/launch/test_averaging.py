"""Whole runs in this process with every way to average: what is frozen stays, a resumed run ends in the same bytes, and
a site that moves what is frozen is out."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load
from tests.runs import of, round_adapters, run_here, spec_of

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import JobConfig
from fedrlvr.launch.local import LocalTask, LocalTransport
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.answers import Failure
from fedrlvr.run import RunFailed
from fedrlvr.settings_file import load_settings

SITES = {"site-1": ("A",), "site-2": ("B",), "site-3": ("C",)}
QUICK = {"federation__rounds": 3, "federation__segments_per_round": 1, "federation__min_sites": 3}
WAYS = {
    "ffa": {"federation__aggregator": "ffa"},
    "rolora": {"federation__aggregator": "rolora"},
    "median": {"federation__aggregator": "median"},
    "trimmed_mean": {"federation__aggregator": "trimmed_mean", "federation__trim_fraction": 0.34},
    "norm_bounded": {"federation__aggregator": "norm_bounded"},
    "momentum": {"federation__aggregator": "fedit", "federation__server_optimizer": "momentum"},
    "adam with ffa and FedProx": {
        "federation__aggregator": "ffa",
        "federation__server_optimizer": "adam",
        "federation__server_learning_rate": 0.01,
        "optimizer__proximal_mu": 0.1,
    },
}


@pytest.fixture
def sites(site_files):
    return site_files(SITES)[1]


class Submitting(LocalTransport):
    """`act` gets the round, the site and what a submit came to, and returns what the server gets instead."""

    def __init__(self, agents, act):
        super().__init__(agents)
        self._act = act

    def send(self, site, message, timeout, changed):
        task = super().send(site, message, timeout, changed)
        if message.request.task != "submit":
            return task
        reply = self._act(message.request.envelope.round, site, *task.reply())
        return LocalTask(lambda: reply)


def by(act):
    return {"new_transport": lambda agents: Submitting(agents, act)}


def gone_in_round(lost: int):
    return lambda number, site, *reply: (Failure.of("gone"), None) if (number, site) == (lost, "site-2") else reply


def adapters_of(job: JobConfig, run) -> list[dict]:
    """The first adapter, then that after each round."""
    averaged = [load(content) for content in round_adapters(run)]
    return [initial_adapter({name: list(t.shape) for name, t in averaged[0].items()}, job.seed), *averaged]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_freezes_what_it_should_and_goes_on_after_a_loss_to_the_same_bytes(small_job, sites, tmp_path, way):
    job = small_job(**QUICK, **WAYS[way])
    events, calm = run_here(tmp_path / "calm", spec_of(job, sites), sites)
    assert not of(events, "failure")
    assert [e["sites"] for e in of(events, "average")] == [list(SITES)] * 3
    adapters, aggregator = adapters_of(job, calm), AGGREGATORS[job.federation.aggregator]
    for number, (before, after) in enumerate(pairwise(adapters)):
        frozen = aggregator.frozen(before, number)
        assert all(torch.equal(before[name], after[name]) for name in frozen)
        assert any(not torch.equal(before[name], after[name]) for name in before if name not in frozen)
    spec = spec_of(job, sites)
    with pytest.raises(RunFailed, match="gone"):
        run_here(tmp_path / "run", spec, sites, **by(gone_in_round(2)))
    events, resumed = run_here(tmp_path / "run", spec.model_copy(update={"resume": True}), sites)
    assert [e["after"] for e in of(events, "resumed")] == [1]
    assert round_adapters(resumed)[-1] == round_adapters(calm)[-1]


def test_every_way_ends_elsewhere(small_job, sites, tmp_path):
    """None is another one by a different name. A trimmed mean of three is their median."""
    job, ended = {**QUICK, "federation__rounds": 2}, {}
    for way, changes in {"fedit": {"federation__aggregator": "fedit"}, "svd": {}, **WAYS}.items():
        run = run_here(tmp_path / way.split()[0], spec_of(small_job(**job, **changes), sites), sites)[1]
        ended[way] = round_adapters(run)[-1]
    assert ended.pop("trimmed_mean") == ended["median"]
    assert len(set(ended.values())) == len(ended) == 1 + len(WAYS)


def test_an_update_that_moves_what_is_frozen_is_refused_and_the_others_are_averaged(small_job, sites, tmp_path):
    job = small_job(federation__rounds=2, federation__segments_per_round=1, federation__aggregator="rolora")

    def act(number, site, answer, delta):
        if site == "site-2":
            mark = ".lora_A." if number == 0 else ".lora_B."
            name = next(name for name in delta if mark in name)
            delta = delta | {name: delta[name] + torch.eye(*delta[name].shape) * 1e-30}
        return answer, delta

    events, run = run_here(tmp_path / "run", spec_of(job, sites), sites, **by(act))
    failures = [(e["site"], e["task"], e["reason"]) for e in of(events, "failure")]
    assert [f[:2] for f in failures] == [("site-2", "submit")] * 2
    assert "lora_A.weight moved, but federation.aggregator freezes it in this round" in failures[0][2]
    assert "lora_B.weight moved, but federation.aggregator freezes it in this round" in failures[1][2]
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-3"]] * 2
    first, *_ = adapters_of(job, run)
    assert all(
        torch.equal(tensor, first[name]) for name, tensor in load(round_adapters(run)[0]).items() if "_A" in name
    )


def test_a_sites_own_noise_is_on_what_trains_alone(small_job, sites, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("adapters: {clip_norm: 0.1, noise_multiplier: 2.0}\n")
    sites["site-2"] = sites["site-2"].model_copy(update={"policy": policy})
    job, sent = small_job(**QUICK, federation__aggregator="ffa"), []

    def act(number, site, answer, delta):
        if site == "site-2":
            sent.append(delta)
        return answer, delta

    events, _ = run_here(tmp_path / "run", spec_of(job, sites), sites, **by(act))
    assert not of(events, "failure")
    assert len(sent) == 3
    for delta in sent:
        noise = torch.cat([t.flatten() for name, t in delta.items() if "lora_B" in name])
        assert float(noise.std()) == pytest.approx(0.2, rel=0.1)
        assert not any(bool(t.any()) for name, t in delta.items() if "lora_A" in name)
    adapters = [e for e in EgressLog(load_settings(SitePolicy, policy).log).entries() if e["kind"] == "adapter"]
    assert [e["decision"] for e in adapters] == ["released"] * 3


def test_a_site_of_fewer_ranks_takes_part_and_one_of_too_many_says_why_not(small_job, sites, tmp_path):
    sites["site-2"] = sites["site-2"].model_copy(update={"lora_rank": 2})
    sites["site-3"] = sites["site-3"].model_copy(update={"lora_rank": 9})
    job, sent = small_job(**QUICK | {"federation__min_sites": 2}), {site: [] for site in SITES}

    def act(number, site, answer, delta):
        sent[site].append(delta)
        return answer, delta

    events, _ = run_here(tmp_path / "run", spec_of(job, sites), sites, **by(act))
    said = "lora_rank: this site's file says 9, but the job's lora.r is 8; lower it"
    assert {(e["site"], said in e["reason"]) for e in of(events, "failure")} == {("site-3", True)}
    assert not any(sent["site-3"])
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]] * 3
    for site, ranks in (("site-1", 8), ("site-2", 2)):
        for number, delta in enumerate(sent[site]):
            for name, tensor in delta.items():
                moved = (tensor if "lora_A" in name else tensor.T).any(1)
                assert not bool(moved[ranks:].any())
                assert number == 0 or bool(moved[:ranks].any())
