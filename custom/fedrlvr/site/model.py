"""A policy from a directory: the frozen base model, its tokenizer, and the LoRA factors on top."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from fedrlvr.config import LoraSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Policy:
    """A PEFT model and how its text becomes tokens. `eos_ids` are all tokens that end a completion."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text; nothing in it is read as a control token, wherever it came from."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=True).input_ids)

    def decode(self, token_ids) -> str:
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)


def load_policy(path: Path, lora: LoraSettings, dtype: str, device: torch.device) -> Policy:
    """Load safetensors weights from a local directory (never the network, never pickle) and attach LoRA.

    Raises:
        FileNotFoundError: no model directory at `path`.
        ValueError: no pad or end token, or `target_modules` that match nothing.
    """
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"model_path: no config.json in {path}; expected a Hugging Face model directory")
    os.environ["HF_HUB_OFFLINE"] = "1"
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=DTYPES[dtype], local_files_only=True, use_safetensors=True, trust_remote_code=False
    ).to(device)
    eos_ids = _end_tokens(model, tokenizer)
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{path}: the tokenizer has no pad token; set pad_token in tokenizer_config.json")
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=_targets(lora), task_type="CAUSAL_LM")
    peft_model = get_peft_model(model, config, autocast_adapter_dtype=False)
    peft_model.eval()  # no dropout anywhere: the policy that samples and the policy that trains are one
    return Policy(peft_model, tokenizer, eos_ids)


def _targets(lora: LoraSettings) -> str | list[str]:
    return "all-linear" if lora.target_modules == ("all-linear",) else list(lora.target_modules)


def _end_tokens(model, tokenizer) -> tuple[int, ...]:
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured]) | {tokenizer.eos_token_id}
    ids.discard(None)
    if not ids:
        raise ValueError(f"{model.name_or_path}: neither model nor tokenizer names an end-of-sequence token")
    return tuple(sorted(ids))
