"""A measurement's results on disk, problem by problem, so that an interrupted one can go on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from fedrlvr.settings_file import SettingsError
from fedrlvr.site.tally import Tally


class TallyFile:
    """Results by problem id, appended to a file whose first line says what was measured."""

    def __init__(self, path: Path, settings: dict):
        """Raises SettingsError where the file holds another measurement's results, or something else."""
        self.path, self.settings = path, settings
        self.done: dict[str, Tally] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        # What comes after the last line end was cut off in the middle; its problem is measured again.
        self._whole = "".join(line + "\n" for line in lines[:-1])
        if self._whole:
            try:
                found, *rest = map(json.loads, lines[:-1])
                differing = [name for name, value in settings.items() if found.get(name) != value]
                self.done = {tally.id: tally for tally in (Tally(**values) for values in rest)}
            except (ValueError, TypeError, AttributeError):
                raise SettingsError(f"{path}: not a measurement's results; choose another folder") from None
            if differing:
                raise SettingsError(
                    f"--out {path.parent}: holds a measurement with another {differing[0]}; choose another folder"
                )

    def __enter__(self) -> TallyFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(self._whole or json.dumps(self.settings) + "\n", encoding="utf-8")
        unfinished.rename(self.path)
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *exc) -> None:
        self._file.close()

    def write(self, tallies: list[Tally]) -> None:
        for tally in tallies:
            self._file.write(json.dumps(asdict(tally)) + "\n")
            self.done[tally.id] = tally
        self._file.flush()
        os.fsync(self._file.fileno())
