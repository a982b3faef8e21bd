"""Fingerprints that tell model directories apart, in a short time however large the models are."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedrlvr.json_text import from_json
from fedrlvr.peft_folder import read_origin
from fedrlvr.printable import one_line
from fedrlvr.settings_file import SettingsError

PIECE = 1 << 12  # bytes read from the middle of each tensor
DIGITS = 16


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 over the JSON files, templates and tokenizer models of a model or adapter directory, and over a piece of
    each of its tensors. Raises SettingsError for a weight file that is not a safetensors file."""
    endings = ("json", "jinja", "model", "safetensors")
    return _digest(sorted(path for ending in endings for path in folder.glob(f"*.{ending}")))


def model_fingerprint(folder: Path) -> str:
    """The same, first 16 hex digits, over what decides a base model's behaviour: its configuration, its tokenizer and
    its weight files. Other files in the folder do not count."""
    named = (folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors.index.json")))
    return _digest([*(path for path in named if path.exists()), *sorted(folder.glob("*.safetensors"))])[:DIGITS]


def other_base(adapter: Path, model: Path) -> str:
    """What to say where an adapter's folder names another base model than this directory holds; "" where it names this
    one, or none. Raises SettingsError."""
    origin = read_origin(adapter)
    if origin is None or origin.fingerprint in (None, found := model_fingerprint(model)):
        return ""
    trained_on = f"{one_line(origin.base_model)} with fingerprint {origin.fingerprint}"
    return f"{adapter} was trained on {trained_on}, but {model} has {found}"


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        for part in _pieces(path) if path.suffix == ".safetensors" else [path.read_bytes()]:
            digest.update(part)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    """The header of a safetensors file, then the middle of each tensor."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if length > path.stat().st_size:
                raise ValueError
            header = file.read(length)
            entries = [entry["data_offsets"] for name, entry in from_json(header).items() if name != "__metadata__"]
            places = sorted((int(begin), int(end)) for begin, end in entries)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(f"{path}: not a safetensors file; fetch the model again") from None
        yield header
        for begin, end in places:
            file.seek(8 + length + max(begin, (begin + end - PIECE) // 2))
            yield file.read(min(PIECE, end - begin))
