"""Folders as released models have them."""

from pathlib import Path

from transformers import CONFIG_MAPPING, PreTrainedTokenizerBase

# Of released models, where the configuration class has no layers of some kind by default.
RELEASED = {
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "granitemoehybrid": {"layer_types": ["mamba"] * 31 + ["attention"]},
    "lfm2_moe": {"layer_types": ["conv"] * 20 + ["full_attention"] * 12},
    "gemma4": {"vision_config": {}},
}


def write_config(folder: Path, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Configuration and tokenizer of a model of this architecture, without weights."""
    config = CONFIG_MAPPING[name](**RELEASED.get(name, {}))
    text = config.get_text_config()
    text.vocab_size, text.pad_token_id, text.bos_token_id = len(tokenizer), tokenizer.pad_token_id, None
    text.eos_token_id = tokenizer.eos_token_id
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
