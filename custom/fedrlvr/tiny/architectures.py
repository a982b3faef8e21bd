"""Small copies of large architectures: the same configuration class with few layers and small dimensions."""

from __future__ import annotations

from pathlib import Path

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from fedrlvr.data.tokenizer import brief


def small_config(
    architecture: str, tokenizer: PreTrainedTokenizerBase, vocabulary: int, **sizes: int
) -> PreTrainedConfig:
    """A new configuration of this architecture; `sizes` as in `shrunk`."""
    config = CONFIG_MAPPING[architecture]()
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    return shrunk(config, vocab_size=vocabulary, tie_word_embeddings=True, **ids, **sizes)


def shrunk_config(path: Path, **sizes: int) -> PreTrainedConfig:
    """The configuration of a model directory, made small except for its vocabulary. Raises ValueError if transformers
    cannot read one there."""
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and its validators have their own exceptions
        raise ValueError(f"{path}: its config.json cannot be read: {brief(error)}") from None
    return shrunk(config, **sizes)


def shrunk(
    config: PreTrainedConfig,
    hidden_size: int,
    num_layers: int,
    intermediate_size: int,
    num_heads: int,
    head_dim: int,
    **changes,
) -> PreTrainedConfig:
    """The same kind of model with these sizes.

    Where heads share keys and values, two heads share here. An attention window becomes so short that it has an effect.
    """
    values = config.to_dict()
    shared = values.get("num_key_value_heads") not in (None, values["num_attention_heads"])
    values |= {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_layers,
        "intermediate_size": intermediate_size,
        "num_attention_heads": num_heads,
        "num_key_value_heads": max(num_heads // 2, 1) if shared else num_heads,
        "dtype": "float32",
    }
    if "head_dim" in values:
        values["head_dim"] = head_dim
    if values.get("query_pre_attn_scalar"):
        values["query_pre_attn_scalar"] = head_dim
    if values.get("sliding_window"):
        values["sliding_window"] = 32
    if values.get("layer_types"):
        kinds = dict.fromkeys(values["layer_types"])  # one layer of each kind before a second of any
        values["layer_types"] = [*kinds, *values["layer_types"]][:num_layers]
    for rope in ("rope_parameters", "rope_scaling"):
        if "rope_type" in (values.get(rope) or {}) and values[rope]["rope_type"] != "default":
            values[rope] = {"rope_type": "default", "rope_theta": values[rope].get("rope_theta", 10_000.0)}
    return type(config)(**(values | changes))
