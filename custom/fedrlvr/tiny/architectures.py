"""Small copies of large architectures: the same configuration class with few layers and small dimensions."""

from pathlib import Path

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from fedrlvr.data.tokenizer import brief
from fedrlvr.tiny.base_model import BaseModelSettings


def small_config(settings: BaseModelSettings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """A new configuration of the settings' architecture and sizes."""
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    ids |= {"vocab_size": len(tokenizer), "tie_word_embeddings": True}
    config = CONFIG_MAPPING[settings.architecture]()
    return _shrunk(config, settings, max_position_embeddings=settings.max_position_embeddings, **ids)


def shrunk_config(path: Path, settings: BaseModelSettings) -> PreTrainedConfig:
    """The configuration of a model directory in the settings' sizes, with its own vocabulary. Raises ValueError if
    transformers cannot read one there."""
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and its validators have their own exceptions
        raise ValueError(f"{path}: its config.json cannot be read: {brief(error)}") from None
    return _shrunk(config, settings)


def _shrunk(config: PreTrainedConfig, settings: BaseModelSettings, **changes) -> PreTrainedConfig:
    """Where heads share keys and values, two heads share here. An attention window becomes so short that it has an
    effect."""
    values = config.to_dict()
    shared = values.get("num_key_value_heads") not in (None, values["num_attention_heads"])
    values |= {
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.num_layers,
        "intermediate_size": settings.intermediate_size,
        "num_attention_heads": settings.num_heads,
        "num_key_value_heads": max(settings.num_heads // 2, 1) if shared else settings.num_heads,
        "dtype": "float32",
    }
    if "head_dim" in values:
        values["head_dim"] = settings.head_dim
    if values.get("query_pre_attn_scalar"):
        values["query_pre_attn_scalar"] = settings.head_dim
    if values.get("sliding_window"):
        values["sliding_window"] = 32
    if values.get("layer_types"):
        kinds = dict.fromkeys(values["layer_types"])  # one layer of each kind before a second of any
        values["layer_types"] = [*kinds, *values["layer_types"]][: settings.num_layers]
    for rope in ("rope_parameters", "rope_scaling"):
        if "rope_type" in (values.get(rope) or {}) and values[rope]["rope_type"] != "default":
            values[rope] = {"rope_type": "default", "rope_theta": values[rope].get("rope_theta", 10_000.0)}
    return type(config)(**(values | changes))
