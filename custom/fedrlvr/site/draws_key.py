"""A site's secret for its random draws, which makes them its own and still lets a run go on with the same draws."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from fedrlvr.protocol.refused import Refused

NAME = "draws.key"


def draws_key(folder: Path) -> str:
    """The key in the site's `state_dir`, made at the first call. Raises Refused for a file that holds none, and
    OSError."""
    path = folder / NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with open(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another job's process was faster, and its key counts
            os.link(unfinished, path)
        unfinished.unlink()
    key = path.read_text(encoding="ascii", errors="replace")
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise Refused(f"{NAME} in state_dir is damaged: restore it, or remove it and let running jobs end first")
    return key
