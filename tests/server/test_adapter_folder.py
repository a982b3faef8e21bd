"""The adapter that is taken home loads with PEFT alone, and is never half there."""

import subprocess
import sys
import textwrap

import torch
from peft import PeftModel
from safetensors.torch import save
from transformers import AutoModelForCausalLM

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.model import load_policy
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.site_config import LocalModel


def test_peft_loads_what_was_written_and_computes_the_same(model_path, tmp_path):
    lora = LoraSettings(r=4, alpha=12)
    policy = load_policy(LocalModel(model_path=model_path), lora, PromptSettings(), torch.device("cpu"))
    names = [n.replace(".default", "") for n, p in policy.model.named_parameters() if p.requires_grad]
    shapes = [list(p.shape) for p in policy.model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(0)
    adapter = {
        n: t + torch.randn(t.shape, generator=generator) * 0.1
        for n, t in initial_adapter(dict(zip(names, shapes, strict=True)), 0).items()
    }
    write_adapter(tmp_path / "adapter", adapter, lora, str(model_path))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_path), tmp_path / "adapter")
    ids = torch.tensor([policy.encode("A3725?p3,7")])
    base = policy.model(input_ids=ids).logits
    policy.model.load_state_dict({n.replace(".weight", ".default.weight"): t for n, t in adapter.items()}, strict=False)
    ours = policy.model(input_ids=ids).logits
    torch.testing.assert_close(loaded(input_ids=ids).logits, ours, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(base, ours)


def test_writing_replaces_what_was_there_and_leaves_nothing_beside(tmp_path):
    for value in (1.0, 2.0):
        write_adapter(tmp_path / "a", {"x.lora_A.weight": torch.full((2, 2), value)}, LoraSettings(), "base")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_full_disk_is_an_error_of_the_disk_and_leaves_the_adapter_before(tmp_path):
    """The server tells disks that are full from all else by the kind of error."""
    adapter = {"x.lora_A.weight": torch.ones(2, 2)}
    write_adapter(tmp_path / "a", adapter, LoraSettings(), "base")
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import torch
        from fedrlvr.config import LoraSettings
        from fedrlvr.server.adapter_folder import write_adapter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_adapter(Path(sys.argv[1]), {"x.lora_A.weight": torch.ones(64, 64)}, LoraSettings(), "base")
        except OSError as error:
            print(error.strerror)
    """)
    arguments = [sys.executable, "-c", script, str(tmp_path / "a")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "File too large", done.stderr
    assert (tmp_path / "a" / "adapter_model.safetensors").read_bytes() == save(adapter)
