"""Which model is this? Short answers by which two directories are told apart, in no time however large they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from fedrlvr.settings_file import SettingsError

SAMPLE = 1 << 20  # bytes looked at in the middle of a weight file
PIECE = 1 << 12  # and in the middle of each of a base model's tensors
DIGITS = 16


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 over the JSON files and templates of a model or adapter directory and over a sample of each weight
    file."""
    digest = hashlib.sha256()
    for path in sorted(
        path for ending in ("json", "jinja", "model", "safetensors") for path in folder.glob(f"*.{ending}")
    ):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            if path.suffix == ".safetensors":
                file.seek(max(0, size // 2 - SAMPLE // 2))
            digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def model_fingerprint(folder: Path) -> str:
    """SHA-256, first 16 hex digits, over what decides a base model's behaviour: its configuration, its tokenizer, and
    of its weight files name, size, header and a piece of every tensor. What else lies in the folder does not count.

    Raises:
        SettingsError: a weight file that is no safetensors file.
    """
    digest = hashlib.sha256()
    for path in (folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors.index.json"))):
        if path.exists():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        for piece in _pieces(path):
            digest.update(piece)
    return digest.hexdigest()[:DIGITS]


def _pieces(path: Path) -> Iterator[bytes]:
    """The header of a safetensors file, then the middle of each tensor."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if length > path.stat().st_size:
                raise ValueError
            header = file.read(length)
            entries = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
            places = sorted((int(begin), int(end)) for begin, end in entries)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(f"{path}: not a safetensors file; fetch the model again") from None
        yield header
        for begin, end in places:
            file.seek(8 + length + max(begin, (begin + end - PIECE) // 2))
            yield file.read(min(PIECE, end - begin))
