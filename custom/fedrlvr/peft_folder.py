"""A PEFT directory from anywhere: the files that it must have, and the base model that it says it was trained on."""

from pathlib import Path

from pydantic import Field

from fedrlvr.config import Settings
from fedrlvr.json_text import from_json
from fedrlvr.settings_file import SettingsError, validate_settings

CONFIG, FACTORS = "adapter_config.json", "adapter_model.safetensors"
ORIGIN, CARD = "fedrlvr.json", "README.md"


class Origin(Settings):
    """What stands beside an adapter of ours in `fedrlvr.json`, as PEFT's own file has no place for it."""

    base_model: str  # its name in the job
    fingerprint: str | None = Field(None, max_length=64)  # of its directory, as `model_fingerprint`


def check_peft_folder(folder: Path) -> dict:
    """Its `adapter_config.json`. Raises SettingsError where this is no LoRA adapter with safetensors."""
    for name in (FACTORS, CONFIG):
        if not (folder / name).is_file():
            raise SettingsError(f"{folder}: no {name}; expected a PEFT adapter directory, such as a run's adapter/")
    try:
        config = from_json((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder / CONFIG}: cannot be read: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise SettingsError(f"{folder / CONFIG}: peft_type is {kind!r}, expected 'LORA'")
    return config


def read_origin(folder: Path) -> Origin | None:
    """None for an adapter that was not made here. Raises SettingsError."""
    path = folder / ORIGIN
    if not path.is_file():
        return None
    try:
        values = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    return validate_settings(Origin, values, str(path))
