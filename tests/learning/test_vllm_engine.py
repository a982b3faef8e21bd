"""The engine of a rollout server, beside a stand-in that samples by this package's own sampler."""

import logging
import resource
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from tests.forks import in_a_child
from tests.learning import policies
from tests.learning.policies import load, move
from tests.learning.stand_in_server import StandInServer
from tests.runs import spec_of

from fedrlvr.learning.agreement import compare
from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.vllm_adapters import ServedAdapters
from fedrlvr.learning.vllm_client import RolloutServerError
from fedrlvr.learning.vllm_engine import VllmEngine
from fedrlvr.site_config import LocalModel

prompts = partial(policies.prompts, count=2)
UNIFORMS = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def policy(model_path):
    torch.manual_seed(0)
    return load(model_path)


@pytest.fixture
def server(model_path):
    server = StandInServer(load(model_path))
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


@pytest.fixture
def config(server, folder, tmp_path):
    vllm = {"url": server.url, "adapter_folder": folder, "request_timeout": 60.0}
    return SimpleNamespace(
        **vars(LocalModel(model_path="m", rollout={"engine": "vllm", "vllm": vllm})), state_dir=tmp_path
    )


@pytest.fixture
def engine(policy, config):
    engine = VllmEngine(policy, config, Ranks())
    yield engine
    engine.close()


def test_samples_are_of_the_policy_as_it_is_now(engine, policy, server, folder):
    """Under a name that no earlier adapter had, from a folder that did not change."""
    names = []
    for _ in range(2):
        move(policy)
        engine.adapter_changed()
        groups = engine.sample(prompts(policy), 0.7, UNIFORMS)
        assert [len(group) for group in groups] == [3, 3]
        assert compare(policy, prompts(policy), groups, 0.7).largest < 1e-4
        (name,) = server.folders
        assert [path.name for path in folder.iterdir()] == [name]
        own, sent = get_peft_model_state_dict(policy.model), load_file(folder / name / "adapter_model.safetensors")
        assert all(torch.equal(tensor, own[key]) for key, tensor in sent.items())
        names.append(name)
    assert len(set(names)) == 2
    used = [path for path, _, _ in server.asked if path != "/v1/models"][-4:]
    assert used == ["/v1/unload_lora_adapter", "/v1/load_lora_adapter", "/v1/completions", "/v1/completions"]


def test_an_adapter_that_has_not_changed_is_loaded_once(engine, policy, server):
    before = len(server.bodies("/v1/load_lora_adapter"))
    for _ in range(3):
        engine.sample(prompts(policy), 1.0, UNIFORMS)
    assert len(server.bodies("/v1/load_lora_adapter")) == before + 1


def test_the_base_model_is_sampled_without_the_adapter_and_nobody_says_so(engine, policy, server):
    move(policy)
    engine.adapter_changed()
    with policy.model.disable_adapter():
        groups = engine.sample(prompts(policy), 1.0, UNIFORMS)
        assert compare(policy, prompts(policy), groups, 1.0).largest < 1e-4
    assert {body["model"] for body in server.bodies("/v1/completions")[-2:]} == {"base"}
    groups = engine.sample(prompts(policy), 1.0, UNIFORMS)
    assert compare(policy, prompts(policy), groups, 1.0).largest < 1e-4
    assert "base" not in {body["model"] for body in server.bodies("/v1/completions")[-2:]}


def test_seeds_follow_from_the_random_numbers(engine, policy, server):
    def seeds(uniforms):
        engine.sample(prompts(policy), 1.0, uniforms)
        return {tuple(body["prompt"]): body["seed"] for body in server.bodies("/v1/completions")[-2:]}

    first = seeds(UNIFORMS)
    assert seeds(UNIFORMS) == first
    assert len({*first.values(), *seeds(UNIFORMS.flip(0)).values()}) == 4
    assert all(0 <= seed < 2**63 for seed in first.values())


def test_the_start_leaves_the_adapter_as_it_was_and_nothing_at_the_server(policy, config, server, folder):
    move(policy)
    before = {name: t.clone() for name, t in get_peft_model_state_dict(policy.model).items()}
    engine = VllmEngine(policy, config, Ranks())
    after = get_peft_model_state_dict(policy.model)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert (engine.exact_logprobs, engine.repeats) == (True, False)
    engine.close()
    assert not server.folders
    assert not list(folder.iterdir())


def test_what_an_earlier_worker_left_is_removed(policy, config, server, folder):
    for name in ("fedrlvr-known", "fedrlvr-unknown"):
        (folder / name).mkdir()
    (folder / "somebody-elses").mkdir()
    server.folders["fedrlvr-known"] = folder / "fedrlvr-known"
    VllmEngine(policy, config, Ranks()).close()
    assert not server.folders
    assert [path.name for path in folder.iterdir()] == ["somebody-elses"]


def other_model(server, model_path):
    torch.nn.init.normal_(server.policy.model.get_base_model().model.embed_tokens.weight, std=0.1)


def without_adapter(server, model_path):
    choices = server._choices
    server._choices = lambda body: choices(body | {"model": "base"})


def scaled_otherwise(server, model_path):
    server.policy = load(model_path, alpha=32.0)


def raw_logprobs(server, model_path):
    """Those of temperature 1, of samples drawn at the temperature."""
    choices = server._choices

    def raw(body):
        found = choices(body)
        for choice in found:
            values = logprobs_at_one(server.policy, body["prompt"], choice["token_ids"])
            choice["logprobs"] = {"token_logprobs": values}
        return found

    server._choices = raw


@torch.no_grad()
def logprobs_at_one(policy, prompt: list[int], ids: list[int]) -> list[float]:
    logits = policy.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids).unsqueeze(-1)).squeeze(-1).clamp(max=0).tolist()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (other_model, "base model"),
        (raw_logprobs, "base model"),
        (without_adapter, "with an adapter"),
        (scaled_otherwise, "with an adapter"),
    ],
)
def test_a_server_that_computes_something_else_is_refused(policy, config, server, folder, model_path, change, where):
    change(server, model_path)
    with pytest.raises(ValueError, match=rf"rollout.engine vllm, {where}: log-probabilities differ by .* on average"):
        VllmEngine(policy, config, Ranks())
    assert not server.folders
    assert not list(folder.iterdir())


def test_small_differences_are_accepted_but_the_step_scores_afresh(policy, config, server):
    choices = server._choices

    def rounded(body):
        found = choices(body)
        for choice in found:
            values = choice["logprobs"]["token_logprobs"]
            values[0] -= 0.005  # of about twelve tokens
        return found

    server._choices = rounded
    engine = VllmEngine(policy, config, Ranks())
    assert not engine.exact_logprobs
    engine.close()


def test_after_a_failure_the_adapter_is_loaded_again(engine, policy, server):
    """The server may have been started again, and then knows no adapter."""
    engine.sample(prompts(policy), 1.0, UNIFORMS)
    server.folders.clear()
    with pytest.raises(RolloutServerError, match="answered 404"):
        engine.sample(prompts(policy), 1.0, UNIFORMS)
    assert len(engine.sample(prompts(policy), 1.0, UNIFORMS)) == 2


def test_a_server_that_dies_in_the_middle_fails_the_call(engine, policy, server):
    answered = []

    def dies(path, body, good):
        answered.append(path)
        return good if len(answered) < 3 else None

    server.spoil = dies
    with pytest.raises(RolloutServerError, match="disconnected"):
        engine.sample(prompts(policy) * 4, 1.0, UNIFORMS.repeat(4, 1))
    server.spoil = lambda path, body, good: good
    assert len(engine.sample(prompts(policy), 1.0, UNIFORMS)) == 2


def test_a_server_that_is_away_at_the_end_is_only_a_warning(policy, config, server, caplog):
    engine = VllmEngine(policy, config, Ranks())
    engine.sample(prompts(policy), 1.0, UNIFORMS)
    server.spoil = lambda path, body, good: None
    with caplog.at_level(logging.WARNING):
        engine.close()
    assert "the adapter stays at the server" in caplog.text


class Rank(Ranks):
    """One of two, whose rank 0 has said `told`, one word after the other."""

    def __init__(self, rank, told):
        super().__init__(rank, 2)
        self.told = told

    def broadcast(self, item):
        if self.rank == 0:
            self.told.append(item)
            return item
        return self.told.pop(0)


def test_the_first_rank_gives_the_adapter_and_each_rank_sends_its_own_prompts(policy, config, server, model_path):
    told = []
    first = VllmEngine(policy, config, Rank(0, told))
    torch.manual_seed(0)
    other = load(model_path)
    second = VllmEngine(other, config, Rank(1, told))
    assert told == []
    assert second.exact_logprobs
    for model in (policy, other):
        torch.manual_seed(1)
        move(model)
    before = len(server.asked)
    first.adapter_changed(), second.adapter_changed()
    assert first.sample([], 1.0, UNIFORMS[:0]) == []  # it has no share, and still gives the adapter
    groups = second.sample(prompts(other), 1.0, UNIFORMS)
    assert compare(other, prompts(other), groups, 1.0).largest < 1e-4
    paths = [path for path, _, _ in server.asked[before:]]
    assert paths == ["/v1/unload_lora_adapter", "/v1/load_lora_adapter", "/v1/completions", "/v1/completions"]
    second.close()
    assert server.folders
    first.close()
    assert not server.folders


def test_a_site_trains_and_measures_with_it(server, site_files, job, folder):
    """The trainer as the site's file asks for it: a step, the base model, an adapter from elsewhere."""
    rollout = {"engine": "vllm", "vllm": {"url": server.url, "adapter_folder": folder}}
    _, configs = site_files({"site-1": ("A",)})
    config = configs["site-1"].model_validate(configs["site-1"].model_dump() | {"rollout": rollout})
    trainer = build_trainer(spec_of(job, configs), "site-1", config, Ranks())
    engine, generator = trainer.engine, trainer.rollouts.generator
    assert engine.adapter_changed == generator.adapter_changed
    move(engine.policy)
    engine.adapter_changed()
    elsewhere = {name: tensor + 0.01 for name, tensor in engine.adapter().items()}
    chosen = trainer.problems.private[:2]
    with engine.borrowed(elsewhere):
        trainer.rollouts.groups(chosen, 2, seed=0)
        (name,) = server.folders
        sent = load_file(folder / name / "adapter_model.safetensors")
        assert all(torch.equal(sent[key], tensor) for key, tensor in elsewhere.items())
    own, entropy = trainer.rollouts.groups(chosen, 2, seed=0)
    assert list(server.folders) != [name]
    assert [len(group.completions) for group in own] == [2, 2]
    assert entropy == pytest.approx(
        -sum(sum(c.logprobs) / len(c.logprobs) for g in own for c in g.completions) / 4, abs=1e-6
    )
    generator.close()


def test_an_adapter_that_the_disk_does_not_take_is_told_and_nothing_of_it_is_loaded(policy, folder):
    """A limit on the size of files does here what a full disk does. PEFT's README fits, the factors do not."""
    asked = []
    client = type("Client", (), {"__getattr__": lambda self, name: lambda *what: asked.append(name)})()

    def act() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        adapters = ServedAdapters(policy, client, folder)
        with pytest.raises(OSError, match=r"cannot be written to .*File too large"):
            adapters.current()
        assert asked == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert adapters.current().startswith("fedrlvr-")
        assert len(list(folder.iterdir())) == 1
        assert asked == ["unload_adapter", "load_adapter"]

    assert in_a_child(act) == 0
