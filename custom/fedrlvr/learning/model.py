"""A policy from a directory: the frozen base model, its tokenizer, and the LoRA factors on top."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fedrlvr.algorithms.lora import excluded
from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.data.tokenizer import brief, end_ids, load_tokenizer, prompt_ids
from fedrlvr.learning.lora_targets import check_targets
from fedrlvr.peft_folder import FACTORS, check_peft_folder
from fedrlvr.site_config import LocalModel
from fedrlvr.types import Prompt

PROMPTS_KEPT = 4096  # prompts whose tokens are cached
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Policy:
    """A model and its tokenizer. `eos_ids` are all tokens that end a completion, the usual one first."""

    model: PeftModel | PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    prompt: PromptSettings = field(default_factory=PromptSettings)

    @property
    def pad_id(self) -> int:
        """The token that fills rows. It is always masked, so a tokenizer without a pad token, or with one for which the
        model has no embedding, can use an end token."""
        pad = self.tokenizer.pad_token_id
        return self.eos_ids[0] if pad is None or pad >= self.embeddings else pad

    @property
    def embeddings(self) -> int:
        """How many tokens the model can read."""
        return self.model.get_input_embeddings().num_embeddings

    @property
    def max_length(self) -> int | None:
        """As `positions_of`."""
        return positions_of(self.model.config)

    def meaningless(self, first: int, count: int) -> tuple[int, ...]:
        """So many ordinary tokens, others for another `first`: to try what computes with them."""
        size = min(self.model.config.get_text_config().vocab_size, len(self.tokenizer))
        words = [token for token in range(size) if token not in self.tokenizer.all_special_ids]
        return tuple(words[(first + 7 * i) * 31 % len(words)] for i in range(count))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, which may come from anywhere: no part of it is read as a control token."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    @cached_property
    def encode_prompt(self) -> Callable[[Prompt], tuple[int, ...]]:
        """A prompt's token ids. They are kept: every completion of a group needs them, in every pass over the batch."""
        return lru_cache(PROMPTS_KEPT)(partial(prompt_ids, self.tokenizer, settings=self.prompt))

    def decode(self, token_ids) -> str:
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)


def positions_of(config: PreTrainedConfig) -> int | None:
    """The number of positions of a model, for prompt and completion together; None if it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def load_policy(settings: LocalModel, lora: LoraSettings, prompt: PromptSettings, device: torch.device) -> Policy:
    """Load a local model directory and attach fresh LoRA factors, the only weights that train. Raises ValueError where
    there is no causal language model, no end token, or a target module that matches no layer."""
    model, tokenizer = load_base(settings, device)
    check_targets(model, lora, settings.model_path)
    if settings.gradient_checkpointing:
        # its name before transformers 5.20 was another
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    return _policy(with_factors(model, lora), tokenizer, prompt)


def with_factors(model: PreTrainedModel, lora: LoraSettings) -> PeftModel:
    """The model with fresh LoRA factors, of the number type that PEFT takes from the weights."""
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules if lora.target_modules == "all-linear" else list(lora.target_modules),
        exclude_modules=excluded(name for name, _ in model.named_modules()),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def load_trained(
    settings: LocalModel,
    adapter: Path | None,
    prompt: PromptSettings,
    device: torch.device,
    dtype: torch.dtype | Literal["auto"] | None = None,
) -> Policy:
    """A policy to measure: the model itself, or the model with the adapter of a PEFT directory. `dtype` is the number
    type of the weights: None, that of the settings; "auto", that of the model's files. Raises ValueError where there is
    no causal language model, no end token, or an adapter that does not fit it."""
    model, tokenizer = load_base(settings, device, dtype)
    if adapter is None:
        return _policy(model, tokenizer, prompt)
    check_peft_folder(adapter)
    try:
        adapted = PeftModel.from_pretrained(model, adapter, use_safetensors=True)
        _check_factors(adapted, adapter)
    except SafetensorError as error:
        raise ValueError(f"{adapter / FACTORS}: cannot be read: {brief(error)}") from None
    except Exception as error:  # PEFT and torch have their own exceptions
        raise ValueError(f"{adapter}: does not fit the model in {settings.model_path}: {brief(error)}") from None
    return _policy(adapted, tokenizer, prompt)


def load_base(
    settings: LocalModel, device: torch.device, dtype: torch.dtype | Literal["auto"] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights and tokenizer of a local directory: no network, no pickle, no code from the directory. `dtype` as for
    `load_trained`."""
    path = settings.model_path
    os.environ["HF_HUB_OFFLINE"] = "1"
    tokenizer = load_tokenizer(path)
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            path,
            **_in_4bit(settings, device),
            dtype=dtype or DTYPES[settings.dtype],
            attn_implementation=settings.attn_implementation,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, torch and safetensors have their own exceptions
        raise ValueError(f"{path}: cannot be loaded as a causal language model: {brief(error)}") from None
    missing = sorted(loaded["missing_keys"])
    if missing:  # transformers fills them with random numbers
        raise ValueError(f"{path}: {len(missing)} weights are missing, such as {missing[0]}; get the whole checkpoint")
    _check_vocabulary(model, tokenizer)
    return model if settings.load_in_4bit else model.to(device), tokenizer


def _in_4bit(settings: LocalModel, device: torch.device) -> dict:
    """What `from_pretrained` is told for weights in 4 bits; they stay where they are loaded. Raises ValueError."""
    if not settings.load_in_4bit:
        return {}
    if find_spec("bitsandbytes") is None:
        raise ValueError("load_in_4bit: needs bitsandbytes; pip install bitsandbytes, or leave it out")
    how = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": DTYPES[settings.dtype]}
    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **how), "device_map": {"": device}}


def _policy(model: PeftModel | PreTrainedModel, tokenizer, prompt: PromptSettings) -> Policy:
    model.eval()  # no dropout except LoRA's, so that the policy is the same in sampling and training
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured]) - {None}
    size = model.get_input_embeddings().num_embeddings
    eos_ids = tuple(token for token in end_ids(tokenizer, ids, prompt) if token < size)
    if not eos_ids:
        raise ValueError(f"{model.name_or_path}: neither model nor tokenizer names an end-of-sequence token")
    return Policy(model, tokenizer, eos_ids, prompt)


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError for a tokenizer with ordinary tokens for which the model has no embedding: any text may need
    them. An added token that does not occur, such as one for padding, does no harm."""
    size = model.get_input_embeddings().num_embeddings
    known = {token: i for token, i in tokenizer.get_vocab().items() if i not in tokenizer.added_tokens_decoder}
    beyond = [i for i in known.values() if i >= size]
    if beyond:
        raise ValueError(
            f"{model.name_or_path}: the tokenizer has {len(beyond)} tokens beyond the {size} embeddings of the model, "
            f"such as number {min(beyond)}; get the tokenizer that belongs to these weights"
        )


def _check_factors(model: PeftModel, adapter: Path) -> None:
    """Raises ValueError if the factors do not match the model's: PEFT ignores missing and surplus ones."""
    with safe_open(adapter / FACTORS, framework="pt") as file:
        found = set(file.keys())
    # Without embeddings: to see whether they changed, PEFT would look for the base model by its name.
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    for names, what in ((expected - found, "it lacks"), (found - expected, "the model has no place for its")):
        if names:
            raise ValueError(f"{what} {min(names)}")
