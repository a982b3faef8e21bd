"""What all settings have in common: they are strict and frozen, and paths are taken from the folder of their file."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _from_the_files_folder(cls, value: object, info: ValidationInfo) -> object:
        folder = (info.context or {}).get("folder")  # given where a file is read
        if folder is None:
            return value
        if isinstance(value, tuple):
            return tuple(folder / part if isinstance(part, Path) else part for part in value)
        return folder / value if isinstance(value, Path) else value

    def write(self, path: Path) -> None:
        """Write a file that `load_settings` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False))
