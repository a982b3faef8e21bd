"""A measurement's results on disk, problem by problem, so that an interrupted one can go on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from fedrlvr.learning.results import ProblemResult
from fedrlvr.settings_file import SettingsError


class ResultsFile:
    """Results by problem id, appended to a file whose first line says what was measured."""

    def __init__(self, path: Path, settings: dict):
        """Raises SettingsError where the file holds another measurement's results, or something else."""
        self.path, self.settings = path, settings
        self.done: dict[str, ProblemResult] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        # What comes after the last line end was cut off in the middle; its problem is measured again.
        self._whole = "".join(line + "\n" for line in lines[:-1])
        if self._whole:
            try:
                found, *rest = map(json.loads, lines[:-1])
                differing = [name for name, value in settings.items() if found.get(name) != value]
                self.done = {result.id: result for result in (ProblemResult(**values) for values in rest)}
            except (ValueError, TypeError, AttributeError):
                raise SettingsError(f"{path}: not a measurement's results; choose another folder") from None
            if differing:
                raise SettingsError(
                    f"--out {path.parent}: holds a measurement with another {differing[0]}; choose another folder"
                )

    def __enter__(self) -> ResultsFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(self._whole or json.dumps(self.settings) + "\n", encoding="utf-8")
        unfinished.rename(self.path)
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *exc) -> None:
        self._file.close()

    def write(self, results: list[ProblemResult]) -> None:
        for result in results:
            self._file.write(json.dumps(asdict(result)) + "\n")
            self.done[result.id] = result
        self._file.flush()
        os.fsync(self._file.fileno())
