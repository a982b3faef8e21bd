"""What a worker does right now, for the site's own people. No part of it is sent."""

import json
import logging
import os
from functools import partial
from pathlib import Path

LOGGER = logging.getLogger(__name__)
DOING = "doing.json"


class DoingFile:
    """`doing.json` in a site's state folder. `place` is what each record begins with, such as the round."""

    def __init__(self, folder: Path):
        self.path = folder / DOING
        self.place: dict = {}

    def write(self, doing: str, segment: int, step: int) -> None:
        """Replace the record; `step` counts from the segment's first. Where that fails it is said in the log and ends
        nothing."""
        unfinished, now = self.path.with_suffix(".new"), {"doing": doing, "segment": segment, "step": step}
        try:
            with open(unfinished, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
                json.dump(self.place | now, file)
            os.replace(unfinished, self.path)
        except OSError as error:
            LOGGER.warning("%s: %s", self.path, error)


def doing_in(folder: Path, run: str) -> str:
    """What the worker of this state folder told last in this run, in words; "" where it has not told."""
    try:
        told = json.loads((folder / DOING).read_text(encoding="utf-8"))
        return f"{told['doing']}, step {told['step'] + 1}" if told["run"] == run else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
