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
    transformers cannot read one there, or does not take it in these sizes."""
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and its validators have their own exceptions
        raise ValueError(f"{path}: its config.json cannot be read: {brief(error)}") from None
    try:
        return _shrunk(config, settings)
    except Exception as error:  # whatever an architecture says of sizes that do not go together
        raise ValueError(no_small_copy(path, error)) from None


def no_small_copy(path: Path, error: Exception) -> str:
    return f"{path}: no small copy of its architecture can be made ({brief(error)}); leave out --model in a dry run"


def _shrunk(config: PreTrainedConfig, settings: BaseModelSettings, **changes) -> PreTrainedConfig:
    """Where heads share keys and values, two heads share here. An attention window becomes so short that it has an
    effect. What reads pictures or sound has one narrow layer."""
    values = config.to_dict()
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            is_text = part is config.get_text_config()
            values[name] = _shrunk(part, settings).to_dict() if is_text else _known(part.to_dict(), TOWER)
    if config.get_text_config() is not config:
        return type(config)(**(values | changes))
    shared = values.get("num_key_value_heads") not in (None, values.get("num_attention_heads"))
    sizes = {
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.num_layers,
        "intermediate_size": settings.intermediate_size,
        "num_attention_heads": settings.num_heads,
        "num_key_value_heads": max(settings.num_heads // 2, 1) if shared else settings.num_heads,
        "dtype": "float32",
    }
    values |= {config.attribute_map.get(name, name): size for name, size in sizes.items()}
    values = _known(values, _sizes(values, settings))
    for layers in ("layer_types", "layers_block_type"):
        if values.get(layers):
            values[layers] = _layers(values[layers], settings.num_layers)
            values["num_hidden_layers"] = len(values[layers])
    for name in DERIVED & values.keys():
        del values[name]
    for rope in ("rope_parameters", "rope_scaling"):
        if values.get(rope):
            values[rope] = _plain_rope(values[rope])
    return type(config)(**(values | changes))


def _layers(kinds: list[str], count: int) -> list[str]:
    """At least one layer of each kind, one after the other; two where they may share weights, which takes two."""
    kinds = list(dict.fromkeys(kinds))
    count = max(count, len(kinds) * (2 if "hybrid" in kinds else 1))
    return [kinds[i % len(kinds)] for i in range(count)]


def _known(values: dict, sizes: dict) -> dict:
    """`values` with those of `sizes` that are among them and not null."""
    return values | {name: size for name, size in sizes.items() if values.get(name)}


def _sizes(values: dict, settings: BaseModelSettings) -> dict:
    """Of all that only some architectures have, by the names that they use."""
    hidden = settings.hidden_size
    inner = hidden * (values.get("mamba_expand") or values.get("expand") or 1)
    experts = ("num_experts", "num_local_experts", "n_routed_experts")
    widths = ("moe_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")
    return {
        **dict.fromkeys(("head_dim", "global_head_dim", "query_pre_attn_scalar"), settings.head_dim),
        "sliding_window": 32,
        # mixtures of experts
        **dict.fromkeys(experts, 4),
        **{name: min(values.get(name) or 1, 2) for name in ("num_experts_per_tok", "num_dense_layers")},
        **dict.fromkeys((*widths, "shared_intermediate_size"), settings.intermediate_size),
        "router_hidden_size": hidden,
        **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
        # attention by way of a few dimensions
        **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
        **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), settings.head_dim),
        # linear attention
        **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
        **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), settings.head_dim),
        # state spaces: so many heads of so much that together they are as wide as the layer
        **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 2),
        **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), inner // 2),
        **dict.fromkeys(("mamba_d_state", "ssm_state_size", "mamba_chunk_size", "chunk_size"), 16),
        **dict.fromkeys(("mamba_n_groups", "mamba_ngroups", "n_groups"), 1),
        "mamba_d_ssm": inner,
        "mamba_dt_rank": max(hidden // 16, 1),
        # attention over two widths, and a small model's number of layers between two of attention
        "attention_hidden_size": 2 * hidden,
        "attention_head_dim": 2 * hidden // settings.num_heads,
        "adapter_rank": 8,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "attn_layer_indices": [1],
        "hidden_size_per_layer_input": 8,
    }


def _plain_rope(rope: dict) -> dict:
    """Without scaling for more positions than there were in training; by kinds of layers as it was."""
    if "rope_type" not in rope:
        return {kind: _plain_rope(part) if isinstance(part, dict) else part for kind, part in rope.items()}
    if rope["rope_type"] in ("default", "proportional"):
        return rope
    return {"rope_type": "default", "rope_theta": rope.get("rope_theta", 10_000.0)}


# Of a part that reads pictures or sound.
TOWER = {
    **dict.fromkeys(("hidden_size", "intermediate_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "depth"), 1),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), 2),
    "head_dim": 16,
}
# What a configuration works out from others.
DERIVED = {"full_attn_idxs", "hybrid_layer_ids", "per_layer_config", "kv_channels", "num_query_groups"}
