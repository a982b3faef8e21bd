"""The adapter that is taken home loads with PEFT alone, and is never half there."""

import json
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from fedrlvr.algorithms.lora import adapted_layers
from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.model import load_policy
from fedrlvr.peft_folder import FACTORS, Origin, read_origin
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.site_config import LocalModel

ORIGIN = Origin(base_model="Org/Some-Model", fingerprint="0123456789abcdef")


def trained(model_path, lora: LoraSettings):
    """A policy with factors that have an effect, and the factors by the names that travel."""
    policy = load_policy(LocalModel(model_path=model_path), lora, PromptSettings(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    adapter = {}
    for name, parameter in policy.model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
            adapter[name.replace(".default", "")] = parameter.detach()
    return policy, dict(sorted(adapter.items()))


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), "all-linear"])
def test_peft_loads_what_was_written_on_a_base_from_its_directory_and_computes_the_same(model_path, tmp_path, targets):
    lora = LoraSettings(r=4, alpha=12, target_modules=targets)
    policy, adapter = trained(model_path, lora)
    write_adapter(tmp_path / "adapter", adapter, lora, ORIGIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns of unknown settings, and of factors that it does not find
        warnings.simplefilter("ignore", FutureWarning)  # what libraries tell each other's programmers
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_path), tmp_path / "adapter")
    ids = torch.tensor([policy.encode("A3725?p3,7")])
    ours = policy.model(input_ids=ids).logits
    torch.testing.assert_close(loaded(input_ids=ids).logits, ours, atol=1e-5, rtol=1e-5)
    with policy.model.disable_adapter():
        assert not torch.allclose(policy.model(input_ids=ids).logits, ours)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), "all-linear"])
def test_the_configuration_is_what_peft_itself_would_leave(model_path, tmp_path, targets):
    lora = LoraSettings(r=4, alpha=12, target_modules=targets)
    policy, adapter = trained(model_path, lora)
    write_adapter(tmp_path / "ours", adapter, lora, ORIGIN)
    policy.model.save_pretrained(tmp_path / "peft")
    ours, theirs = (json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "peft"))
    layers = [{name.split(".lora_")[0] for name in load_file(tmp_path / n / FACTORS)} for n in ("ours", "peft")]
    assert layers[0] == layers[1]
    assert ours.pop("base_model_name_or_path") == "Org/Some-Model"
    ours_at, theirs_at = set(ours.pop("target_modules")), set(theirs.pop("target_modules"))
    assert {name.rpartition(".")[2] for name in theirs_at} == ours_at  # PEFT may write whole names
    assert ours == {name: theirs[name] for name in ours}
    assert type(ours["lora_alpha"]) is int  # as PEFT and vLLM declare it


def test_vllm_finds_what_it_reads_and_nothing_that_it_refuses(model_path, tmp_path):
    """It reads r, lora_alpha, target_modules, bias, modules_to_save, use_dora and use_rslora."""
    lora = LoraSettings(r=4, alpha=12, target_modules="all-linear")
    write_adapter(tmp_path / "adapter", trained(model_path, lora)[1], lora, ORIGIN)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 12)
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert (config["bias"], config["modules_to_save"]) == ("none", None)
    assert (config["use_dora"], config["use_rslora"], config["rank_pattern"]) == (False, False, {})


def test_layers_whose_names_end_in_a_number_are_named_in_full():
    """A number alone would mean every block of layers, too."""
    names = ["base_model.model.h.0.mlp.0.lora_A.weight", "base_model.model.h.0.mlp.0.lora_B.weight"]
    assert adapted_layers(names) == ["h.0.mlp.0"]


def test_experts_of_a_mixture_are_left_to_peft_to_find():
    layer = "base_model.model.model.layers.0.mlp.experts"
    assert adapted_layers([f"{layer}.base_layer.lora_A.weight", f"{layer}.lora_A.weight"]) == "all-linear"


def test_beside_the_adapter_stands_which_base_model_it_is_of(tmp_path):
    write_adapter(tmp_path / "a", {"x.lora_A.weight": torch.ones(2, 2)}, LoraSettings(), ORIGIN)
    assert read_origin(tmp_path / "a") == ORIGIN


def test_writing_replaces_what_was_there_and_leaves_nothing_beside(tmp_path):
    for value in (1.0, 2.0):
        write_adapter(tmp_path / "a", {"x.lora_A.weight": torch.full((2, 2), value)}, LoraSettings(), ORIGIN)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "fedrlvr.json",
    ]


def test_a_full_disk_is_an_error_of_the_disk_and_leaves_the_adapter_before(tmp_path):
    """The server tells disks that are full from all else by the kind of error."""
    adapter = {"x.lora_A.weight": torch.ones(2, 2)}
    write_adapter(tmp_path / "a", adapter, LoraSettings(), ORIGIN)
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import torch
        from fedrlvr.config import LoraSettings
        from fedrlvr.peft_folder import Origin
        from fedrlvr.server.adapter_folder import write_adapter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            origin = Origin(base_model="base")
            write_adapter(Path(sys.argv[1]), {"x.lora_A.weight": torch.ones(64, 64)}, LoraSettings(), origin)
        except OSError as error:
            print(error.strerror)
    """)
    arguments = [sys.executable, "-c", script, str(tmp_path / "a")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "File too large", done.stderr
    assert (tmp_path / "a" / "adapter_model.safetensors").read_bytes() == save(adapter)
