"""What a worker says of itself goes into its log, `worker.log` in the site's state folder."""

from __future__ import annotations

import sys
from contextlib import suppress


def note(text: str) -> None:
    """Never an error: the log is often on the very disk whose being full is to be told."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
