"""A model directory's tokenizer, loaded with what can be wrong said plainly."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local directory: never the network, never its own code.

    Raises:
        ValueError: none, or none that transformers knows.
    """
    # Where the files are missing, transformers makes an empty tokenizer of the architecture's usual class.
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(f"{path}: holds no tokenizer; expected {TOKENIZER_FILES[0]} (save_pretrained writes it)")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each library that reads a damaged file has exceptions of its own
        raise ValueError(f"{path}: its tokenizer cannot be read: {brief(error)}") from None


def brief(error: Exception) -> str:
    """An error's words on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
